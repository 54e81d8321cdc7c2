//! `test`: test cases for the routes.

use expect_test::{Expect, expect};

use crate::configuration::Edit;
use crate::support::{Home, Response};

const ROUTES: &str = r#"
version: 1
sources:
  regards: { amqp: { url: "amqp://127.0.0.1", queue: q }, expects: lta }
sinks:
  pipeline: { kafka: { brokers: "127.0.0.1:9092", topic: "regards.{{ tenant }}" } }
  on_call: { webhook: { url: "https://pager.example.org/hook" }, body: '{"text": {{ message | tojson }}, "at": 4}' }
  partner: { amqp: { url: "amqp://127.0.0.1", exchange: products, routing_key: "{{ productId }}" } }
routes:
  - { name: all, when: { not: { session: "test-*" } }, to: pipeline }
  - { name: failures, when: { outcome: failed }, to: on_call, transform: [{ set: { team: storage } }] }
  - { name: products, when: { status: SUCCESS }, to: partner }
unrouted: dead_letter
"#;

const RIGHT: &str = r#"
tests:
  - name: a failure wakes someone
    message:
      properties: { headers: { regards.tenant: esa } }
      body: { correlationId: c-1, responseStatus: ERROR, message: no quota left }
    expect:
      pipeline: { topic: regards.esa, key: c-1, route: all, body: { status: ERROR, session: null, extra: {} } }
      on_call: { url: https://pager.example.org/hook, headers: { content-type: application/json, x: null }, body: { at: 4.0 } }
  - name: a product goes to the partner
    source: regards
    tenant: cnes
    sample: samples.ndjson#2
    expect:
      pipeline: {}
      partner: { exchange: products, routingKey: product of two, properties: { correlation_id: two } }
  - name: one without a product can't be addressed
    tenant: esa
    message: { body: '{"correlationId": "c", "responseStatus": "SUCCESS",}' }
    expect: { pipeline: , partner: { dead_letter: render_failed } }
  - name: tests go nowhere
    tenant: esa
    message: { body: { correlationId: c, responseStatus: GRANTED, session: test-1 } }
    expect: { dead_letter: unrouted }
"#;

fn home(cases: &str) -> Home {
    let home = Home::new(ROUTES);
    home.write("routes.test.yaml", cases);
    let samples = ["one", "two"].map(|id| Response::new("esa", id, "SUCCESS").sample());
    home.write("samples.ndjson", &samples.join("\n"));
    home
}

/// Compares the output and the exit code.
fn tested(cases: &str, arguments: &[&str], expected: &Expect) {
    expected.assert_eq(&outcome(&home(cases), arguments));
}

fn outcome(home: &Home, arguments: &[&str]) -> String {
    let done = home.run(&[&["test"], arguments].concat());
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let err = err.lines().filter(|line| !line.contains("`regards-relay check` shows them"));
    let all: Vec<_> = out.lines().chain(err).collect();
    let data = home.data("");
    let all =
        all.join("\n").replace(data.to_str().and_then(|data| data.strip_suffix("data/")).expect("a path"), "HOME/");
    format!("{all}\nexit {}\n", done.status.code().expect("an exit code"))
}

#[test]
fn correct_cases_pass() {
    tested(
        RIGHT,
        &[],
        &expect![[r"
        4 cases: 4 passed, none failed
        exit 0
    "]],
    );
}

#[test]
fn each_difference_is_printed() {
    let wrong = RIGHT
        .edit("topic: regards.esa", "topic: regards.dlr")
        .edit("session: null, extra: {}", "session: night, extra: [], warnings: [x]")
        .edit("{ content-type: application/json, x: null }", "{ content-type: text/plain }")
        .edit("partner: { exchange", "on_call: { body: x }\n      partner: { exchange")
        .edit("expect: { pipeline: , partner: { dead_letter: render_failed } }", "expect: { partner: {} }")
        .edit("dead_letter: unrouted", "dead_letter: not_json");
    let more = "  - { name: none, tenant: t, message: { body: x }, expect: { pipeline: {} } }
  - { name: dead, tenant: t, message: { body: { correlationId: c, responseStatus: DENIED } }, expect: { dead_letter: unrouted } }
";
    tested(
        &format!("{wrong}{more}"),
        &[],
        &expect![[r#"
        routes.test.yaml:3: a failure wakes someone
          pipeline: body.extra is {}, not []
          pipeline: body.session is null, not "night"
          pipeline: body.warnings is [], not ["x"]
          pipeline: topic is "regards.esa", not "regards.dlr"
          on_call: headers.content-type is "application/json", not "text/plain"
        routes.test.yaml:10: a product goes to the partner
          on_call doesn't get it (failures: outcome is succeeded, not failed)
        routes.test.yaml:18: one without a product can't be addressed
          partner: a dead letter, render_failed: routing key: productId is null for this event; to use another value then, write {{ productId | default("…") }}
          pipeline gets it too, by the route all
        routes.test.yaml:22: tests go nowhere
          it is a dead letter, unrouted, not not_json: no route matches, and `unrouted:` is dead_letter
        routes.test.yaml:26: none
          it is a dead letter, not_json: the body is not JSON: expected value at line 1 column 1
        routes.test.yaml:27: dead
          it is not a dead letter (unrouted); it goes to pipeline
        6 cases: 0 passed, 6 failed
        exit 1
    "#]],
    );
}

#[test]
fn impossible_expectations_are_errors() {
    let wrong = r"
tests:
  - name: one
    source: regrads
    message: { bdy: x }
    expect: { pipelin: {}, on_call: { topik: x }, partner: yes }
  - name: two
    sample: samples.ndjson
    expect: { dead_letter: unruoted }
";
    tested(
        wrong,
        &[],
        &expect![[r"
        error[unknown-source]: there is no source `regrads`
         --> routes.test.yaml:4:13
          |
        4 |     source: regrads
          |             ^^^^^^^ did you mean `regards`?
          |
          = help: write `regards`

        error[sample]: there is no bdy: a sample has properties, and body or body_base64
         --> routes.test.yaml:5:14
          |
        5 |     message: { bdy: x }
          |              ^^^^^^^^^^
          |
          = help: write `{ properties: …, body: … }`: the body as text, or as an object

        error[unknown-sink]: there is no sink `pipelin`
         --> routes.test.yaml:6:15
          |
        6 |     expect: { pipelin: {}, on_call: { topik: x }, partner: yes }
          |               ^^^^^^^ did you mean `pipeline`?
          |
          = help: write `pipeline`

        error[unknown-field]: there is no field `topik`
         --> routes.test.yaml:6:39
          |
        6 |     expect: { pipelin: {}, on_call: { topik: x }, partner: yes }
          |                                       ^^^^^ did you mean `topic`?
          |
          = help: write `topic`

        error[expect]: these are not the expected fields of a delivery
         --> routes.test.yaml:6:60
          |
        6 |     expect: { pipelin: {}, on_call: { topik: x }, partner: yes }
          |                                                            ^^^
          |
          = help: write `{}` to expect any delivery, or the expected fields: `{ topic: …, body: { … } }`

        error[sample]: this is not a line of a file
         --> routes.test.yaml:8:13
          |
        8 |     sample: samples.ndjson
          |             ^^^^^^^^^^^^^^
          |
          = help: write `FILE#LINE`, as in `samples.ndjson#3`; lines are counted from 1

        error[unknown-reason]: there is no reason `unruoted`
         --> routes.test.yaml:9:28
          |
        9 |     expect: { dead_letter: unruoted }
          |                            ^^^^^^^^ did you mean `unrouted`?
          |
          = help: write `unrouted`

        exit 2
    "]],
    );
}

#[test]
fn invalid_cases_are_errors() {
    let wrong = r"
tests:
  - name: three
    sample: samples.ndjson#1
    message: { body: x }
    expect: { dead_letter: not_json, pipeline: {} }
  - expect: {}
  - name: five
    tenent: esa
    message: { body: x }
";
    tested(
        wrong,
        &[],
        &expect![[r"
            error[sample]: a case has one message
             --> routes.test.yaml:3:5
              |
            3 |   - name: three
              |     ^^^^
              |
              = help: write `message: { body: … }`, `sample: FILE#LINE`, `messages: [{ body: … }, …]` for a digest, or `alert: { name: … }`

            error[expect]: a dead letter goes to no sink
             --> routes.test.yaml:6:15
              |
            6 |     expect: { dead_letter: not_json, pipeline: {} }
              |               ^^^^^^^^^^^
              |
              = help: write `dead_letter` alone, or the sinks alone

            error[missing-key]: `name` is missing
             --> routes.test.yaml:7:5
              |
            7 |   - expect: {}
              |     ^^^^^^ needs `name`
              |
              = help: add `name:`, what the case shows

            error[missing-key]: `expect` is missing
             --> routes.test.yaml:8:5
              |
            8 |   - name: five
              |     ^^^^ needs `expect`
              |
              = help: add `expect:`, all sinks that get the message, each with its expected fields; or `dead_letter: REASON`; and `alerts: [NAME]`, all alerts that match

            error[unknown-key]: unknown key `tenent`
             --> routes.test.yaml:9:5
              |
            9 |     tenent: esa
              |     ^^^^^^ did you mean `tenant`?
              |
              = help: write `tenant:`

            exit 2
        "]],
    );
    tested(
        "tests: []",
        &[],
        &expect![[r"
        error[no-tests]: there is no case here
         --> routes.test.yaml:1:8
          |
        1 | tests: []
          |        ^^
          |
          = help: write one: `{ name: …, message: { body: … }, expect: { SINK: {} } }`

        exit 2
    "]],
    );
}

#[test]
fn missing_files_and_samples_are_errors() {
    let beyond = "tests: [{ name: beyond, sample: samples.ndjson#7, expect: {} }]";
    tested(
        beyond,
        &[],
        &expect![[r"
        error: routes.test.yaml:1: beyond: there is no sample in line 7 of HOME/samples.ndjson
        exit 2
    "]],
    );
    tested(
        beyond,
        &["nowhere.test.yaml"],
        &expect![[r"
            error[unreadable]: the cases can't be read: No such file or directory (os error 2)
            --> nowhere.test.yaml
             = help: name another file, or write one

            exit 2
        "]],
    );
}

#[test]
fn results_are_written_as_junit_xml() {
    let home = home(&RIGHT.edit("topic: regards.esa", "topic: regards.<dlr>"));
    home.run(&["test", "--junit", "results.xml"]);
    let xml = home.read("results.xml");
    let mut xml = xml;
    while let Some(at) = xml.find(" time=\"") {
        let end = xml[at + 7..].find('"').expect("its end") + at + 8;
        xml.replace_range(at..end, "");
    }
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="regards-relay" tests="4" skipped="0" failures="1" errors="0">
            <testsuite name="routes.test.yaml" tests="4" skipped="0" errors="0" failures="1">
                <testcase name="a failure wakes someone" classname="routes.test.yaml" file="routes.test.yaml" line="3">
                    <failure message="pipeline: topic is &quot;regards.esa&quot;, not &quot;regards.&lt;dlr&gt;&quot;">pipeline: topic is &quot;regards.esa&quot;, not &quot;regards.&lt;dlr&gt;&quot;</failure>
                </testcase>
                <testcase name="a product goes to the partner" classname="routes.test.yaml" file="routes.test.yaml" line="10"/>
                <testcase name="one without a product can&apos;t be addressed" classname="routes.test.yaml" file="routes.test.yaml" line="17"/>
                <testcase name="tests go nowhere" classname="routes.test.yaml" file="routes.test.yaml" line="21"/>
            </testsuite>
        </testsuites>
    "#]].assert_eq(&xml);
}

const GROUPED: &str = r#"
version: 1
sources:
  regards: { amqp: { url: "amqp://127.0.0.1", queue: q }, expects: lta }
sinks:
  pipeline: { kafka: { brokers: "127.0.0.1:9092", topic: regards } }
  on_call: { webhook: { url: "https://pager.example.org/hook" }, group: { by: [tenant], wait: 30s, max: 2 }, body: '{"text": "{{ count }} of {{ tenant }}"}' }
routes:
  - { name: all, when: { not: { session: "test-*" } }, to: [pipeline, on_call] }
unrouted: dead_letter
"#;

#[test]
fn a_case_of_several_messages_expects_their_digest() {
    let home = Home::new(GROUPED);
    let event = |tenant: &str, id: &str| {
        let headers = format!("headers: {{ regards.tenant: {tenant} }}");
        format!("{{ properties: {{ {headers} }}, body: {{ correlationId: {id}, responseStatus: ERROR }} }}")
    };
    let case = |name: &str, messages: &[String], expect: &str| {
        format!("  - {{ name: {name}, messages: [{}], expect: {{ {expect} }} }}\n", messages.join(", "))
    };
    let (a, b, c, esa) = (event("cnes", "a"), event("cnes", "b"), event("cnes", "c"), event("esa", "d"));
    let test_session = "{ body: { correlationId: e, responseStatus: ERROR, session: test-1 } }".to_owned();
    let cases = [
        case("two", &[a.clone(), b.clone()], "on_call: { group: { by: { tenant: cnes } }, body: { text: 2 of cnes } }"),
        case("other body", &[a.clone(), b.clone()], "on_call: { body: { text: 3 of cnes } }"),
        case("two tenants", &[a.clone(), esa], "on_call: {}"),
        case("three", &[a.clone(), b, c], "on_call: {}"),
        case("one is a dead letter", &[a, test_session], "on_call: {}"),
        "  - { name: none, messages: [], expect: {} }\n".to_owned(),
    ];
    home.write("routes.test.yaml", &format!("tests:\n{}", cases[..5].concat()));
    expect![[r#"
        routes.test.yaml:3: other body
          on_call: body.text is "2 of cnes", not "3 of cnes"
        routes.test.yaml:4: two tenants
          on_call gets these events in several digests: event 2 differs in tenant from the first one
        routes.test.yaml:5: three
          on_call gets these 3 events in several digests: its `group` has `max: 2`
        routes.test.yaml:6: one is a dead letter
          it is a dead letter, missing_tenant: no header regards.tenant, and the source has no tenant of its own
        5 cases: 1 passed, 4 failed
        exit 1
    "#]]
    .assert_eq(&outcome(&home, &[]));
    home.write("routes.test.yaml", &format!("tests:\n{}", cases[5]));
    expect![[r"
        error[sample]: a digest has at least one event
         --> routes.test.yaml:2:29
          |
        2 |   - { name: none, messages: [], expect: {} }
          |                             ^^
          |
          = help: write the messages of its events: `messages: [{ body: … }, { body: … }]`

        exit 2
    "]]
    .assert_eq(&outcome(&home, &[]));
}
