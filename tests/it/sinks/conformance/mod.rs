//! One suite for every kind of sink: the promises hold for each of them.
//!
//! A [`Destination`] is the other end of one sink: it can fail, hang and go away, and it lists the events that it has.
//! `promises` has each promise once and runs it for every destination.

mod amqp;
mod file;
mod kafka;
mod promises;
mod stdout;
mod webhook;

use serde_json::Value;

use crate::support::{Home, Regards, Response};

/// The operations that a test needs from a destination. Only tests whose operations need a private broker start one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Only [`fail_for_now`](Destination::fail_for_now) and rejections.
    Nothing,
    /// [`go_down`](Destination::go_down), [`hold`](Destination::hold) and their opposites.
    Outages,
}

/// The external system behind one sink.
pub trait Destination: Sized {
    /// Starts the destination so that it accepts events.
    async fn new(needs: Needs) -> Self;

    /// The sink's entry under `sinks:`, in flow style, with variables.
    fn sink(&self) -> &'static str;

    fn variables(&self) -> Vec<(&'static str, String)>;

    /// Every event that the destination holds now. Events with the same key are in order.
    async fn events(&mut self, home: &Home) -> Vec<Value>;

    /// From now on, the destination answers with an error that a later attempt may not get.
    async fn fail_for_now(&mut self, home: &Home);

    /// The destination accepts events again.
    async fn take_again(&mut self, home: &Home);

    /// The destination is unreachable until `come_back`.
    async fn go_down(&mut self, home: &Home);

    /// The destination is reachable again and still holds its events.
    async fn come_back(&mut self, home: &Home);

    /// The destination receives events and confirms none. A destination without this state goes down instead.
    async fn hold(&mut self, home: &Home) {
        self.go_down(home).await;
    }

    /// The destination confirms the events it received and accepts more.
    async fn release(&mut self, home: &Home) {
        self.come_back(home).await;
    }

    /// Whether the destination can withhold its answer, so that an attempt stays in flight and does not fail.
    const CAN_HOLD: bool = true;

    /// The highest number of attempts that may be in flight at once, for forty deliveries.
    const AT_ONCE: f64 = 40.0;

    /// An event that the destination always rejects, if there is one.
    fn refused(&self) -> Option<Response> {
        None
    }
}

/// A relay that sends one partner's responses only to this destination.
pub fn home(regards: &Regards, destination: &impl Destination, prefetch: usize) -> Home {
    let routes = format!(
        r#"
version: 1
sources: {{ regards: {{ amqp: {{ url: "${{REGARDS}}", queue: "${{QUEUE}}", prefetch: {prefetch} }}, expects: lta }} }}
sinks: {{ tested: {} }}
routes: [{{ name: all, to: tested }}]
unrouted: dead_letter
"#,
        destination.sink()
    );
    let home = Home::of(regards, &routes);
    destination.variables().iter().fold(home, |home, (name, value)| home.with(name, value))
}

/// Runs the complete suite for one destination.
macro_rules! keeps_the_promises {
    ($destination:ty) => {
        crate::sinks::conformance::keeps_the_promises!($destination:
            confirms_only_after_the_destination_has_it,
            retries_until_it_is_taken,
            refuses_what_is_never_taken,
            keeps_order_per_key_across_failures,
            survives_a_restart_of_the_destination,
            stops_cleanly_with_deliveries_in_flight,
            never_exceeds_its_bounds,
        );
    };
    ($destination:ty: $($promise:ident,)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                crate::sinks::conformance::promises::$promise::<$destination>().await;
            }
        )*
    };
}
use keeps_the_promises;
