//! A test delivery: one event, made for it, through a sink that is opened for it alone. It shows whether the destination accepts
//! the login and the rights of the sink, and what an event looks like there.
//!
//! It works beside a running relay and without one: neither the spool nor the statistics know of it. The journal has a record
//! of it, marked as a test, which is never replayed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::unbounded_channel;

use crate::clock::{self, WallTime};
use crate::config::{Config, JournalConfig, SinkConfig, SourceConfig, unknown_name};
use crate::event::{
    DeadLetterInfo, Event, EventView, Family, HeaderValue, Message, OptionalField, Properties, Reason, TENANT_HEADER,
    Transform,
};
use crate::journal::{DeliveryEnd, DeliveryRecord, JournalError, record_test};
use crate::rules::{Field, Glob, Route, RouteName, SinkIndex};
use crate::sink::{Attempt, AttemptId, Blame, MaskedDelivery, RenderError, RenderedDelivery, Sink, Verdict};
use crate::timer::scaled;

/// The time limit of a test, longer than Kafka's own limit for a record (30 s).
pub const TEST_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the sink may take to close after the attempt has ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a sink waits for an attempt in flight when it closes. There is none, unless the test has timed out.
const CLOSE_GRACE: Duration = Duration::from_millis(100);

/// The product and the session of the event, and the beginning of its correlation id.
const NAME: &str = "regards-relay-test";
const MESSAGE: &str = "test event of regards-relay: no action is needed";
/// The tenant where neither the caller nor the configuration names one.
const TENANT: &str = "test";
/// The header that names the Java class of a response.
const CLASS_HEADER: &str = "regards.type";

/// What a test is asked to send.
#[derive(Debug, Clone, Copy)]
pub struct TestRequest<'r> {
    pub sink: &'r str,
    /// The route whose transform is applied; none: the event is rendered without a transform.
    pub route: Option<&'r str>,
    /// None: a tenant that the routes to the sink match.
    pub tenant: Option<&'r str>,
}

/// The request names something that the configuration does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTest(String);

/// A test event for one sink. Its `extra` has the member `test`.
#[derive(Debug)]
pub struct TestEvent<'c> {
    pub sink: &'c SinkConfig,
    pub route: Option<&'c Route>,
    pub event: Event,
    message: Message,
    /// The sink gets copies of dead letters only, and so does the test.
    is_dead_letter_copy: bool,
    relay: &'c str,
}

/// How the attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    pub verdict: Verdict,
    pub took: Duration,
}

impl<'c> TestEvent<'c> {
    pub fn new(config: &'c Config, request: TestRequest<'_>) -> Result<Self, InvalidTest> {
        let (index, sink) = find_sink(config, request.sink)?;
        let leading: Vec<_> = config.rules.routes().iter().filter(|route| route.to.contains(&index)).collect();
        let route = request.route.map(|name| find_route(config, sink, &leading, name)).transpose()?;
        let candidates = route.map_or_else(|| leading.clone(), |route| vec![route]);
        let (message, event) = response(config, &candidates, request.tenant)?;
        let is_dead_letter_copy = config.dead_letters.to.as_ref() == Some(&sink.name);
        let test = Self { sink, route, event, message, is_dead_letter_copy, relay: &config.name };
        Ok(if is_dead_letter_copy { test.into_dead_letter_copy() } else { test })
    }

    /// As a dead letter that this sink gets a copy of.
    fn into_dead_letter_copy(self) -> Self {
        let info = DeadLetterInfo {
            number: 0,
            reason: Reason::Refused,
            detail: MESSAGE,
            sink: Some(self.sink.name.as_str()),
            attempts: 1,
            at: WallTime::now().to_rfc3339(),
        };
        let message = self.message.with_dead_letter_headers(&info);
        let event = Event::of_dead_letter(&message, &self.event.tenant, self.event.id);
        Self { event, message, ..self }
    }

    /// What the sink will send: the event as any other, with the header `regards-relay-test`.
    pub fn render(&self) -> Result<RenderedDelivery, RenderError> {
        let (view, transform) = self.view();
        let mut rendered = crate::sink::render(self.sink, view, transform)?;
        rendered.mark_as_test();
        Ok(rendered)
    }

    /// `outgoing` for people, without secrets.
    #[must_use]
    pub fn masked(&self, outgoing: &RenderedDelivery) -> MaskedDelivery {
        outgoing.masked_with(self.sink, crate::sink::value(self.sink, &[self.view()]).as_deref(), None)
    }

