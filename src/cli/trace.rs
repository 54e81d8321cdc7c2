//! `trace`: what became of a request, from its first message to each destination.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use jiff::tz::TimeZone;

use super::target::Target;
use super::{Global, note};
use crate::clock::WallTime;
use crate::event::Outcome;
use crate::telemetry::printable;
use crate::trace::{
    DeliveryState, MAX_REQUESTS, Query, Request, Trace, TracedAlert, TracedAlertState, TracedDelivery,
    TracedDestination, TracedEvent, trace,
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A correlation id, a product id, or the id of an event
    id: String,
    /// Only requests of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Show times in UTC instead of local time
    #[arg(long)]
    utc: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let target = Target::find(global)?;
    let query = Query { id: arguments.id.clone(), tenant: arguments.tenant.clone() };
    let found = trace(target.config.as_ref(), &target.journal(), &target.spool, &query)?;
    let clock = Clock { zone: if arguments.utc { TimeZone::UTC } else { TimeZone::system() } };
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        super::write_json(&found, &mut out)?;
    } else {
        for (number, request) in found.requests.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            clock.print_request(request, &mut out)?;
        }
    }
    out.flush()?;
    if found.has_more {
        note(&format!("{MAX_REQUESTS} requests are shown, the newest; there are more: name one by its correlation id"));
    }
    if found.requests.is_empty() {
        note(&clock.unknown(&query, &found));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints times by the clock of a time zone.
struct Clock {
    zone: TimeZone,
}

impl Clock {
    fn unknown(&self, query: &Query, found: &Trace) -> String {
        let tenant = query.tenant.as_deref().map(|tenant| format!(" of tenant {tenant}")).unwrap_or_default();
        let since = found.recorded_since.map_or_else(
            || "nothing is recorded yet".to_owned(),
            |since| format!("the journal begins at {}", self.time(since)),
        );
        printable(&format!("no event of {}{tenant} is recorded; {since}", query.id)).into_owned()
    }

    fn print_request(&self, request: &Request, out: &mut impl Write) -> io::Result<()> {
        let product = request.product_id.as_deref().map(|product| format!(", product {product}")).unwrap_or_default();
        let head = match request.tenant.as_str() {
            // An alert that is about no request.
            "" => format!("alert {}", request.correlation_id),
            tenant => format!("request {} of tenant {tenant}{product}", request.correlation_id),
        };
        writeln!(out, "{}", printable(&head))?;
        for event in &request.events {
            self.print_event(event, out)?;
        }
        for TracedAlert { name, state, at } in &request.alerts {
            let at = self.time(*at);
            let line = match state {
                TracedAlertState::Open => format!("  {at}  overdue then, unless it ends before (alert {name})"),
                TracedAlertState::Overdue => format!("  {at}  overdue since then (alert {name})"),
            };
            writeln!(out, "{}", printable(&line))?;
        }
        Ok(())
    }

    fn print_event(&self, event: &TracedEvent, out: &mut impl Write) -> io::Result<()> {
        let redelivered = match (event.redelivered, event.is_test) {
            (_, true) => ", a test",
            (true, false) => ", redelivered",
            (false, false) => "",
        };
        let (time, status, outcome) = (self.time(event.received_at), &event.status, &event.outcome);
        let head = format!("  {time}  {status} ({outcome}) from {}{redelivered}, event {}", event.source, event.id);
        writeln!(out, "{}", printable(&head))?;
        if let Some(message) = &event.message {
            writeln!(out, "      message: {}", printable(message))?;
        }
        match event.routes.as_slice() {
            // An alert goes to its sinks by no route.
            [] if event.outcome == Outcome::Alert.as_str() => {}
            [] => writeln!(out, "      no route matched")?,
            [route] => writeln!(out, "      route {}", printable(route))?,
            routes => writeln!(out, "      routes {}", printable(&routes.join(", ")))?,
        }
        let width = event.deliveries.iter().map(|delivery| name(delivery).chars().count()).max().unwrap_or(0);
        for delivery in &event.deliveries {
            let line = format!("      {:width$}  {}", name(delivery), self.delivery(event, delivery));
            writeln!(out, "{}", printable(&line))?;
        }
        Ok(())
    }

    fn delivery(&self, event: &TracedEvent, delivery: &TracedDelivery) -> String {
        let attempts = match delivery.attempts {
            1 => "1 attempt".to_owned(),
            attempts => format!("{attempts} attempts"),
        };
        let near = |time| self.time_near(time, event.received_at);
        let at = delivery.at.map(|at| format!(" at {}", near(at))).unwrap_or_default();
        let error = delivery.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let replayed = if delivery.replayed { ", replayed" } else { "" };
        match delivery.state {
            DeliveryState::Delivered => {
                let duration =
                    delivery.duration.map(|seconds| format!(" after {}", duration(seconds))).unwrap_or_default();
                let to = delivery.to.as_ref().map(destination).unwrap_or_default();
                let before = delivery.last_error.as_ref().map(|error| format!("; before that: {error}"));
                format!("delivered{at}{duration}, {attempts}{replayed}: {to}{}", before.unwrap_or_default())
            }
            DeliveryState::Waiting => {
                let since = near(event.received_at);
                let next = match (delivery.next_attempt, &delivery.trouble) {
                    (Some(next), _) => format!("next attempt at {}", near(next)),
                    (None, Some(trouble)) => format!("no attempt until the sink is resumed ({trouble})"),
                    (None, None) => "behind an earlier delivery of its key".to_owned(),
                };
                format!("waiting since {since}, {attempts}{replayed}, {next}{error}")
            }
            DeliveryState::DeadLetter => {
                let number = delivery.dead_letter.unwrap_or_default();
                let gone = if delivery.is_stored { "" } else { " (redriven or purged since then)" };
                format!("dead letter {number}{gone}{at}, {attempts}{replayed}{error}")
            }
            DeliveryState::Failed => format!("not taken{at}{error}"),
            DeliveryState::Dropped => {
                format!("dropped{at}: the spool was full, and the sink has `when_full: drop_newest`")
            }
            DeliveryState::Unknown => {
                "not recorded: in flight, or its record was lost when the relay was killed".to_owned()
            }
        }
    }

    fn time(&self, time: WallTime) -> String {
        self.zoned(time)
            .map_or_else(|| time.to_rfc3339(), |time| time.strftime("%Y-%m-%d %H:%M:%S%.3f %:z").to_string())
    }

    /// Without the date if that is the date of `other`, which is shown before.
    fn time_near(&self, time: WallTime, other: WallTime) -> String {
        match (self.zoned(time), self.zoned(other)) {
            (Some(zoned), Some(other)) if zoned.date() == other.date() => zoned.strftime("%H:%M:%S%.3f").to_string(),
            _ => self.time(time),
        }
    }

    fn zoned(&self, time: WallTime) -> Option<jiff::Zoned> {
        Some(jiff::Timestamp::from_millisecond(time.0).ok()?.to_zoned(self.zone.clone()))
    }
}

/// The sink, or what stands in its place.
fn name(delivery: &TracedDelivery) -> &str {
    delivery.sink.as_deref().unwrap_or("(no sink)")
}

pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 1.0 => format!("{:.0} ms", seconds * 1_000.0),
        _ if seconds < 120.0 => format!("{seconds:.1} s"),
        _ if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

pub(super) fn destination(to: &TracedDestination) -> String {
    match to {
        TracedDestination::Kafka { topic, partition, offset } => {
            format!("topic {topic}, partition {partition}, offset {offset}")
        }
        TracedDestination::Webhook { url, status } => format!("{url} answered {status}"),
        TracedDestination::Amqp { exchange, routing_key } => format!("exchange {exchange}, routing key {routing_key}"),
        TracedDestination::File { path, offset } => format!("{path}, at byte {offset}"),
        TracedDestination::Stdout {} => "standard output".to_owned(),
    }
}
