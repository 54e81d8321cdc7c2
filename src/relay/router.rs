//! The way of one message: Message → event → plan → deliveries.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use foldhash::HashMap;

use super::taps::Taps;
use crate::config::{Config, SourceConfig};
use crate::delivery::{Counted, Delivery, Inlet, Kept, Received, Stats, Throttle};
use crate::event::{DecodeOptions, Event, Message, Reason, SourceName};
use crate::rules::Rules;
use crate::source::{Intake, Receipt};
use crate::spool::{DeadLetter, Spool};

/// Makes each message the deliveries that the rules say.
pub(super) struct Router {
    /// None: the relay stops, and all that comes is dropped, so that it is redelivered to the next run.
    routing: ArcSwapOption<Routing>,
    spool: Arc<Spool>,
    stats: Arc<Stats>,
    taps: Arc<Taps>,
    dead: Throttle,
}

/// What of the configuration in force says where an event goes. Swapped whole, between two messages.
pub(super) struct Routing {
    decode_options: HashMap<SourceName, DecodeOptions>,
    rules: Arc<Rules>,
    /// In the order of the configuration.
    inlets: Vec<Inlet>,
    counted: Arc<Counted>,
}

impl Routing {
    /// What `config` says, whose sinks take deliveries by `inlets`.
    pub(super) fn new(config: &Config, inlets: Vec<Inlet>, counted: Arc<Counted>) -> Self {
        let options = |source: &SourceConfig| (source.name.clone(), source.decode_options.clone());
        Self {
            decode_options: config.sources.iter().map(options).collect(),
            rules: Arc::clone(&config.rules),
            inlets,
            counted,
        }
    }
}

impl Router {
    pub(super) fn new(spool: Arc<Spool>, stats: Arc<Stats>, taps: Arc<Taps>) -> Self {
        Self { routing: ArcSwapOption::empty(), spool, stats, taps, dead: Throttle::default() }
    }

    /// From the next message on.
    pub(super) fn swap(&self, routing: Option<Routing>) {
        self.routing.store(routing.map(Arc::new));
    }

    fn notice(&self, source: &SourceName, reason: Reason, detail: &str) {
        if let Some(left_out) = self.dead.pass() {
            tracing::warn!(%source, %reason, detail, left_out, "a message became a dead letter");
        }
    }
}

impl Intake for Router {
    /// Message → event → plan → deliveries, each with its share of the receipt.
    fn accept(&self, message: Message, receipt: Receipt) {
        let routing = self.routing.load();
        let Some(routing) = routing.as_ref() else { return };
        let Routing { decode_options, rules, inlets, counted } = &**routing;
        let (Some(options), Some(stats)) = (decode_options.get(&message.source), counted.source(&message.source))
        else {
            return;
        };
        let since = Instant::now();
        stats.count_received();
        self.taps.show(&message);
        let event = match Event::decode(&message, options) {
            Ok(event) => event,
            Err(invalid) => {
                self.notice(&message.source, invalid.reason, &invalid.detail);
                self.spool.store(DeadLetter::unreadable(*invalid, Arc::new(message)), receipt);
                return;
            }
        };
        stats.count_event(event.kind, &event.tenant, event.status);
        let plan = rules.plan(&event, &message);
        for route in &plan.matched {
            counted.count_route(*route);
        }
        for (route, error) in &plan.failed {
            counted.count_route_error(*route, error);
        }
        if plan.unrouted {
            self.stats.count_unrouted();
        }
        if let Some((reason, detail)) = plan.dead_letter_reason(rules) {
            self.notice(&message.source, reason, &detail);
            self.spool.store(DeadLetter::of_event(&event, Arc::new(message), reason, detail), receipt);
            return;
        }
        let received = Arc::new(Received { event, message: Arc::new(message) });
        for (sink, route) in &plan.deliveries {
            let Some(inlet) = inlets.get(sink.0) else { continue };
            let route = route.and_then(|route| rules.routes().get(route)).map(|route| route.name.clone());
            let kept = Kept::Message(receipt.share());
            let delivery = Delivery {
                received: Arc::clone(&received),
                route,
                kept,
                since,
                attempts: 0,
                refusals: 0,
                failure: None,
                in_flight: None,
            };
            // A dispatcher that is gone drops it: the message is abandoned, and taken anew.
            let _ = inlet.deliveries.send(delivery);
        }
        receipt.settle();
    }
}
