//! The file sink, with a directory that cannot be created because a file has its name.

use serde_json::Value;

use super::{Destination, Needs, keeps_the_promises};
use crate::support::{Home, lines_of};

pub struct File;

impl Destination for File {
    async fn new(_needs: Needs) -> Self {
        Self
    }

    fn sink(&self) -> &'static str {
        r#"{ file: { path: "archive/{{ tenant }}.ndjson" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }"#
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    async fn events(&mut self, home: &Home) -> Vec<Value> {
        if home.data("archive").is_dir() { lines_of(home.data("archive/t.ndjson")) } else { Vec::new() }
    }

    async fn fail_for_now(&mut self, home: &Home) {
        self.go_down(home).await;
    }

    async fn take_again(&mut self, home: &Home) {
        self.come_back(home).await;
    }

    async fn go_down(&mut self, home: &Home) {
        let (archive, away) = (home.data("archive"), home.data("archive.away"));
        if archive.is_dir() {
            std::fs::rename(&archive, &away).expect("moved away");
        }
        std::fs::create_dir_all(home.data("")).expect("the data directory");
        std::fs::write(&archive, "").expect("in its place");
    }

    async fn come_back(&mut self, home: &Home) {
        let (archive, away) = (home.data("archive"), home.data("archive.away"));
        std::fs::remove_file(&archive).expect("removed");
        if away.is_dir() {
            std::fs::rename(&away, &archive).expect("moved back");
        }
    }

    const CAN_HOLD: bool = false;
}

// A file sink accepts every event while the disk has room, so it has no permanent rejection to test.
keeps_the_promises!(File:
    confirms_only_after_the_destination_has_it,
    retries_until_it_is_taken,
    keeps_order_per_key_across_failures,
    survives_a_restart_of_the_destination,
    stops_cleanly_with_deliveries_in_flight,
    never_exceeds_its_bounds,
);
