//! `compare`: what two configurations do with the same recorded messages.

use expect_test::expect;
use fastrand::Rng;
use serde_json::Value;

use crate::configuration::Edit;
use crate::support::generated::{message, rules};
use crate::support::{Home, Response};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "amqp://127.0.0.1", queue: q }, expects: lta } }
sinks:
  pipeline: { kafka: { brokers: "127.0.0.1:9092", topic: "regards.{{ tenant }}" } }
  on_call: { webhook: { url: "https://pager.example.org/${TOKEN}" }, body: '{"text": {{ message | tojson }}}' }
  archive: { file: { path: "{{ tenant }}.ndjson" } }
routes:
  - { name: all, to: [pipeline, archive] }
  - { name: failures, when: { outcome: failed }, to: on_call }
unrouted: dead_letter
"#;

fn home(new: &str) -> Home {
    let home = Home::new(ROUTES).with("TOKEN", "first-s3cret").with("OTHER", "other-s3cret");
    home.write("new.yaml", new);
    let samples = [
        Response::new("esa", "one", "GRANTED"),
        Response::new("esa", "two", "ERROR").field("message", "no quota left"),
        Response::new("dlr", "three", "SUCCESS"),
        Response::with_body("esa", "<html>"),
    ];
    home.write("samples.ndjson", &samples.map(|response| response.sample()).join("\n"));
    home
}

fn new() -> String {
    ROUTES
        .edit("\"regards.{{ tenant }}\"", "\"regards.{{ tenant | replace('esa', 'esrin') }}\"")
        .edit("${TOKEN}", "${OTHER}")
        .edit("to: [pipeline, archive] }", "when: { not: { status: SUCCESS } }, to: pipeline }")
        .edit("outcome: failed }, to: on_call", "outcome: [failed, accepted] }, to: on_call")
        .edit("'{\"text\": {{ message | tojson }}}'", "'{\"text\": {{ message | tojson }}, \"team\": \"storage\"}'")
}

