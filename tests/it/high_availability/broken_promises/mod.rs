//! The promises of lease and fence: nobody writes to another owner's spool, the outcome of a commit without an answer is looked up, and a
//! taker waits for the attempts of the owner before. Failpoints show that the tests would notice a relay that breaks one.

mod commits;
mod fence;
mod lease;

use regards_relay::failpoints::{Failpoint, VARIABLE};

use super::{Pair, ROUTES, address};
use crate::support::{Answer, Home, Proxy, Relay, Response, Services, until};

fn start(home: &Home, failpoint: Option<Failpoint>) -> Relay<'_> {
    match failpoint {
        Some(failpoint) => home.start_with(VARIABLE, failpoint.name()),
        None => home.start(),
    }
}

fn is_without_failpoints() -> bool {
    if !cfg!(debug_assertions) {
        println!("a release build has no failpoints");
    }
    !cfg!(debug_assertions)
}

impl Pair {
    /// With a proxy before the database, which sees what the relays send.
    pub(super) async fn behind_proxy(lease: &str) -> (Self, Proxy) {
        let services = Services::shared();
        let proxy = Proxy::to(services.postgres_port()).await;
        let pair = Self::with(&services, &address(&services, proxy.port(), "sslmode=disable"), lease).await;
        (pair, proxy)
    }

    /// Gives the spool to an owner that does not run, as if that one had taken it from the last one. Its lease is over after the interval.
    /// Returns when that is, in milliseconds since 1970.
    async fn give_to_another(&self, interval: &str) -> i64 {
        // A taker waits for a transaction of the last owner likewise.
        self.number(&format!(
            "WITH locked AS (SELECT shard FROM $.shards FOR UPDATE) \
             UPDATE $.shards SET owner = -1, epoch = epoch + 1, clean = false, \
             expires_at = clock_timestamp() + interval '{interval}' FROM locked WHERE shards.shard = locked.shard \
             RETURNING (extract(epoch FROM expires_at) * 1000)::bigint"
        ))
        .await
    }

    async fn deliveries_of_broken(&self) -> i64 {
        self.number("SELECT count(DISTINCT event_id) FROM $.deliveries WHERE sink = 'broken'").await
    }

    /// The home of the first relay, so that the pair can be changed while that runs.
    fn take_first(&mut self) -> Home {
        std::mem::replace(&mut self.homes[0], Home::new(ROUTES))
    }

    /// Makes a dead letter of the broken sink, which then accepts everything.
    async fn make_dead_letter(&mut self, home: &Home) {
        self.broken.answers(|_| Answer::Status(400));
        self.broken.come_back().await;
        self.regards.publish(&Response::new("t", "refused", "GRANTED")).await;
        until("a dead letter", async || match home.dead_letters().len() {
            1 => Ok(()),
            found => Err(found.to_string()),
        })
        .await;
        self.broken.answers(|_| Answer::Status(200));
    }
}
