//! `send-test`: one test event through a sink of its own, beside a running relay or without one.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use serde::Serialize;

use super::{Global, InvalidInput, explain, load_briefly, note, trace, write_json};
use crate::config::{Config, SinkKind, Strictness};
use crate::journal::Destination;
use crate::relay::{TEST_TIMEOUT, TestEvent, TestRequest, TestResult};
use crate::sink::{Blame, MaskedDelivery, MaskedDestination, RenderedDelivery, Verdict};
use crate::telemetry::printable;
use crate::trace::TracedDestination;

/// After this time the user is told what the command waits for.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Sink to test
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// Route that leads to the sink: its transform is applied [default: the sink's own format]
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Tenant of the event [default: one that a route to the sink matches, else `test`]
    #[arg(long)]
    tenant: Option<String>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What was sent and how it ended, as `--json` prints it. Users rely on these keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TestReport<'t> {
    sink: &'t str,
    kind: &'t str,
    route: Option<&'t str>,
    /// The id of the event, which the destination gets in a header.
    id: String,
    tenant: &'t str,
    correlation_id: &'t str,
    /// `delivered`, `failed`, `refused`, or `not_rendered`: nothing was sent.
    state: &'static str,
    /// Seconds from opening the sink to the answer.
    duration: Option<f64>,
    error: Option<String>,
    /// Where the destination has the event, as in `trace`.
    to: Option<TracedDestination>,
    #[serde(flatten)]
    sent: Option<&'t MaskedDelivery>,
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match load_briefly(&global.config, global, Strictness::Run) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let request =
        TestRequest { sink: &arguments.sink, route: arguments.route.as_deref(), tenant: arguments.tenant.as_deref() };
    let test = TestEvent::new(&config, request).map_err(|error| InvalidInput(error.to_string()))?;
    require_own_files(&config, &test)?;
    let mut out = std::io::stdout().lock();
    let mut report = TestReport {
        sink: test.sink.name.as_str(),
        kind: test.sink.kind.as_str(),
        route: test.route.map(|route| route.name.as_str()),
        id: test.event.id.to_string(),
        tenant: &test.event.tenant,
        correlation_id: &test.event.correlation_id,
        state: "not_rendered",
        duration: None,
        error: None,
        to: None,
        sent: None,
    };
    let outgoing = match test.render() {
        Ok(outgoing) => outgoing,
        Err(error) => {
            report.error = Some(test.sink.masks.apply(&error.to_string()));
            return end(&report, rendering_advice(&config, &test), arguments.json, &mut out);
        }
    };
    let sent = test.masked(&outgoing);
    report.sent = Some(&sent);
    if !arguments.json {
        let by = report.route.map_or_else(|| "in its own format".to_owned(), |route| format!("by the route {route}"));
        writeln!(out, "{} ({}), {by}", report.sink, report.kind)?;
        explain::rendered(&sent, &mut out)?;
        out.flush()?;
    }
    let result = send(&test, outgoing)?;
    if let Err(error) = test.record(config.journal.as_ref(), &result) {
        note(&format!("the test is not recorded: {error}"));
    }
    let TestResult { verdict, took } = result;
    report.duration = Some(f64::round(took.as_secs_f64() * 1_000.0) / 1_000.0);
    let advice = delivery_advice(&verdict, &sent.destination, &test);
    (report.state, report.error) = match verdict {
        Verdict::Delivered(confirmation) => {
            report.to = Some(Destination::from(&confirmation).into());
            ("delivered", None)
        }
        Verdict::Retry { cause, .. } => ("failed", Some(cause)),
        Verdict::Refused { cause } => ("refused", Some(cause)),
        Verdict::Unfit { detail } => ("failed", Some(detail)),
    };
    end(&report, advice, arguments.json, &mut out)
}

fn send(test: &TestEvent<'_>, outgoing: RenderedDelivery) -> anyhow::Result<TestResult> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let result = runtime.block_on(async {
        let mut sending = std::pin::pin!(test.send(outgoing));
        if let Ok(result) = tokio::time::timeout(PATIENCE, &mut sending).await {
            return result;
        }
        note(&format!("waiting for the answer, {} s at most", TEST_TIMEOUT.as_secs()));
        sending.await
    });
    // A lookup that hangs in the resolver must not delay the exit.
    runtime.shutdown_background();
    Ok(result)
}

