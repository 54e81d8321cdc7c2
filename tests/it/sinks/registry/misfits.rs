//! Values that don't fit a partner's schema.

use serde_json::{Value, json};

use super::Source;
use crate::configuration::Edit;
use crate::support::{Home, Kafka, Regards, Registry, Response};

const ROUTES: &str = configuration! {
    sinks: {
        partner: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}", key: "{{ tenant }}" }, format: { avro: { schema: partner.avsc, registry: { url: "${REGISTRY}", register: true } } }, body: '{"id": {{ correlationId | tojson }}, "size": {{ extra.size | tojson }}}', order_by: tenant, retry: { initial_backoff: 20ms, max_backoff: 200ms } }"#,
    },
};

const SCHEMA: &str =
    r#"{"type":"record","name":"P","fields":[{"name":"id","type":"string"},{"name":"size","type":"int"}]}"#;
const MISFIT: &str = "body: size: found text, expected int";

struct Partner {
    regards: Regards,
    records: crate::support::kafka::Reader,
    registry: Registry,
    home: Home,
    source: Source,
}

impl Partner {
    async fn new(source: Source) -> Self {
        let (regards, registry) = (Regards::new().await, Registry::shared());
        let records = Kafka::shared().topic("partner", 1).await;
        let routes = match source {
            Source::Latest => ROUTES.edit("schema: partner.avsc", "schema: latest").edit(", register: true", ""),
            _ => ROUTES.to_owned(),
        };
        let home = Home::of(&regards, &routes).with_kafka().with("TOPIC", records.topic());
        let home = home.with("REGISTRY", &registry.url());
        let partner = Self { regards, records, registry, home, source };
        partner.set_schema(SCHEMA).await;
        partner
    }

    async fn set_schema(&self, schema: &str) {
        if self.source == Source::Latest {
            let subject = format!("{}-value", self.records.topic());
            self.registry.register(&subject, "AVRO", schema).await;
        } else {
            self.home.write("partner.avsc", schema);
        }
    }
}

fn sized(tenant: &str, id: &str, size: Value) -> Response {
    Response::new(tenant, id, "SUCCESS").field("size", size)
}

#[tokio::test]
async fn values_that_do_not_fit_are_dead_letters_and_no_other_event_waits() {
    const MISFITS: usize = 1_000;
    for source in [Source::File, Source::Latest] {
        let mut partner = Partner::new(source).await;
        // Nine in a row that don't fit, and one that does. Those that fit have one key, so that they are sent one after the other, and all
        // around them is known earlier.
        let mut published = Vec::new();
        for number in 0..MISFITS {
            published.push(sized(&format!("bad-{number}"), &format!("bad-{number}"), "large".into()));
            if number % 9 == 8 {
                published.push(sized("good", &format!("good-{number}"), json!(number)));
            }
        }
        let good = published.len() - MISFITS;
        let relay = partner.home.start_ready().await;
        partner.regards.publish_all(&published).await;
        assert_eq!(partner.records.wait_for(good).await.len(), good, "{source:?}");
        relay
            .wait_for_metric("dead_letters_stored", &[("sink", "partner"), ("reason", "render_failed")], 1_000.0)
            .await;
        let listed = partner.home.does(&["dead-letters", "list", "--json"]);
        let letters: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(letters.len(), MISFITS, "{source:?}");
        assert!(letters.iter().all(|letter| letter["detail"] == MISFIT && letter["sink"] == "partner"), "{source:?}");
        assert!(letters.iter().all(|letter| letter["attempts"] == 1), "{source:?}: {}", letters[0]);
        let retries = relay.metric("delivery_attempts_total", &[("sink", "partner"), ("result", "retry")]).await;
        assert_eq!(retries, Ok(Some(0.0)), "{source:?}: no delivery waited for a back-off");
        assert!(partner.home.warnings_with(&["no event fits"]).is_empty(), "{source:?}");
        relay.stop().await;
    }
}

#[tokio::test]
async fn ten_events_in_a_row_that_do_not_fit_blame_the_sink() {
    const PUBLISHED: usize = 30;
    for source in [Source::File, Source::Latest] {
        let mut partner = Partner::new(source).await;
        let relay = partner.home.start_ready().await;
        let bad: Vec<_> =
            (0..PUBLISHED).map(|number| sized("t", &format!("bad-{number:02}"), "large".into())).collect();
        partner.regards.publish_all(&bad).await;
        partner.home.wait_for_warning(&["partner", "no event fits the schema", MISFIT]).await;
        partner.regards.wait_until_acknowledged().await;
        assert_eq!(relay.metric("sink_breaker_open", &[("sink", "partner")]).await, Ok(Some(1.0)));
        // Nine, or on a busy machine nine that were sent directly and nine that went through the spool.
        let letters = partner.home.dead_letters().len();
        assert!((9..=18).contains(&letters), "{source:?}: {letters} before the tenth in a row");
        partner.set_schema(&SCHEMA.replace(r#""type":"int""#, r#""type":["int","string"]"#)).await;
        relay.signal("HUP");
        let records = partner.records.wait_for(PUBLISHED - letters).await;
        let last = records.iter().map(|record| String::from_utf8_lossy(&record.body).into_owned());
        let ids: Vec<String> =
            last.map(|body| body.find("bad-").map(|at| body[at..at + 6].to_owned()).unwrap_or_default()).collect();
        let expected: Vec<_> = (letters..PUBLISHED).map(|number| format!("bad-{number:02}")).collect();
        assert_eq!(ids, expected, "{source:?}: in order");
        assert_eq!(partner.home.dead_letters().len(), letters, "{source:?}");
        relay.stop().await;
    }
}

#[tokio::test]
async fn what_does_not_fit_is_shown_before_events_come() {
    for source in [Source::File, Source::Latest] {
        let partner = Partner::new(source).await;
        let checked = partner.home.run(&["check", "--connect"]);
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        for event in ["an event with every field", "an event with every optional field null"] {
            let misfit = format!("{event} doesn't fit the schema: body: size: found null, expected int");
            assert!(checked.status.success() && said.contains(&misfit), "{source:?}: {said}");
        }
        assert!(said.contains("warning: sink partner: "), "{source:?}: {said}");

        partner.home.write("sample.json", &sized("t", "c-1", "large".into()).sample());
        let explained = partner.home.does(&["explain", "--connect", "--json", "sample.json"]);
        let explained: Value = serde_json::from_str(&explained).expect("JSON");
        let dead_letter = json!({"reason": "render_failed", "detail": MISFIT});
        assert_eq!(explained["deliveries"][0]["dead_letter"], dead_letter, "{source:?}");
    }
}
