//! `spool --sink` and `spool --correlation-id`: single spooled deliveries.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::note;
use crate::cli::table::{Table, cell};
use crate::cli::target::Target;
use crate::clock::{MonotonicTime, WallTime};
use crate::delivery::{Payload, PersistedState};
use crate::spool::{BacklogSummary, DeliveryFilter, ListedDelivery, SpoolError, SpooledDelivery};

const DEFAULT_LIMIT: usize = 100;

#[derive(Debug, Default, clap::Args)]
pub(in crate::cli) struct DeliveryArguments {
    /// List the spooled deliveries of this sink, in order
    #[arg(long)]
    sink: Option<String>,
    /// List the spooled deliveries of the request with this correlation id
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// List at most this many
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT)]
    limit: usize,
}

/// Users rely on these keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct DeliveryJson {
    sink: Option<String>,
    tenant: Option<String>,
    status: Option<String>,
    pub(in crate::cli) correlation_id: Option<String>,
    event_id: Option<String>,
    route: Option<String>,
    received_at: Option<String>,
    attempts: Option<u32>,
    /// RFC 3339; `None` if an earlier delivery has the same key, or if the sink is paused until somebody resumes it.
    next_attempt: Option<String>,
    /// The error of the last attempt, or what is wrong with the row.
    last_error: Option<String>,
}

const HEADS: [&str; 8] =
    ["SINK", "CORRELATION ID", "TENANT", "STATUS", "RECEIVED", "ATTEMPTS", "NEXT ATTEMPT", "LAST ERROR"];

impl DeliveryArguments {
    /// The deliveries of one request for all sinks.
    pub(in crate::cli) fn of_request(correlation_id: &str) -> Self {
        Self { sink: None, correlation_id: Some(correlation_id.to_owned()), limit: DEFAULT_LIMIT }
    }

    pub(super) fn is_given(&self) -> bool {
        self.sink.is_some() || self.correlation_id.is_some()
    }

    pub(super) fn print(&self, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
        let sinks = target.spool.backlogs()?;
        if let Some(sink) = &self.sink {
            super::require_sink(target, &sinks, sink)?;
        }
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut table = Table::new(HEADS);
        let mut count = 0;
        let more = self.list(target, &sinks, |line| -> anyhow::Result<()> {
            count += 1;
            if json {
                crate::cli::write_json(&line, &mut out)?;
            } else {
                table.row(line.cells(), &mut out)?;
            }
            Ok(())
        })?;
        table.finish(&mut out)?;
        out.flush()?;
        let line = match count {
            0 if !json => format!("no such spooled delivery in {}", target.spool),
            _ if more => format!("there are more than these {count}; `--limit N` lists more"),
            _ => return Ok(ExitCode::SUCCESS),
        };
        note(&line);
        Ok(ExitCode::SUCCESS)
    }

    /// True if there are more deliveries than the limit.
    pub(in crate::cli) fn list(
        &self,
        target: &Target,
        sinks: &[BacklogSummary],
        mut each: impl FnMut(DeliveryJson) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let filter = DeliveryFilter { shard: None, sink: self.sink.clone(), may_contain: self.correlation_id.clone() };
        let (mut left, mut ended) = (self.limit, Ok(false));
        target
            .spool
            .list_deliveries(&filter, |listed| {
                let line = DeliveryJson::of(listed, sinks);
                if self.correlation_id.is_some() && line.correlation_id != self.correlation_id {
                    return ControlFlow::Continue(());
                }
                if left == 0 {
                    ended = Ok(true);
                    return ControlFlow::Break(());
                }
                left -= 1;
                match each(line) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        ended = Err(error);
                        ControlFlow::Break(())
                    }
                }
            })
            .map_err(|error: SpoolError| error)?;
        ended
    }
}

impl DeliveryJson {
    fn of(listed: ListedDelivery, sinks: &[BacklogSummary]) -> Self {
        match listed.delivery {
            Ok(delivery) => Self::of_delivery(&delivery, listed.due, sinks),
            Err(error) => Self {
                sink: None,
                tenant: None,
                status: None,
                correlation_id: None,
                event_id: None,
                route: None,
                received_at: None,
                attempts: None,
                next_attempt: None,
                last_error: Some(format!("row {} of the spool can't be read: {error}", listed.id.number())),
            },
        }
    }

    fn of_delivery(delivery: &SpooledDelivery, due: Option<MonotonicTime>, sinks: &[BacklogSummary]) -> Self {
        let sink = sinks.iter().find(|backlog| backlog.sink == delivery.sink.as_str());
        let state = PersistedState::parse(sink.and_then(|backlog| backlog.state.as_deref()));
        let next = due.zip(state.not_before()).map(|(due, not_before)| due.max(not_before));
        let next = next.zip(sink).map(|(next, sink)| sink.to_wall(next));
        let payload = Payload::from_spool(delivery).ok();
        let event = payload.as_ref().map(Payload::event);
        Self {
            sink: Some(delivery.sink.to_string()),
            tenant: Some(delivery.tenant.to_string()),
            status: event.map(|event| event.status.to_string()),
            correlation_id: event.map(|event| event.correlation_id.clone()),
            event_id: Some(delivery.event_id.to_string()),
            route: delivery.route.as_ref().map(ToString::to_string),
            received_at: Some(delivery.received.wall.to_rfc3339()),
            attempts: Some(delivery.attempts),
            next_attempt: next.map(WallTime::to_rfc3339),
            last_error: delivery.last_error.clone(),
        }
    }

    fn cells(&self) -> [String; HEADS.len()] {
        [
            cell(self.sink.as_deref()),
            cell(self.correlation_id.as_deref()),
            cell(self.tenant.as_deref()),
            cell(self.status.as_deref()),
            cell(self.received_at.as_deref()),
            cell(self.attempts.map(|attempts| attempts.to_string()).as_deref()),
            cell(self.next_attempt.as_deref()),
            cell(self.last_error.as_deref()),
        ]
    }

    /// As a sentence without a full stop.
    pub(in crate::cli) fn sentence(&self) -> String {
        let mut text = format!(
            "{} has a spooled delivery for sink {}, received at {}, after {} attempts",
            self.correlation_id.as_deref().unwrap_or_default(),
            self.sink.as_deref().unwrap_or_default(),
            self.received_at.as_deref().unwrap_or_default(),
            self.attempts.unwrap_or(0),
        );
        if let Some(error) = &self.last_error {
            text.push_str("; last error: ");
            text.push_str(error);
        }
        text
    }
}