#[test]
fn text_shows_each_difference_and_the_totals() {
    let said = home(&new()).does(&["compare", "samples.ndjson", "--against", "new.yaml"]);
    assert!(!said.contains("s3cret"), "{said}");
    expect![[r#"
        samples.ndjson:1: esa GRANTED one
          ~ pipeline
              topic: "regards.esa" -> "regards.esrin"
          - archive, which got it by the route all
          + on_call, by the route failures
        samples.ndjson:2: esa ERROR two
          ~ pipeline
              topic: "regards.esa" -> "regards.esrin"
          - archive, which got it by the route all
          ~ on_call
              body.team: null -> "storage"
        samples.ndjson:3: dlr SUCCESS three
          dead letter: none -> unrouted (no route matches, and `unrouted:` is dead_letter)
          - pipeline, which got it by the route all
          - archive, which got it by the route all

        SINK      BEFORE  AFTER  NEW  GONE  CHANGED  SETTINGS
        archive   3       0      0    3     0        same
        on_call   1       2      1    0     1        differ
        pipeline  3       2      0    1     2        differ

        4 samples: 3 are treated differently"#]]
    .assert_eq(&said);
}

#[test]
fn json_has_one_object_per_line() {
    let said = home(&new()).does(&["compare", "samples.ndjson", "--against", "new.yaml", "--json"]);
    expect![[r#"
        {"line":1,"event":{"id":"4aba7427-30ab-58e3-81b8-20b9fc5a44a2","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"esa","status":"GRANTED","outcome":"accepted","correlationId":"one","productId":"product of one","session":null,"expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{},"warnings":[]},"sinks":[{"sink":"pipeline","change":"changed","values":[{"path":"topic","before":"regards.esa","after":"regards.esrin"}]},{"sink":"archive","change":"removed","route":"all"},{"sink":"on_call","change":"added","route":"failures"}]}
        {"line":2,"event":{"id":"7df7d60e-9164-56b0-a0f1-3c7353eea889","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"esa","status":"ERROR","outcome":"failed","correlationId":"two","productId":"product of two","session":null,"expires":null,"message":"no quota left","time":"2023-04-14T08:46:17Z","extra":{},"warnings":[]},"sinks":[{"sink":"pipeline","change":"changed","values":[{"path":"topic","before":"regards.esa","after":"regards.esrin"}]},{"sink":"archive","change":"removed","route":"all"},{"sink":"on_call","change":"changed","values":[{"path":"body.team","before":null,"after":"storage"}]}]}
        {"line":3,"event":{"id":"126f6688-8a59-52d5-b5a6-1237a5c5c5a4","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"dlr","status":"SUCCESS","outcome":"succeeded","correlationId":"three","productId":"product of three","session":null,"expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{},"warnings":[]},"dead_letter":{"before":null,"after":{"reason":"unrouted","detail":"no route matches, and `unrouted:` is dead_letter"}},"sinks":[{"sink":"pipeline","change":"removed","route":"all"},{"sink":"archive","change":"removed","route":"all"}]}
        {"samples":4,"different":3,"unreadable":0,"sinks":{"archive":{"before":3,"after":0,"added":0,"removed":3,"changed":0,"settings_differ":false},"on_call":{"before":1,"after":2,"added":1,"removed":0,"changed":1,"settings_differ":true},"pipeline":{"before":3,"after":2,"added":0,"removed":1,"changed":2,"settings_differ":true}}}"#]].assert_eq(&said);
}

#[test]
fn equal_differences_are_shown_once() {
    let home = home(&new());
    let more: Vec<_> =
        (0..40).map(|number| Response::new("esa", &format!("more-{number}"), "GRANTED").sample()).collect();
    home.write("samples.ndjson", &format!("{}\n{}", home.read("samples.ndjson"), more.join("\n")));
    let said = home.does(&["compare", "samples.ndjson", "--against", "new.yaml", "--summary"]);
    let (groups, _) = said.split_once("\n\n").expect("groups, then counts");
    expect![[r#"
        41 samples, the first in line 1:
          ~ pipeline
              topic: "regards.esa" -> "regards.esrin"
          - archive, which got it by the route all
          + on_call, by the route failures
        1 sample, the first in line 2:
          ~ pipeline
              topic: "regards.esa" -> "regards.esrin"
          - archive, which got it by the route all
          ~ on_call
              body.team: null -> "storage"
        1 sample, the first in line 3:
          dead letter: none -> unrouted (no route matches, and `unrouted:` is dead_letter)
          - pipeline, which got it by the route all
          - archive, which got it by the route all"#]]
    .assert_eq(groups);
    let said = home.does(&["compare", "samples.ndjson", "--against", "new.yaml", "--summary", "--json"]);
    let first: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!((&first["count"], &first["line"]), (&41.into(), &1.into()), "{first}");
    assert_eq!(said.lines().count(), 4, "three groups and the counts");
}

#[test]
fn a_line_that_is_no_sample_is_reported_and_skipped() {
    let home = home(&new());
    let samples = home.read("samples.ndjson");
    let mut lines: Vec<&[u8]> = samples.lines().map(str::as_bytes).collect();
    lines.insert(1, b"{\"body\": ");
    lines.insert(2, b"\xff");
    home.write_bytes("samples.ndjson", &lines.join(b"\n".as_slice()));
    let done = home.run(&["compare", "samples.ndjson", "--against", "new.yaml"]);
    let (said, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("samples.ndjson:5: dlr SUCCESS three"), "{said}");
    assert!(
        said.ends_with("4 samples: 3 are treated differently\n2 lines not compared, because they are no samples\n"),
        "{said}"
    );
    assert!(complained.contains("samples.ndjson:2: ") && complained.contains("samples.ndjson:3: "), "{complained}");
    assert_eq!(done.status.code(), Some(1), "not all was compared");
    // The lines after it are compared too.
    home.does(&["explain", "samples.ndjson#5"]);
}

#[test]
fn the_exit_code_shows_whether_anything_differs() {
    let run = |new: &str, more: &[&str]| {
        let done = home(new).run(&[&["compare", "samples.ndjson", "--against", "new.yaml"], more].concat());
        let last = String::from_utf8_lossy(&done.stdout).lines().last().unwrap_or_default().to_owned();
        (done.status.code().expect("a code"), last)
    };
    let same = || "4 samples: no difference".to_owned();
    let differ = || "4 samples: 3 are treated differently".to_owned();
    assert_eq!(run(ROUTES, &["--exit-code"]), (0, same()));
    assert_eq!(run(&ROUTES.edit("name: all", "name: everything"), &["--exit-code"]), (0, same()), "a route's name");
    assert_eq!(run(&ROUTES.edit("127.0.0.1:9092", "127.0.0.1:9093"), &["--exit-code"]), (0, same()), "where to");
    assert_eq!(run(&new(), &[]), (0, differ()));
    assert_eq!(run(&new(), &["--exit-code"]), (1, differ()));
    let (code, _) = run("version: 1", &[]);
    assert_eq!(code, 2, "the other rules are wrong");
}

/// `compare` reports a difference exactly where the outputs of `explain` differ.
#[test]
fn compare_and_explain_agree() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let mut different = [0; 4];
    for (round, different) in different.iter_mut().enumerate() {
        let old = rules(&mut rng, "https://hook.example.org/hooks/regards", "topic");
        // Half of the configurations differ in one place only. The generated text need not have what an edit replaces.
        let new = match round {
            0 => rules(&mut rng, "https://hook.example.org/hooks/regards", "topic"),
            1 => old.replace("cnes-*", "cnes-a"),
            2 => old
                .replace("\"sent\"", "\"event\"")
                .replace("\"to\":[", "\"to\":[\"screen\",")
                .replace(",\"screen\"]", "]"),
            _ => old.replace("storage", "ingestion").replace("{{ message }}", "{{ message | upper }}"),
        };
        let samples: Vec<_> = (0..15).map(|number| message(&mut rng, number).sample()).collect();
        let [home, other] = [&old, &new].map(|rules| {
            let home = Home::new(rules).with("QUEUE", "q").with("KAFKA", "127.0.0.1:9092");
            let home = home.with("REGARDS", "amqp://127.0.0.1").with("PARTNER", "amqp://127.0.0.1");
            home.write("samples.ndjson", &samples.join("\n"));
            home
        });
        home.write("new.yaml", &new);
        let said = home.does(&["compare", "samples.ndjson", "--against", "new.yaml", "--json"]);
        let documents = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let named: Vec<_> = documents.filter_map(|document| document["line"].as_u64()).collect();
        let explained = |home: &Home, line: u64| {
            let sample = format!("samples.ndjson#{line}");
            let said = home.does(&["explain", &sample, "--json"]).replace(&home.data("").display().to_string(), "");
            let mut said: Value = serde_json::from_str(&said).expect("JSON");
            let deliveries = said["deliveries"].as_array_mut().expect("a list");
            for delivery in &mut *deliveries {
                delivery.as_object_mut().expect("an object").remove("route");
            }
            deliveries.sort_by_key(|delivery| delivery["sink"].to_string());
            (deliveries.clone(), said["dead_letter"].clone())
        };
        let differs = |line: &u64| explained(&home, *line) != explained(&other, *line);
        let expected: Vec<_> = (1..=15).filter(differs).collect();
        assert_eq!(named, expected, "between\n{old}\nand\n{new}");
        *different = expected.len();
    }
    assert!(different[0] > 0, "by other rules nothing would be other: {different:?}");
}

#[test]
fn bytes_are_compared_only_if_the_body_is_the_same() {
    let home = home(ROUTES);
    let record =
        |fields: &str| format!(r#"{{"type":"record","name":"P","fields":[{{"name":"id","type":"string"}}{fields}]}}"#);
    home.write("one.avsc", &record(""));
    home.write("two.avsc", &record(r#",{"name":"by","type":"string","default":"x"}"#));
    let pipeline = r#"topic: "regards.{{ tenant }}" }"#;
    let with = |schema: &str, id: &str| {
        let format = format!("{pipeline}, format: {{ avro: {{ schema: {schema} }} }}, body: '{{\"id\": \"{id}\"}}'");
        ROUTES.edit(&format!("{pipeline} }}"), &format!("{format} }}"))
    };
    home.write("routes.yaml", &with("one.avsc", "a"));
    let mut compared = String::new();
    for other in [with("two.avsc", "a"), with("one.avsc", "b")] {
        home.write("new.yaml", &other);
        let said = home.does(&["compare", "samples.ndjson", "--against", "new.yaml"]);
        compared += &said.lines().take(5).collect::<Vec<_>>().join("\n");
        compared += "\n";
    }
    expect![[r#"
        samples.ndjson:1: esa GRANTED one
          ~ pipeline
              encoded.bytes: "AmE=" -> "AmECeA=="
              encoded.schema: "one.avsc" -> "two.avsc"
        samples.ndjson:2: esa ERROR two
        samples.ndjson:1: esa GRANTED one
          ~ pipeline
              body.id: "a" -> "b"
        samples.ndjson:2: esa ERROR two
          ~ pipeline
    "#]]
    .assert_eq(&compared);
}