    fn view(&self) -> (EventView<'_>, Option<&Transform>) {
        let view = if self.is_dead_letter_copy {
            EventView::of_dead_letter_copy(&self.event, &self.message)
        } else {
            EventView::of(&self.event, &self.message)
        };
        (view, self.route.and_then(|route| route.transform.as_ref()))
    }

    /// Opens the sink, sends `outgoing` once, and closes the sink. Takes at most [`TEST_TIMEOUT`], and the time to close.
    pub async fn send(&self, outgoing: RenderedDelivery) -> TestResult {
        let (began, limit) = (Instant::now(), scaled(TEST_TIMEOUT));
        let attempt = async {
            let sink = match Sink::open(self.sink, self.relay).await {
                Ok(sink) => sink,
                Err(error) => return (None, failed(error.detail, Blame::Sink)),
            };
            let (to, mut ends) = unbounded_channel();
            sink.attempt(outgoing, Attempt::new(AttemptId(1), to));
            let ended = tokio::time::timeout(limit.saturating_sub(began.elapsed()), ends.recv()).await;
            let verdict = ended.ok().flatten().map_or_else(|| no_answer(limit), |(_, verdict)| verdict);
            (Some(sink), verdict)
        };
        let ended = tokio::time::timeout(limit, attempt).await;
        let (sink, verdict) = ended.unwrap_or_else(|_| (None, no_answer(limit)));
        let took = began.elapsed();
        if let Some(sink) = sink {
            sink.cancel_unsent();
            // The verdict stands, whether the connection is closed properly or not.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, sink.close(CLOSE_GRACE)).await;
        }
        TestResult { verdict, took }
    }
}

impl TestEvent<'_> {
    /// Records the event and its end in the journal. Without a journal it does nothing.
    pub fn record(&self, journal: Option<&JournalConfig>, result: &TestResult) -> Result<(), JournalError> {
        let Some(journal) = journal.filter(|_| !self.is_dead_letter_copy) else { return Ok(()) };
        let end = match &result.verdict {
            Verdict::Delivered(confirmation) => DeliveryEnd::Delivered(confirmation.into()),
            Verdict::Retry { cause, .. } | Verdict::Refused { cause } | Verdict::Unfit { detail: cause } => {
                DeliveryEnd::Failed { error: cause }
            }
        };
        let delivery = DeliveryRecord {
            event: self.event.id.into_bytes(),
            sink: Some(self.sink.name.as_str()),
            attempts: 1,
            at: WallTime::now().0,
            replayed: false,
            duration: u64::try_from(result.took.as_millis()).ok(),
            last_error: None,
            end,
        };
        record_test(journal, &self.event, &self.message, &delivery)
    }
}

fn failed(cause: String, blame: Blame) -> Verdict {
    Verdict::Retry { after: None, cause, blame }
}

fn no_answer(limit: Duration) -> Verdict {
    failed(format!("no answer within {} s; the event may still arrive", limit.as_secs()), Blame::Sink)
}

fn find_sink<'c>(config: &'c Config, name: &str) -> Result<(SinkIndex, &'c SinkConfig), InvalidTest> {
    let found = config.sinks.iter().enumerate().find(|(_, sink)| sink.name.as_str() == name);
    found.map(|(index, sink)| (SinkIndex(index), sink)).ok_or_else(|| {
        let known: Vec<_> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
        InvalidTest(unknown_name("sink", name, &known))
    })
}

/// The route of that name, if it leads to the sink.
fn find_route<'c>(
    config: &'c Config,
    sink: &SinkConfig,
    leading: &[&'c Route],
    name: &str,
) -> Result<&'c Route, InvalidTest> {
    if let Some(route) = leading.iter().find(|route| route.name.as_str() == name) {
        return Ok(route);
    }
    let names: Vec<_> = leading.iter().map(|route| route.name.as_str()).collect();
    if config.rules.route(&RouteName::new(name)).is_none() {
        return Err(InvalidTest(unknown_name("route", name, &names)));
    }
    let leading = if names.is_empty() { "no route does".to_owned() } else { format!("these do: {}", names.join(", ")) };
    Err(InvalidTest(format!("the route {name} does not lead to the sink {}; {leading}", sink.name)))
}

