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

/// What a test wants to do to a destination: where that needs a broker of its own, only such tests pay for one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Only [`fail_for_now`](Destination::fail_for_now) and refusals.
    Nothing,
    /// [`go_down`](Destination::go_down), [`hold`](Destination::hold) and back.
    Outages,
}

/// The outside of one sink.
pub trait Destination: Sized {
    /// Ready to take events.
    async fn new(needs: Needs) -> Self;

    /// The sink's entry under `sinks:`, in flow style, with variables.
    fn sink(&self) -> &'static str;

    /// The variables of [`sink`](Self::sink).
    fn variables(&self) -> Vec<(&'static str, String)>;

    /// Every event it holds now, in an order that holds for each key.
    async fn events(&mut self, home: &Home) -> Vec<Value>;

    /// From now on it answers that it can't, in a way that another attempt may mend.
    async fn fail_for_now(&mut self, home: &Home);

    /// It takes events again.
    async fn take_again(&mut self, home: &Home);

    /// It can't be reached at all.
    async fn go_down(&mut self, home: &Home);

    /// It is there again, with what it held.
    async fn come_back(&mut self, home: &Home);

    /// It is sent events and confirms none. Where there is no such state, it is down.
    async fn hold(&mut self, home: &Home) {
        self.go_down(home).await;
    }

    /// It confirms what it was sent, and takes more.
    async fn release(&mut self, home: &Home) {
        self.come_back(home).await;
    }

    /// It can keep silent while it is being sent to: an attempt is then in flight, and not failed.
    const CAN_HOLD: bool = true;

    /// The most attempts that may be in flight at once, of forty deliveries.
    const AT_ONCE: f64 = 40.0;

    /// An event that it will never take, if there is such.
    fn refused(&self) -> Option<Response> {
        None
    }
}

/// A relay of one partner's responses into this destination and nowhere else.
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

/// The whole suite for one destination.
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
