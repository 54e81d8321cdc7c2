//! `graph` and `completions`.

use expect_test::expect;

use crate::support::Home;

#[test]
fn routes_and_alerts_are_drawn_as_a_flowchart() {
    let home = Home::new(
        r#"
version: 1
sources:
  regards: { amqp: { url: "amqp://127.0.0.1", queue: q }, expects: lta }
  samples: { recording: { path: samples.ndjson }, expects: lta }
sinks:
  pipeline: { kafka: { brokers: "127.0.0.1:9092", topic: "regards.{{ tenant }}" } }
  on_call: { webhook: { url: "https://pager.example.org/s3cret" } }
  partner: { amqp: { url: "amqp://127.0.0.1", exchange: products, routing_key: "{{ tenant }}" } }
  archive: { file: { path: "{{ tenant }}.ndjson" } }
  dead: { stdout: {} }
routes:
  - { name: tests, when: { session: "test-*" }, to: [], final: true }
  - name: "a \"large\" <one>"
    when: { status: [ERROR, DENIED, SUCCESS], not: [{ tenant: esa }, { tenant: dlr, session: x }], if: "extra.size > 3" }
    to: [pipeline, on_call]
    transform: [{ remove: session }]
  - { name: rest, to: partner }
unrouted: [archive]
dead_letters: { to: dead }
alerts:
  - { name: silent, overdue: { when: { outcome: accepted, tenant: "cnes-*" }, within: [24h, expires] }, to: on_call }
  - { name: trouble, sink_failing: { sink: [pipeline, partner] }, to: [on_call, archive] }
  - { name: reload, reload_failed: {}, to: archive }
"#,
    );
    expect![[r#"
        flowchart LR
          events((events))
          source0(["regards<br>queue q"]) --> events
          source1(["samples<br>recording samples.ndjson"]) --> events
          sink0[/"pipeline<br>kafka topic regards.{{ tenant }}"/]
          sink1[/"on_call<br>webhook"/]
          sink2[/"partner<br>exchange products"/]
          sink3[/"archive<br>file {{ tenant }}.ndjson"/]
          sink4[/"dead<br>stdout"/]
          events -->|"session test-*"| route0["tests<br>final"]
          route0 --> dropped((dropped))
          events -->|"status ERROR, DENIED or SUCCESS, not (tenant esa), not (tenant dlr, session x), if extra.size #62; 3"| route1["a #34;large#34; #60;one#62;<br>transforms"]
          route1 --> sink0
          route1 --> sink1
          events --> route2["rest"]
          route2 --> sink2
          events -.->|no route| unrouted[unrouted]
          unrouted --> sink3
          alert0{{"silent<br>no end within 1d or expires: tenant cnes-*, outcome accepted"}}
          alert0 --> sink1
          alert1{{"trouble<br>sink pipeline, partner failing for 5m"}}
          alert1 --> sink1
          alert1 --> sink3
          alert2{{"reload<br>reload failed"}}
          alert2 --> sink3
          dead_letters[(dead letters)] -.->|copies| sink4"#]].assert_eq(&home.does(&["graph"]));
}

#[test]
fn every_shell_has_a_completion_script() {
    let home = Home::new("");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = home.does(&["completions", shell]);
        assert!(script.contains("dead-letters") && script.contains("against"), "{shell}: {script}");
    }
}