/// A response that one of the routes matches, so that templates such as a topic per tenant and status get values that they get
/// in operation. If none can be made, any response.
fn response(config: &Config, routes: &[&Route], tenant: Option<&str>) -> Result<(Message, Event), InvalidTest> {
    let now = Moment::now();
    let mut first = None;
    // Without routes, as for the sink of `unrouted:`, any response.
    let routes = routes.iter().map(|route| Some(*route)).chain([None]);
    for route in routes {
        for source in &config.sources {
            let tenant = tenant.or(source.decode_options.tenant.as_deref()).map(str::to_owned);
            let tenant = tenant.or_else(|| route.and_then(tenant_of)).unwrap_or_else(|| TENANT.to_owned());
            let families = source.decode_options.expects.families();
            let statuses =
                families.iter().flat_map(|family| family.statuses.iter().map(move |(word, _)| (family, word)));
            for (family, status) in statuses {
                let message = message(source, family, status, &tenant, &now);
                let event = Event::decode(&message, &source.decode_options)
                    .map_err(|error| InvalidTest(format!("no test event can be made: {}", error.detail)))?;
                let view = EventView::of(&event, &message);
                if route.is_some_and(|route| matches!(route.when.matches(view), Ok(true))) {
                    return Ok((message, event));
                }
                first.get_or_insert((message, event));
            }
        }
    }
    first.ok_or_else(|| InvalidTest("the configuration has no source".to_owned()))
}

/// A tenant that the route's condition matches, if it names tenants.
fn tenant_of(route: &Route) -> Option<String> {
    let globs = route.when.fields.iter().find(|(field, _)| *field == Field::Tenant).map(|(_, globs)| globs)?;
    let is_name = |glob: &&Glob| !glob.as_str().contains(['*', '?']);
    let glob = globs.iter().find(is_name).or_else(|| globs.first())?;
    Some(glob.as_str().replace('*', TENANT).replace('?', "t"))
}

/// The time of the test, as the message has it.
struct Moment {
    seconds: u64,
    rfc3339: String,
    /// No other test has it, so that no receiver takes this one for a duplicate.
    correlation_id: String,
}

impl Moment {
    fn now() -> Self {
        let seconds = clock::system_time().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = WallTime::now();
        Self {
            seconds,
            rfc3339: now.to_rfc3339(),
            correlation_id: format!("{NAME}-{}-{:04x}", now.0, fastrand::u16(..)),
        }
    }
}

/// The message that REGARDS would send, with the member `test`.
fn message(source: &SourceConfig, family: &Family, status: &str, tenant: &str, now: &Moment) -> Message {
    let mut body = Map::new();
    for (name, field) in family.fields {
        let value = match field {
            OptionalField::ProductId | OptionalField::Session => NAME,
            OptionalField::Expires => &now.rfc3339,
            OptionalField::Message => MESSAGE,
        };
        body.insert((*name).to_owned(), value.into());
    }
    body.insert(family.key.to_owned(), now.correlation_id.clone().into());
    body.insert(family.status.to_owned(), status.into());
    body.insert("test".to_owned(), json!(true));
    let text = |name: &str, value: &str| (name.to_owned(), HeaderValue::Text(value.to_owned()));
    let class = family.classes.first().copied().unwrap_or_default();
    let properties = Properties {
        content_type: Some("application/json".to_owned()),
        content_encoding: Some("UTF-8".to_owned()),
        correlation_id: Some(now.correlation_id.clone()),
        timestamp: Some(now.seconds),
        headers: vec![text(TENANT_HEADER, tenant), text(CLASS_HEADER, class)],
        ..Properties::default()
    };
    let body = Bytes::from(Value::Object(body).to_string());
    Message { source: source.name.clone(), body, properties, redelivered: false }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Options, Strictness};

    fn config(text: &str) -> Config {
        let options = Options {
            strictness: Strictness::Offline,
            variables: std::collections::BTreeMap::new(),
            data_dir: "/data".into(),
            host: "host".to_owned(),
        };
        match Config::parse(text, Path::new("/routes.yaml"), &options) {
            Ok((config, _)) => config,
            Err(found) => panic!("{}", found.render(false)),
        }
    }

    const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "amqp://127.0.0.1", queue: q }, expects: lta } }
sinks:
  pipeline: { kafka: { brokers: "127.0.0.1:9092", topic: "regards.{{ tenant }}.{{ status | lower }}" }, order_by: none }
  on_call: { webhook: { url: "https://pager.example.org/hook", headers: { Regards-Relay-Test: x } }, body: "{{ granule }}" }
  partner: { amqp: { url: "amqps://broker.example.org", exchange: x, routing_key: k }, format: original }
  archive: { file: { path: "{{ session }}.ndjson" } }
  letters: { file: { path: "{{ reason }}/{{ tenant | default('unknown') }}.ndjson" }, format: original }
