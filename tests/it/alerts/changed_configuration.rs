//! A reload, or a restart with another configuration, while requests are watched and alerts are raised: whoever got RAISED gets RESOLVED, and
//! requests keep the time limit with which they were opened.

use serde_json::Value;

use super::overdue::{by_request, ended, granted, wait_for_open};
use crate::support::webhook::Posted;
use crate::support::{Answer, Home, Receiver, Regards, Relay, Response};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  pager: { webhook: { url: "${PAGER}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }
  second: { webhook: { url: "${SECOND}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }
  hook: { webhook: { url: "${HOOK}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }
  archive: { file: { path: archive.ndjson } }
routes:
  - { name: all, to: archive }
  - { name: failures, when: { status: ERROR }, to: hook }
unrouted: dead_letter
delivery: { shutdown_grace: 1s }
"#;

const SILENT: &str = r#"
alerts:
  - { name: silent, overdue: { when: { outcome: accepted, tenant: "cnes-*" }, within: 2s }, to: pager }
"#;
const TROUBLE: &str = "  - { name: trouble, sink_failing: { sink: hook, for: 1s }, to: pager }\n";

struct Receivers {
    pager: Receiver,
    second: Receiver,
    hook: Receiver,
}

impl Receivers {
    async fn start() -> Self {
        let all =
            Self { pager: Receiver::start().await, second: Receiver::start().await, hook: Receiver::start().await };
        all.hook.answers(|_| Answer::Status(503));
        all
    }

    fn home(&self, regards: &Regards, alerts: &str) -> Home {
        let home = Home::of(regards, &format!("{ROUTES}{alerts}"));
        home.with("PAGER", &self.pager.url()).with("SECOND", &self.second.url()).with("HOOK", &self.hook.url())
    }

    /// Starts a relay with an alert about a request and one about a sink, and waits until both are raised.
    async fn start_with_raised_alerts<'h>(&self, regards: &Regards, home: &'h Home) -> Relay<'h> {
        let relay = home.start_ready().await;
        regards.publish_all(&[granted("c-1"), Response::new("cnes-a", "other", "ERROR")]).await;
        self.pager.wait_for_accepted(2).await;
        home.wait_until_waiting("pager", 0).await;
        relay
    }

    /// Checks that each of the raised alerts is resolved at the pager, and says why.
    async fn assert_resolved(&self) {
        let told: Vec<_> = self.pager.wait_for_accepted(4).await.iter().map(Posted::json).collect();
        for alert in ["silent", "trouble"] {
            let pair: Vec<_> = told.iter().filter(|event| event["extra"]["alert"] == alert).collect();
            let statuses: Vec<_> = pair.iter().map(|event| event["status"].as_str().unwrap_or_default()).collect();
            assert_eq!(statuses, ["RAISED", "RESOLVED"], "{alert}");
            let of_pair = |path: &str| [pair[0].pointer(path), pair[1].pointer(path)].map(Option::<&Value>::cloned);
            for same in ["/extra/since", "/extra/subject", "/correlationId"] {
                let [raised, resolved] = of_pair(same);
                assert_eq!(raised, resolved, "{alert} {same}");
            }
            let message = pair[1]["message"].as_str().unwrap_or_default();
            assert!(message.contains("no longer in the configuration"), "{message}");
        }
        assert_eq!(self.pager.accepted().len(), 4);
    }
}

#[tokio::test]
async fn a_reload_that_removes_an_alert_resolves_what_it_had_raised() {
    let (regards, receivers) = (Regards::new().await, Receivers::start().await);
    let home = receivers.home(&regards, &format!("{SILENT}{TROUBLE}"));
    let relay = receivers.start_with_raised_alerts(&regards, &home).await;
    relay.reload(ROUTES, "success").await;
    receivers.assert_resolved().await;
    // The alert knows nothing of the requests from before it was removed.
    relay.reload(&format!("{ROUTES}{SILENT}{TROUBLE}"), "success").await;
    wait_for_open(&relay, 0).await;
    relay.stop().await;
}

#[tokio::test]
async fn an_alert_that_was_removed_while_the_relay_was_down_is_resolved_at_the_start() {
    let (regards, receivers) = (Regards::new().await, Receivers::start().await);
    let home = receivers.home(&regards, &format!("{SILENT}{TROUBLE}"));
    let relay = receivers.start_with_raised_alerts(&regards, &home).await;
    relay.kill();
    home.write_routes(ROUTES);
    let relay = home.start_ready().await;
    receivers.assert_resolved().await;
    relay.stop().await;
}

#[tokio::test]
async fn an_alert_that_goes_to_another_sink_now_is_resolved_where_it_was_raised() {
    let (regards, receivers) = (Regards::new().await, Receivers::start().await);
    let home = receivers.home(&regards, &format!("{SILENT}{TROUBLE}"));
    let relay = receivers.start_with_raised_alerts(&regards, &home).await;
    relay.reload(&format!("{ROUTES}{SILENT}{TROUBLE}").replace("to: pager", "to: second"), "success").await;
    regards.publish_all(&[ended("c-1"), granted("c-2")]).await;
    receivers.hook.answers(|_| Answer::Status(204));
    receivers.pager.wait_for_accepted(4).await;
    receivers.second.wait_for_accepted(1).await;
    relay.stop().await;
    let pairs: Vec<_> = by_request(&of_requests(&receivers.pager)).into_iter().collect();
    assert_eq!(pairs, [("c-1".to_owned(), vec!["RAISED".to_owned(), "RESOLVED".to_owned()])]);
    let pairs: Vec<_> = by_request(&of_requests(&receivers.second)).into_iter().collect();
    assert_eq!(pairs, [("c-2".to_owned(), vec!["RAISED".to_owned()])]);
    assert_eq!(receivers.pager.accepted().len(), 4, "the alert about the sink, too");
}

#[tokio::test]
async fn a_reload_after_which_the_alert_does_not_watch_the_sink_resolves_it() {
    let (regards, receivers) = (Regards::new().await, Receivers::start().await);
    let alerts = format!("{SILENT}{TROUBLE}");
    let home = receivers.home(&regards, &alerts);
    let relay = receivers.start_with_raised_alerts(&regards, &home).await;
    relay.reload(&format!("{ROUTES}{alerts}").replace("sink: hook", "sink: second"), "success").await;
    let resolved = receivers.pager.wait_for_accepted(3).await[2].json();
    relay.stop().await;
    assert_eq!([&resolved["extra"]["subject"], &resolved["status"]], ["sink hook", "RESOLVED"]);
    assert_eq!(resolved["message"], "sink hook delivers again, or the alert no longer watches it");
}

/// The alerts that are about a request.
fn of_requests(receiver: &Receiver) -> Vec<Posted> {
    let is_of_request = |posted: &Posted| posted.json()["correlationId"].is_string();
    receiver.accepted().into_iter().filter(is_of_request).collect()
}

#[tokio::test]
async fn open_requests_keep_their_alert_and_its_time_limit_across_a_reload() {
    let (regards, receivers) = (Regards::new().await, Receivers::start().await);
    let of = |within: &str, tenant: &str| format!("{ROUTES}{}", SILENT.replace("2s", within).replace("cnes-*", tenant));
    let home = receivers.home(&regards, &SILENT.replace("2s", "1h"));
    let relay = home.start_ready().await;
    regards.publish(&granted("long")).await;
    wait_for_open(&relay, 1).await;
    relay.reload(&of("4s", "cnes-*"), "success").await;
    regards.publish(&granted("short")).await;
    wait_for_open(&relay, 2).await;
    // Neither the limit of the alert nor what it watches changes for them.
    relay.reload(&of("2h", "esa"), "success").await;
    let raised = receivers.pager.wait_for_accepted(1).await[0].json();
    assert_eq!([&raised["correlationId"], &raised["extra"]["within"]], ["short", "4s"]);
    let message = raised["message"].as_str().unwrap_or_default();
    assert!(message.ends_with("has had no end within 4s"), "{message}");
    wait_for_open(&relay, 1).await;
    regards.publish_all(&[ended("short"), ended("long")]).await;
    receivers.pager.wait_for_accepted(2).await;
    wait_for_open(&relay, 0).await;
    relay.stop().await;
    assert_eq!(receivers.pager.accepted().len(), 2, "the other one ended in time");
}