/// Says how the test ended, by text and by the exit code.
fn end(report: &TestReport<'_>, advice: Option<String>, json: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if json {
        write_json(report, out)?;
    } else if report.error.is_none() {
        let to = report.to.as_ref().map(trace::destination).unwrap_or_default();
        writeln!(out, "\ndelivered in {}: {}", trace::duration(report.duration.unwrap_or_default()), printable(&to))?;
    }
    out.flush()?;
    let Some(error) = &report.error else { return Ok(ExitCode::SUCCESS) };
    let what = match report.state {
        "refused" => "refused the test event",
        "not_rendered" => "can't send the test event",
        _ => "did not take the test event",
    };
    let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
    Err(anyhow!("the sink {} {what}: {}{advice}", report.sink, printable(error)))
}

/// Where the event has too little for the sink's templates.
fn rendering_advice(config: &Config, test: &TestEvent<'_>) -> Option<String> {
    let leads = |route: &&crate::rules::Route| {
        route.to.iter().any(|index| config.sinks.get(index.0).is_some_and(|sink| sink.name == test.sink.name))
    };
    let mut routes = config.rules.routes().iter().filter(leads).filter(|route| route.transform.is_some());
    let route = routes.next().filter(|_| test.route.is_none())?;
    Some(format!("a route may set what its templates need: try `--route {}`", route.name))
}

/// Where another tenant has another destination.
fn delivery_advice(verdict: &Verdict, destination: &MaskedDestination, test: &TestEvent<'_>) -> Option<String> {
    let is_destination = matches!(verdict, Verdict::Retry { blame: Blame::Delivery, .. });
    let tenant = &*test.event.tenant;
    (is_destination && has_tenant(destination, tenant))
        .then(|| format!("the test was for the tenant {tenant}: `--tenant` names another"))
}

/// Whether the address has the tenant in it. A Kafka key is no part of the address.
fn has_tenant(destination: &MaskedDestination, tenant: &str) -> bool {
    match destination {
        MaskedDestination::Kafka { topic: address, .. }
        | MaskedDestination::Webhook { url: address }
        | MaskedDestination::Amqp { routing_key: address, .. }
        | MaskedDestination::File { path: address } => address.contains(tenant),
        MaskedDestination::Stdout {} => false,
    }
}

/// A file that this command creates belongs to the user who runs it. The relay, as another user, could not write to it.
fn require_own_files(config: &Config, test: &TestEvent<'_>) -> anyhow::Result<()> {
    let SinkKind::File(_) = &test.sink.kind else { return Ok(()) };
    let user = rustix::process::geteuid().as_raw();
    let Some(owner) = config.spool.store.file().and_then(|spool| other_owner(spool, user)) else { return Ok(()) };
    Err(anyhow!(
        "the files of the sink {} belong to the user {owner}, who runs the relay; as user {user} this command would create files that \
         the relay can't write to: run it as that user, as in `sudo -u '#{owner}' regards-relay send-test …`",
        test.sink.name
    ))
}

/// The owner of the spool, if it exists and belongs to another user.
fn other_owner(spool: &Path, user: u32) -> Option<u32> {
    std::fs::metadata(spool).ok().map(|spool| spool.uid()).filter(|owner| *owner != user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_tenant_is_advised_only_where_it_has_another_address() {
        let to = |topic: &str| MaskedDestination::Kafka {
            topic: topic.to_owned(),
            key: Some("regards-relay-test-1".to_owned()),
            timestamp: None,
        };
        assert!(has_tenant(&to("regards.test"), "test"));
        assert!(!has_tenant(&to("regards"), "test"), "the key of a test has this word");
    }

    #[test]
    fn a_spool_of_another_user_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool.db");
        assert_eq!(other_owner(&spool, 0), None, "no relay has run");
        std::fs::write(&spool, "").unwrap();
        let owner = std::fs::metadata(&spool).unwrap().uid();
        assert_eq!(other_owner(&spool, owner), None);
        assert_eq!(other_owner(&spool, owner + 1), Some(owner));
    }
}