routes:
  - { name: failures, when: { status: ERROR, tenant: ["cnes-*", esa] }, to: pipeline }
  - { name: denied, when: { outcome: rejected, if: "message != null" }, to: [on_call, pipeline], transform: [{ rename: { productId: granule } }] }
  - { name: ours, when: { tenant: "c?-*" }, to: partner }
  - { name: all, to: archive }
unrouted: drop
dead_letters: { to: letters }
"#;

    fn of<'c>(config: &'c Config, sink: &str, route: Option<&str>, tenant: Option<&str>) -> TestEvent<'c> {
        TestEvent::new(config, TestRequest { sink, route, tenant }).unwrap()
    }

    #[test]
    fn the_event_is_one_that_the_route_matches() {
        let config = config(ROUTES);
        let event = |sink, route, tenant| {
            let test = of(&config, sink, route, tenant);
            (test.event.tenant.to_string(), test.event.status)
        };
        assert_eq!(event("pipeline", None, None), ("esa".to_owned(), "ERROR"));
        assert_eq!(event("pipeline", Some("denied"), None), ("test".to_owned(), "DENIED"));
        assert_eq!(event("partner", None, None), ("ct-test".to_owned(), "GRANTED"));
        assert_eq!(event("pipeline", Some("failures"), Some("other")), ("other".to_owned(), "GRANTED"), "none matches");
    }

    #[test]
    fn every_format_shows_that_it_is_a_test() {
        let config = config(ROUTES);
        let shown = |sink: &str, route| {
            let test = of(&config, sink, route, None);
            test.render().unwrap().masked(test.sink)
        };
        let body = |sink: &str| serde_json::from_str::<Value>(&shown(sink, None).body).unwrap();
        assert_eq!(body("pipeline")["extra"]["test"], true);
        assert_eq!(body("partner")["test"], true, "as REGARDS would have sent it");
        assert_eq!(body("archive")["extra"]["test"], true);
        assert_eq!(body("letters")["test"], true, "a dead letter's copy is the message");
        assert_eq!(shown("on_call", Some("denied")).body, NAME, "by the route's transform");
        let marks = |sink, route| {
            let headers = shown(sink, route).headers.into_iter();
            headers.filter(|(name, _)| name == "regards-relay-test").map(|(_, value)| value).collect::<Vec<_>>()
        };
        let mark = [HeaderValue::Text("true".to_owned())];
        assert_eq!(marks("pipeline", None), mark);
        assert_eq!(marks("on_call", Some("denied")), mark);
        assert_eq!(marks("partner", None), mark);
        assert!(shown("archive", None).headers.is_empty());
    }

    #[test]
    fn no_two_tests_are_the_same_event() {
        let config = config(ROUTES);
        let ids = std::array::from_fn::<_, 3, _>(|_| of(&config, "archive", None, None).event.id);
        assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    }

    #[test]
    fn a_wrong_name_is_an_error_that_names_the_right_ones() {
        let config = config(ROUTES);
        let error =
            |sink, route, tenant| TestEvent::new(&config, TestRequest { sink, route, tenant }).unwrap_err().to_string();
        assert_eq!(
            error("on-call", None, None),
            "there is no sink on-call; there are pipeline, on_call, partner, archive, letters; did you mean `on_call`?"
        );
        assert_eq!(
            error("on_call", Some("failures"), None),
            "the route failures does not lead to the sink on_call; these do: denied"
        );
        assert_eq!(
            error("letters", Some("all"), None),
            "the route all does not lead to the sink letters; no route does"
        );
        assert_eq!(
            error("on_call", Some("deniet"), None),
            "there is no route deniet; there are denied; did you mean `denied`?"
        );
        let error = error("on_call", None, Some("a\nb"));
        assert!(error.contains("control characters"), "{error}");
    }

    #[test]
    fn sources_of_all_families_can_be_tested() {
        for family in crate::event::FAMILIES {
            let config = config(
                &ROUTES.replace("expects: lta", &format!("expects: {}", family.name)).replace("status: ERROR, ", ""),
            );
            assert_eq!(of(&config, "pipeline", None, None).event.kind, family.kind);
        }
        let config = config(&ROUTES.replace("expects: lta", "expects: auto"));
        assert_eq!(of(&config, "archive", None, None).event.kind, crate::event::FAMILIES[0].kind);
    }
}
