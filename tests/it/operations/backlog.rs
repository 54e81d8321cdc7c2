//! The backlog as an operator sees it: which deliveries, since when, and why.

use serde_json::{Value, json};

use crate::support::{Home, Regards, Response, unique, until};

const ROUTES: &str = configuration! {
    sinks: {
        pipeline: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}.{{ tenant }}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"#,
    },
};

#[tokio::test]
async fn each_missing_topic_and_its_backlog_are_shown() {
    let regards = Regards::new().await;
    let topic = unique("missing");
    let home = Home::of(&regards, ROUTES).with_kafka().with("TOPIC", &topic);
    let relay = home.start_ready().await;
    regards.publish(&Response::new("cnes", "order-1", "GRANTED")).await;
    regards.publish(&Response::new("esa", "order-2", "ERROR")).await;
    regards.publish(&Response::new("esa", "order-2", "SUCCESS")).await;
    let missing = ["cnes", "esa"].map(|tenant| format!("topic {topic}.{tenant} doesn't exist"));

    // The log has a warning for each topic: one warning does not suppress the other.
    until("a warning for each topic", async || {
        let warned: Vec<_> = missing.iter().map(|missing| home.warnings_with(&["pipeline", missing]).len()).collect();
        if warned.iter().all(|lines| *lines > 0) { Ok(()) } else { Err(format!("{warned:?}")) }
    })
    .await;

    // `spool` shows each error of a sink, with the number of its deliveries.
    until("each cause in `spool`", async || {
        let shown = home.spool();
        let errors = shown.first().and_then(|line| line["errors"].as_array().cloned()).unwrap_or_default();
        let counted = |missing: &String| {
            errors
                .iter()
                .any(|error| error["count"] == 1 && error["error"].as_str().is_some_and(|text| text.contains(missing)))
        };
        if missing.iter().all(counted) { Ok(()) } else { Err(format!("{shown:?}")) }
    })
    .await;
    let table = home.does(&["spool"]);
    assert!(missing.iter().all(|missing| table.contains(missing)), "{table}");

    // The detailed list has the order of spooling: the order of receipt within a key, any order between keys.
    let waiting: Vec<Value> = home
        .does(&["spool", "--sink", "pipeline", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |order: &str| -> Vec<&Value> { waiting.iter().filter(|line| line["correlationId"] == order).collect() };
    let statuses = |order| of(order).iter().map(|line| line["status"].clone()).collect::<Vec<_>>();
    assert_eq!(
        (statuses("order-1"), statuses("order-2")),
        (vec![json!("GRANTED")], vec![json!("ERROR"), json!("SUCCESS")])
    );
    let (cnes, esa, behind) = (of("order-1")[0], of("order-2")[0], of("order-2")[1]);
    let attempts = [cnes, esa, behind].map(|line| line["attempts"].as_u64().unwrap() > 0);
    assert_eq!(attempts, [true, true, false], "the second of a key waits behind the first: {waiting:?}");
    assert!(cnes["lastError"].as_str().unwrap().contains(&missing[0]), "{waiting:?}");
    assert!(esa["nextAttempt"].is_string() && behind["nextAttempt"].is_null(), "{waiting:?}");
    assert_eq!(home.does(&["spool", "--sink", "pipeline", "--json", "--limit", "1"]).lines().count(), 1);
    assert_eq!(home.does(&["spool", "--sink", "pipeline", "--correlation-id", "order-2", "--json"]).lines().count(), 2);
    let slip = home.run(&["spool", "--sink", "pipelin"]);
    assert_eq!(slip.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&slip.stderr).contains("did you mean `pipeline`"));

    // A search among the dead letters points to the spooled delivery.
    let looked = home.run(&["dead-letters", "list", "--correlation-id", "order-2"]);
    let said = String::from_utf8_lossy(&looked.stderr);
    assert!(said.contains("order-2 has a spooled delivery for sink pipeline") && said.contains(&missing[1]), "{said}");
    relay.stop().await;
    regards.assert_left_as_found().await;
}
