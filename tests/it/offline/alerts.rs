//! Alerts in `explain` and `test`, without a broker.

use expect_test::expect;
use serde_json::Value;

use crate::support::{Home, Response};

const ROUTES: &str = r#"
version: 1
sources:
  regards: { amqp: { url: "amqp://127.0.0.1", queue: q }, expects: lta }
  other: { amqp: { url: "amqp://127.0.0.1", queue: p }, expects: order }
sinks:
  archive: { file: { path: archive.ndjson } }
  on_call: { webhook: { url: "https://pager.example.org/hook" }, body: '{"text": {{ message | tojson }}}' }
routes: [{ name: all, to: archive }]
unrouted: dead_letter
alerts:
  - { name: silent, overdue: { when: { outcome: accepted, tenant: "cnes-*" }, within: [24h, expires] }, to: on_call }
  - { name: trouble, sink_failing: {}, to: [on_call, archive] }
"#;

fn explained(home: &Home, message: &Response) -> Value {
    home.write("message.json", &message.sample());
    let shown = home.does(&["explain", "message.json", "--source", "regards", "--json"]);
    serde_json::from_str(&shown).expect("JSON")
}

#[test]
fn explain_says_which_alerts_watch_the_request() {
    let home = Home::new(ROUTES);
    let because = |message: Response| {
        let alerts = explained(&home, &message)["alerts"].clone();
        assert_eq!(
            [&alerts[0]["name"], &alerts[1]["name"], &alerts[1]["matched"]],
            [&"silent".into(), &"trouble".into(), &Value::from(false)]
        );
        (alerts[0]["matched"].as_bool().expect("a boolean"), alerts[0]["because"].as_str().expect("a text").to_owned())
    };
    let said = [
        because(Response::new("cnes-a", "c", "GRANTED")),
        because(Response::new("cnes-a", "c", "GRANTED").field("expires", "2030-01-01T00:00:00Z")),
        because(Response::new("esa", "c", "GRANTED")),
        because(Response::new("cnes-a", "c", "ERROR")),
    ];
    expect![[r#"
        [
            (
                true,
                "tenant is cnes-a, outcome is accepted: the request has to end within 1d",
            ),
            (
                true,
                "tenant is cnes-a, outcome is accepted: the request has to end within 1d and by 2030-01-01T00:00:00Z",
            ),
            (
                false,
                "tenant is esa, not cnes-*",
            ),
            (
                false,
                "outcome is failed: this event ends its request",
            ),
        ]
    "#]]
    .assert_debug_eq(&said);
}

#[test]
fn an_alert_is_explained_for_the_sinks_that_get_it() {
    let home = Home::new(ROUTES);
    home.write("alert.json", r#"{"alert": {"name": "trouble", "sink": "archive", "message": "deliveries to sink archive have failed for 5m"}}"#);
    let text = home.does(&["explain", "alert.json"]);
    expect![[r#"
        event
            {
              "id": "8a47bfef-a462-5abe-8e17-ad5eba2ec4d2",
              "type": "fr.cnes.regards.relay.alert",
              "source": "alerts",
              "tenant": null,
              "status": "RAISED",
              "outcome": "alert",
              "correlationId": null,
              "productId": null,
              "session": null,
              "expires": null,
              "message": "deliveries to sink archive have failed for 5m",
              "time": "1970-01-01T00:00:00Z",
              "extra": {
                "alert": "trouble",
                "since": "1970-01-01T00:00:00.000Z",
                "sink": "archive",
                "subject": "sink archive"
              },
              "warnings": []
            }

        alerts
          matches  trouble  it is this alert

        on_call (webhook), by the alert trouble
          url          https://pager.example.org/hook
          headers      webhook-id: 8a47bfef-a462-5abe-8e17-ad5eba2ec4d2
                       content-type: application/json
          body
            {"text": "deliveries to sink archive have failed for 5m"}"#]]
    .assert_eq(&text);
}

#[test]
fn an_alert_that_is_unknown_or_wrong_is_told() {
    let home = Home::new(ROUTES);
    for (alert, words) in [
        (r#"{"alert": {"name": "silen"}}"#, "did you mean `silent`?"),
        (r#"{"alert": {"name": "silent", "state": "RAISED"}}"#, "unknown field `state`"),
        (r#"{"alert": {"name": "silent", "status": "DONE"}}"#, "unknown variant `DONE`"),
    ] {
        home.write("alert.json", alert);
        let done = home.run(&["explain", "alert.json"]);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(words), "{said}");
    }
}

#[test]
fn cases_expect_alerts_and_have_alerts_as_input() {
    let home = Home::new(ROUTES);
    let cases = r"
tests:
  - name: right
    source: regards
    tenant: cnes-a
    message: { body: { correlationId: c-1, responseStatus: GRANTED } }
    expect: { alerts: [silent], archive: {} }
  - name: alerts alone
    source: regards
    tenant: cnes-a
    message: { body: { correlationId: c-1, responseStatus: GRANTED } }
    expect: { alerts: silent }
  - name: an alert
    alert: { name: trouble, sink: on_call, message: none }
    expect: { archive: { body: { message: none, tenant: null, outcome: alert } } }
  - name: one too few
    source: regards
    tenant: cnes-a
    message: { body: { correlationId: c-1, responseStatus: GRANTED } }
    expect: { alerts: [] }
  - name: one too many
    source: regards
    tenant: esa
    message: { body: { correlationId: c-1, responseStatus: GRANTED } }
    expect: { alerts: [silent], archive: {} }
  - name: a sink that it is about
    alert: { name: trouble, sink: on_call }
    expect: { on_call: {} }
";
    home.write("routes.test.yaml", cases);
    let done = home.run(&["test"]);
    expect![[r"
        routes.test.yaml:16: one too few
          the alert silent matches, too: tenant is cnes-a, outcome is accepted: the request has to end within 1d
        routes.test.yaml:21: one too many
          the alert silent doesn't match: tenant is esa, not cnes-*
        routes.test.yaml:26: a sink that it is about
          on_call doesn't get it
          archive gets it too, by the alert trouble
        6 cases: 3 passed, 3 failed
    "]]
    .assert_eq(&String::from_utf8_lossy(&done.stdout));
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn mistakes_in_cases_with_alerts_have_their_lines() {
    let home = Home::new(ROUTES);
    let cases = r#"
tests:
  - { name: unknown, alert: { name: silen }, expect: { on_call: {} } }
  - { name: wrong, alert: { name: silent, state: RAISED }, expect: { on_call: {} } }
  - { name: names, sample: "samples.ndjson#1", expect: { alerts: [silent, troubles] } }
  - { name: two, alert: { name: silent }, message: { body: {} }, expect: { alerts: 7 } }
"#;
    home.write("routes.test.yaml", cases);
    let done = home.run(&["test"]);
    expect![[r#"
        error[unknown-alert]: there is no alert `silen`
         --> routes.test.yaml:3:37
          |
        3 |   - { name: unknown, alert: { name: silen }, expect: { on_call: {} } }
          |                                     ^^^^^ did you mean `silent`?
          |
          = help: write `silent`

        error[alert]: this is no alert: unknown field `state`, expected one of `name`, `status`, `subject`, `since`, `message`, `tenant`, `correlationId`, `productId`, `session`, `expires`, `sink`, `source`, `extra`
         --> routes.test.yaml:4:27
          |
        4 |   - { name: wrong, alert: { name: silent, state: RAISED }, expect: { on_call: {} } }
          |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: write `{ name: NAME, status: RAISED }`, and the fields of its event that the sinks use

        error[unknown-alert]: there is no alert `troubles`
         --> routes.test.yaml:5:75
          |
        5 |   - { name: names, sample: "samples.ndjson#1", expect: { alerts: [silent, troubles] } }
          |                                                                           ^^^^^^^^ did you mean `trouble`?
          |
          = help: write `trouble`

        error[sample]: a case has one message
         --> routes.test.yaml:6:5
          |
        6 |   - { name: two, alert: { name: silent }, message: { body: {} }, expect: { alerts: 7 } }
          |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: write `message: { body: … }`, `sample: FILE#LINE`, `messages: [{ body: … }, …]` for a digest, or `alert: { name: … }`

        error[expect]: these are no names of alerts
         --> routes.test.yaml:6:84
          |
        6 |   - { name: two, alert: { name: silent }, message: { body: {} }, expect: { alerts: 7 } }
          |                                                                                    ^
          |
          = help: write those that match, as in `alerts: [silent]`; none is `alerts: []`

    "#]].assert_eq(&String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(2));
}
