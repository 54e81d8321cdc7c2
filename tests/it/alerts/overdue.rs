//! Requests that are granted and then have no end: each is reported once, also across restarts and kills, and no other is.

use std::collections::BTreeMap;

use regards_relay::failpoints::{Failpoint, VARIABLE};
use rusqlite::Connection;
use serde_json::Value;

use crate::support::webhook::Posted;
use crate::support::{Home, Receiver, Regards, Relay, Response, until};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  pager: { webhook: { url: "${PAGER}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }
  archive: { file: { path: archive.ndjson } }
routes: [{ name: all, to: archive }]
unrouted: dead_letter
alerts:
  - { name: silent, overdue: { when: { outcome: accepted, tenant: "cnes-*" }, within: WITHIN }, to: pager }
delivery: { shutdown_grace: 1s }
"#;

/// A relay whose requests are overdue after this time.
fn home(regards: &Regards, pager: &Receiver, within: &str) -> Home {
    Home::of(regards, &ROUTES.replace("WITHIN", within)).with("PAGER", &pager.url())
}

pub(super) fn granted(id: &str) -> Response {
    Response::new("cnes-a", id, "GRANTED").field("session", "night")
}

pub(super) fn ended(id: &str) -> Response {
    Response::new("cnes-a", id, "SUCCESS")
}

/// The status of each alert, by the `correlationId` of its request, in the order of arrival.
pub(super) fn by_request(posted: &[Posted]) -> BTreeMap<String, Vec<String>> {
    let mut by_request = BTreeMap::<String, Vec<String>>::new();
    for event in posted.iter().map(Posted::json) {
        let text = |name: &str| event[name].as_str().expect("a text").to_owned();
        by_request.entry(text("correlationId")).or_default().push(text("status"));
    }
    by_request
}

/// Waits until the relay watches so many requests that are not overdue.
pub(super) async fn wait_for_open(relay: &Relay<'_>, count: u64) {
    until(&format!("{count} open requests"), async || match relay.metric("requests_open", &[]).await? {
        Some(open) if open.to_string() == count.to_string() => Ok(()),
        open => Err(format!("{open:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_request_without_an_end_is_reported_once_and_resolved_by_a_late_end() {
    let (regards, pager) = (Regards::new().await, Receiver::start().await);
    let home = home(&regards, &pager, "2s");
    let relay = home.start_ready().await;
    let others = [Response::new("esa", "other-tenant", "GRANTED"), granted("ends"), ended("ends"), ended("denied")];
    regards.publish_all(&others).await;
    regards.publish(&granted("c-1")).await;
    let raised = pager.wait_for_accepted(1).await[0].json();
    let fields = ["type", "status", "outcome", "tenant", "correlationId", "productId", "session", "source"];
    let expected =
        ["fr.cnes.regards.relay.alert", "RAISED", "alert", "cnes-a", "c-1", "product of c-1", "night", "alerts"];
    assert_eq!(fields.map(|name| raised[name].as_str().expect("a text")), expected);
    assert_eq!([&raised["extra"]["alert"], &raised["extra"]["within"]], ["silent", "2s"]);
    assert!(
        raised["message"].as_str().expect("words").starts_with("request c-1 of cnes-a was GRANTED at "),
        "{raised}"
    );
    assert_eq!(relay.metric("alerts_active", &[("alert", "silent")]).await, Ok(Some(1.0)));
    let traced: Value = serde_json::from_str(&home.does(&["trace", "c-1", "--json"])).expect("JSON");
    let watch = &traced["requests"][0]["alerts"][0];
    assert_eq!([&watch["name"], &watch["state"]], ["silent", "overdue"], "{traced}");
    assert_eq!(watch["at"], raised["extra"]["since"]);
    let status: Value = serde_json::from_str(&home.does(&["status", "--json"])).expect("JSON");
    let alert = &status["alerts"][0];
    assert_eq!([&alert["name"], &alert["active"]], [&"silent".into(), &Value::from(1)]);
    let named = &alert["raised"][0];
    assert_eq!([&named["tenant"], &named["correlationId"], &named["subject"]], ["cnes-a", "c-1", "request cnes-a c-1"]);
    assert_eq!([&named["since"], &named["message"]], [&raised["extra"]["since"], &raised["message"]]);
    let shown = home.does(&["status"]);
    assert!(shown.contains("ago  request cnes-a c-1"), "{shown}");

    regards.publish(&ended("c-1")).await;
    let resolved = pager.wait_for_accepted(2).await[1].json();
    assert_eq!([&resolved["status"], &resolved["extra"]["since"]], [&"RESOLVED".into(), &raised["extra"]["since"]]);
    assert_ne!(resolved["id"], raised["id"]);
    wait_for_open(&relay, 0).await;
    assert_eq!(relay.metric("alerts_active", &[("alert", "silent")]).await, Ok(Some(0.0)));
    let traced: Value = serde_json::from_str(&home.does(&["trace", "c-1", "--json"])).expect("JSON");
    assert_eq!(traced["requests"][0]["alerts"], serde_json::json!([]));
    relay.stop().await;
    assert_eq!(
        by_request(&pager.accepted()),
        BTreeMap::from([("c-1".to_owned(), vec!["RAISED".to_owned(), "RESOLVED".to_owned()])])
    );
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn an_end_that_comes_first_is_remembered_for_its_request() {
    let (regards, pager) = (Regards::new().await, Receiver::start().await);
    let home = home(&regards, &pager, "1s");
    let relay = home.start_ready().await;
    regards.publish_all(&[ended("early"), granted("early"), granted("late")]).await;
    pager.wait_for_accepted(1).await;
    home.wait_until_waiting("pager", 0).await;
    relay.kill();
    let relay = home.start_ready().await;
    // The same again, as a broker redelivers it.
    regards.publish_all(&[granted("early"), granted("late-2")]).await;
    pager.wait_for_accepted(2).await;
    relay.stop().await;
    assert_eq!(by_request(&pager.accepted()).into_keys().collect::<Vec<_>>(), ["late", "late-2"]);
}

#[tokio::test]
async fn requests_survive_a_kill_before_and_after_their_moment() {
    let (regards, pager) = (Regards::new().await, Receiver::start().await);
    let home = home(&regards, &pager, "6s");
    let relay = home.start_ready().await;
    regards.publish_all(&[granted("a"), granted("b")]).await;
    regards.wait_until_acknowledged().await;
    relay.kill();
    // It becomes overdue while the relay is down, or just after the start.
    let relay = home.start_ready().await;
    wait_for_open(&relay, 2).await;
    pager.wait_for_accepted(2).await;
    home.wait_until_waiting("pager", 0).await;
    relay.kill();
    let relay = home.start_ready().await;
    regards.publish_all(&[ended("a"), granted("c")]).await;
    pager.wait_for_accepted(4).await;
    relay.stop().await;
    let raised = || vec!["RAISED".to_owned()];
    let resolved = vec!["RAISED".to_owned(), "RESOLVED".to_owned()];
    let expected = [("a", resolved), ("b", raised()), ("c", raised())];
    assert_eq!(by_request(&pager.accepted()), expected.map(|(id, all)| (id.to_owned(), all)).into());
}

#[tokio::test]
async fn of_many_requests_exactly_those_without_an_end_are_reported() {
    const REQUESTS: usize = 10_000;
    let is_silent = |number: usize| number.is_multiple_of(10);
    let (regards, pager) = (Regards::new().await, Receiver::start().await);
    regards.use_cheap_queue().await;
    let home = home(&regards, &pager, "60s");
    let relay = home.start_ready().await;
    let id = |number: usize| format!("r-{number}");
    // Each end soon after its GRANTED: however slow the machine is, no other request becomes overdue.
    let responses = |number: usize| {
        let end = (!is_silent(number)).then(|| ended(&id(number)));
        [Some(granted(&id(number))), end].into_iter().flatten()
    };
    let published: Vec<_> = (0..REQUESTS).flat_map(responses).collect();
    regards.publish_all(&published).await;
    regards.wait_until_acknowledged().await;
    relay.kill();
    let relay = home.start_ready().await;
    wait_for_open(&relay, 0).await;
    home.wait_until_waiting("pager", 0).await;
    relay.stop().await;
    let mut found = by_request(&pager.accepted());
    // On a slow machine the kill may have come when the first were reported, and cost the record of that.
    found.values_mut().for_each(Vec::dedup);
    let expected: BTreeMap<_, _> = (0..REQUESTS)
        .filter(|number| is_silent(*number))
        .map(|number| (id(number), vec!["RAISED".to_owned()]))
        .collect();
    assert!(
        found == expected,
        "{} requests were reported, each once: {}",
        found.len(),
        found.values().all(|all| all.len() == 1)
    );
}

/// Holds the lock of the spool, so that nothing becomes durable.
fn lock_spool(home: &Home) -> Connection {
    let spool = Connection::open(home.data("spool.db")).expect("a spool");
    spool.busy_timeout(std::time::Duration::from_secs(10)).expect("a timeout");
    spool.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    spool
}

/// Kills a relay that has delivered a GRANTED and could not store that its request is open. Returns how many messages are left in the queue.
async fn left_after_a_kill(failpoint: Option<Failpoint>) -> u32 {
    let (regards, pager) = (Regards::new().await, Receiver::start().await);
    let home = home(&regards, &pager, "1h");
    let relay = home.start_with(VARIABLE, failpoint.map_or("", Failpoint::name));
    relay.wait_until_ready().await;
    let lock = lock_spool(&home);
    regards.publish(&granted("c-1")).await;
    home.wait_for_lines("archive.ndjson", 1).await;
    home.wait_for_warning(&["spool failed"]).await;
    relay.kill();
    drop(lock);
    regards.vhost.left_in(&regards.queue).await
}

#[tokio::test]
async fn a_granted_is_acknowledged_only_when_its_request_is_stored() {
    assert_eq!(left_after_a_kill(None).await, 1);
    if cfg!(debug_assertions) {
        assert_eq!(
            left_after_a_kill(Some(Failpoint::AcknowledgeBeforeTheRequest)).await,
            0,
            "the failpoint is noticed"
        );
    }
}

#[tokio::test]
async fn the_date_of_the_request_is_a_time_limit_too() {
    let (regards, pager) = (Regards::new().await, Receiver::start().await);
    let home = home(&regards, &pager, "[expires, 1h]");
    let relay = home.start_ready().await;
    let past = granted("past").field("expires", "2020-01-01T00:00:00Z");
    let future = granted("future").field("expires", "2999-01-01T00:00:00Z");
    regards.publish_all(&[future, granted("none"), past]).await;
    let raised = pager.wait_for_accepted(1).await[0].json();
    wait_for_open(&relay, 2).await;
    relay.stop().await;
    assert_eq!([&raised["correlationId"], &raised["expires"]], ["past", "2020-01-01T00:00:00Z"]);
    assert_eq!(
        raised["message"].as_str().map(|message| message.ends_with("within 1h or by 2020-01-01T00:00:00Z")),
        Some(true),
        "{raised}"
    );
    assert_eq!(Value::from(pager.accepted().len()), 1);
}
