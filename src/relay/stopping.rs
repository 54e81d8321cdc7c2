//! Tests that a relay whose spool fails can be stopped during a start and a reload.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::config::{Options, Strictness};
use crate::journal::Journal;

const PATIENCE: Duration = Duration::from_mins(1);

const ROUTES: &str = "version: 1
sources: { regards: { amqp: { url: amqp://127.0.0.1:1, queue: q } } }
sinks: { hook: { webhook: { url: http://127.0.0.1:1/ } } }
routes: [{ name: all, to: hook }]
unrouted: drop
delivery: { shutdown_grace: 1s }
";

fn config(directory: &Path, routes: &str) -> Config {
    let file = directory.join("routes.yaml");
    std::fs::write(&file, routes).unwrap();
    let options = Options::of_process(Strictness::Run, Some(directory.to_owned()));
    Config::load(&file, &options).map_err(|found| found.render(false)).unwrap().0
}

/// A relay with an open spool, and a connection to the spool's file, by which the test makes it fail.
struct Setup {
    relay: Relay,
    spool: Arc<Spool>,
    file: Connection,
    directory: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let relay = Relay::new(config(directory.path(), ROUTES));
        let spool = Arc::new(Spool::open(&relay.config.spool, &relay.config.dead_letters).unwrap());
        let file = Connection::open(spool.name()).unwrap();
        file.busy_timeout(PATIENCE).unwrap();
        Self { relay, spool, file, directory }
    }

    fn fail(&self) {
        self.file.execute_batch("ALTER TABLE deliveries RENAME TO gone").unwrap();
    }
}

/// Waits until the spool reports a problem.
async fn wait_for_problem(spool: &Spool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while spool.problem().is_none() {
        assert!(tokio::time::Instant::now() < until, "the spool reports no problem");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_start_that_waits_for_the_disk_can_be_stopped() {
    let setup = Setup::new();
    setup.fail();
    let Relay { config, handle, commands } = setup.relay;
    let stop = CancellationToken::new();
    let relaying = relay(config, &setup.spool, Journal::default(), &handle, commands, stop.clone());
    let stopping = async {
        wait_for_problem(&setup.spool).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(relaying, stopping) }).await.unwrap();
    ended.unwrap();
}

#[tokio::test]
async fn a_reload_that_waits_for_the_disk_can_be_stopped() {
    let setup = Setup::new();
    let (file, directory) = (&setup.file, &setup.directory);
    let Relay { config: first, handle, commands } = setup.relay;
    let stop = CancellationToken::new();
    let relaying = relay(first, &setup.spool, Journal::default(), &handle, commands, stop.clone());
    let reloading = async {
        while handle.config().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        file.execute_batch("ALTER TABLE deliveries RENAME TO gone").unwrap();
        let other = config(directory.path(), &ROUTES.replace("{ hook:", "{ other:").replace("to: hook", "to: other"));
        let stopping = async {
            wait_for_problem(&setup.spool).await;
            stop.cancel();
        };
        tokio::join!(handle.reload(other), stopping).0
    };
    let (ended, reloaded) =
        Box::pin(tokio::time::timeout(PATIENCE, async { tokio::join!(relaying, reloading) })).await.unwrap();
    ended.unwrap();
    assert_eq!(reloaded, Err("the relay stops".to_owned()));
}
