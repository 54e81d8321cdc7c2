//! The journal and `trace`: where every event is, as the destinations' own clients see it.

use std::collections::{HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use serde_json::{Value, json};

use crate::configuration::Edit;
use crate::support::rabbit::AmqpMessage;
use crate::support::{
    Answer, Home, Kafka, Receiver, Regards, Response, Services, lines_of, start_with_backlog, until, with_webhook,
};

const EVERYWHERE: &str = configuration! {
    queue: "prefetch: 2000",
    sinks: {
        pipeline: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" } }"#,
        hook: r#"{ webhook: { url: "${HOOK}", concurrency: 32 }, retry: { initial_backoff: 50ms } }"#,
        partner: r#"{ amqp: { url: "${BROKER}", exchange: partner, routing_key: "{{ tenant }}.{{ status }}" } }"#,
        archive: r#"{ file: { path: "{{ tenant }}.ndjson" } }"#,
    },
    "spool: { max_size: 1GiB }",
};

const HOOK: &str = configuration! {
    sinks: {
        archive: r#"{ file: { path: "archive.ndjson" } }"#,
        hook: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 50ms, refuse_after: 1 } }"#,
    },
};

/// How many events and requests there are. `TRACE_EVENTS` sets another number of events.
const EVENTS: usize = 20_000;
const REQUESTS: usize = 1_000;
const TRACED: usize = 200;
const STATUSES: [&str; 4] = ["GRANTED", "SUCCESS", "ERROR", "DENIED"];
const TENANTS: [&str; 3] = ["cnes-a", "cnes-b", "esa"];

/// Where the copies of an event are, by sink: one unless an attempt had an unknown end.
type Deliveries = HashMap<String, Vec<Value>>;

fn traced(home: &Home, arguments: &[&str]) -> Value {
    let arguments: Vec<_> = ["trace", "--json"].iter().chain(arguments).copied().collect();
    serde_json::from_str(&home.does(&arguments)).expect("JSON")
}

fn events(trace: &Value) -> Vec<&Value> {
    trace["requests"].as_array().unwrap().iter().flat_map(|request| request["events"].as_array().unwrap()).collect()
}

/// Waits until the journal has the end of each of these deliveries, which it may be a second behind.
async fn wait_for_trace(home: &Home, id: &str, what: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    until(what, async || {
        let done = home.run(&["trace", id, "--json"]);
        let trace: Value = serde_json::from_slice(&done.stdout).map_err(|error| error.to_string())?;
        if is_there(&trace) { Ok(trace) } else { Err(trace.to_string()) }
    })
    .await
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn seconds(time: &Value) -> f64 {
    let time: jiff::Timestamp = time.as_str().expect("a time").parse().expect("RFC 3339");
    time.as_duration().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_agrees_with_what_every_destination_received() {
    let count = std::env::var("TRACE_EVENTS").map_or(EVENTS, |count| count.parse().expect("a number"));
    let regards = Regards::new().await;
    regards.vhost.exchange("partner", ExchangeKind::Topic).await;
    regards.vhost.queue("partner", FieldTable::default()).await;
    regards.vhost.bind("partner", "partner", "#").await;
    let partner = regards.vhost.collect("partner").await;
    let mut topic = Kafka::shared().topic("trace", 5).await;
    let receiver = Receiver::start().await;
    receiver.answers(|posted| Answer::Status(if posted.body.len() % 7 == 0 { 202 } else { 200 }));
    let services = Services::shared();
    let broker = regards.vhost.url_for(services.amqp_user(), services.amqp_password());
    let home = Home::of(&regards, &EVERYWHERE.edit("${HOOK}", &receiver.url()))
        .with("BROKER", &broker)
        .with("TOPIC", topic.topic())
        .with_kafka();
    let begun = now();
    let relay = home.start_ready().await;
    let response = |number: usize| {
        let request = number % REQUESTS;
        let status = STATUSES[number / REQUESTS % STATUSES.len()];
        Response::new(TENANTS[request % TENANTS.len()], &format!("order-{request}"), status)
            .field("message", format!("number {number}"))
    };
    let responses: Vec<_> = (0..count).map(response).collect();
    regards.publish_all(&responses).await;
    regards.wait_until_acknowledged().await;
    until("every spooled delivery to be delivered", async || {
        match home.spool().iter().map(|sink| sink["count"].as_u64().unwrap()).sum::<u64>() {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    })
    .await;
    relay.stop().await;
    let ended = now();

    // What the destinations have, by the id of the event.
    let mut expected: HashMap<String, Deliveries> = HashMap::new();
    let mut expect = |id: &str, sink: &str, to: Value| {
        expected.entry(id.to_owned()).or_default().entry(sink.to_owned()).or_default().push(to);
    };
    for record in topic.all().await {
        let to = json!({ "topic": record.topic, "partition": record.partition, "offset": record.offset });
        expect(&record.headers["regards-relay-id"], "pipeline", to);
    }
    for posted in receiver.accepted() {
        let to = json!({ "url": receiver.url(), "status": posted.answered.unwrap() });
        expect(posted.header("webhook-id").unwrap(), "hook", to);
    }
    let id_of = |message: &AmqpMessage| message.properties.message_id().as_ref().unwrap().to_string();
    until("every event at the partner", async || match partner.all().iter().map(id_of).collect::<HashSet<_>>().len() {
        distinct if distinct == count => Ok(()),
        distinct => Err(format!("{distinct} of {count} are there")),
    })
    .await;
    for message in partner.all() {
        let id = id_of(&message);
        expect(&id, "partner", json!({ "exchange": "partner", "routingKey": message.routing_key }));
    }
    for tenant in TENANTS {
        let path = home.data(&format!("{tenant}.ndjson"));
        let mut offset = 0;
        for line in std::fs::read_to_string(&path).unwrap().split_inclusive('\n') {
            let event: Value = serde_json::from_str(line).unwrap();
            expect(
                event["id"].as_str().unwrap(),
                "archive",
                json!({ "path": path.to_str().unwrap(), "offset": offset }),
            );
            offset += line.len();
        }
    }
    assert_eq!(expected.len(), count);

    for _ in 0..TRACED {
        let request = fastrand::usize(..REQUESTS);
        let (tenant, id) = (TENANTS[request % TENANTS.len()], format!("order-{request}"));
        let trace = traced(&home, &[&id]);
        let [traced] = trace["requests"].as_array().unwrap().as_slice() else { panic!("{trace}") };
        assert_eq!(traced["tenant"], tenant);
        assert_eq!(traced["correlationId"], id.as_str());
        assert_eq!(traced["productId"], format!("product of {id}"));
        let numbers: Vec<usize> = (request..count).step_by(REQUESTS).collect();
        assert_eq!(events(&trace).len(), numbers.len());
        let mut last = begun;
        for (event, number) in events(&trace).into_iter().zip(numbers) {
            let status = STATUSES[number / REQUESTS % STATUSES.len()];
            assert_eq!(event["status"], status, "in the order of receipt");
            assert_eq!(event["message"], format!("number {number}"));
            assert_eq!(event["source"], "regards");
            assert_eq!(event["routes"], json!(["all"]));
            assert_eq!(event["redelivered"], false);
            let received = seconds(&event["receivedAt"]);
            assert!(received >= last - 0.001 && received <= ended, "{event}");
            last = received;
            let mut deliveries = expected[event["id"].as_str().unwrap()].clone();
            assert_eq!(event["deliveries"].as_array().unwrap().len(), deliveries.len(), "{event}");
            for delivery in event["deliveries"].as_array().unwrap() {
                let copies = deliveries.remove(delivery["sink"].as_str().unwrap()).expect("a sink of its own");
                assert!(copies.contains(&delivery["to"]), "{event}: {copies:?}");
                assert_eq!(delivery["state"], "delivered", "{event}");
                // A broker on a busy machine may confirm too late: each copy is of an attempt of its own.
                let attempts = delivery["attempts"].as_u64().unwrap();
                assert!(attempts >= copies.len() as u64, "{event}: {copies:?}");
                assert_eq!(attempts == 1, delivery["lastError"].is_null(), "{event}");
                let at = seconds(&delivery["at"]);
                assert!((at - received - delivery["duration"].as_f64().unwrap()).abs() < 1.0, "{event}");
                assert!(at <= ended, "{event}");
            }
        }
    }
}

#[tokio::test]
async fn a_trace_shows_why_a_delivery_waits_and_what_became_of_it() {
    let (regards, receiver, home) = with_webhook(HOOK).await;
    let granted = Response::new("cnes-a", "order-1", "GRANTED");
    let relay = start_with_backlog(&home, &regards, &receiver, "hook", std::slice::from_ref(&granted)).await;
    let is_waiting = |trace: &Value| {
        events(trace).iter().any(|event| {
            event["deliveries"].as_array().unwrap().iter().any(|delivery| delivery["attempts"].as_u64() > Some(1))
        })
    };
    let trace = wait_for_trace(&home, "order-1", "two attempts", is_waiting).await;
    let of_sink = |trace: &Value, sink: &str| {
        events(trace)[0]["deliveries"].as_array().unwrap().iter().find(|delivery| delivery["sink"] == sink).cloned()
    };
    let waiting = of_sink(&trace, "hook").unwrap();
    assert_eq!(waiting["state"], "waiting");
    assert!(waiting["lastError"].as_str().unwrap().contains("503"), "{waiting}");
    assert!(seconds(&waiting["nextAttempt"]) > now() - 60.0);
    let archived = of_sink(&trace, "archive").unwrap();
    assert_eq!((&archived["state"], &archived["to"]["offset"]), (&json!("delivered"), &json!(0)));
    let text = home.does(&["trace", "order-1", "--utc"]);
    for part in [
        "request order-1 of tenant cnes-a, product product of order-1",
        "GRANTED (accepted)",
        "waiting since",
        "503",
        "+00:00",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    receiver.answers(|_| Answer::Status(422));
    let is_dead = |trace: &Value| of_sink(trace, "hook").is_some_and(|hook| hook["state"] == "dead_letter");
    let trace = wait_for_trace(&home, "order-1", "the dead letter", is_dead).await;
    let dead = of_sink(&trace, "hook").unwrap();
    let letter = home.dead_letters().pop().unwrap();
    assert_eq!((&dead["deadLetter"], &dead["attempts"]), (&letter["id"], &letter["attempts"]));
    assert!(dead["lastError"].as_str().unwrap().starts_with("refused: the receiver answered 422"), "{dead}");
    assert!(!home.does(&["trace", "order-1"]).contains("since then"));

    receiver.answers(|_| Answer::Status(200));
    home.does(&["dead-letters", "redrive", "--yes"]);
    let hook_states = |trace: &Value| -> Vec<String> {
        let deliveries = events(trace)[0]["deliveries"].as_array().unwrap();
        let of_hook = deliveries.iter().filter(|delivery| delivery["sink"] == "hook");
        of_hook.map(|delivery| delivery["state"].as_str().unwrap().to_owned()).collect()
    };
    let is_delivered = |trace: &Value| hook_states(trace).contains(&"delivered".to_owned());
    let trace = wait_for_trace(&home, "order-1", "the redrive", is_delivered).await;
    let states = hook_states(&trace);
    assert_eq!(states, ["dead_letter", "delivered"]);
    assert!(home.does(&["trace", "order-1"]).contains("(redriven or purged since then)"));
    relay.stop().await;
}

#[tokio::test]
async fn a_delivered_event_still_says_why_it_took_several_attempts() {
    let (regards, receiver, home) = with_webhook(HOOK).await;
    let granted = Response::new("cnes-a", "order-1", "GRANTED");
    let relay = start_with_backlog(&home, &regards, &receiver, "hook", std::slice::from_ref(&granted)).await;
    relay.stop().await;
    receiver.answers(|_| Answer::Status(204));
    let relay = home.start_ready().await;
    let hook = |trace: &Value| {
        let deliveries = events(trace)[0]["deliveries"].as_array().unwrap();
        deliveries.iter().find(|delivery| delivery["sink"] == "hook").cloned().unwrap_or_default()
    };
    let is_delivered = |trace: &Value| hook(trace)["state"] == "delivered";
    let delivered = hook(&wait_for_trace(&home, "order-1", "the delivery", is_delivered).await);
    relay.stop().await;
    assert!(delivered["lastError"].as_str().is_some_and(|error| error.contains("503")), "{delivered}");
    let text = home.does(&["trace", "order-1"]);
    assert!(text.contains("answered 204; before that: the receiver answered 503"), "{text}");
}

#[tokio::test]
async fn deliveries_and_dead_letters_older_than_the_journal_are_found() {
    let (regards, receiver, home) = with_webhook(HOOK).await;
    let relay =
        start_with_backlog(&home, &regards, &receiver, "hook", &[Response::new("esa", "waiting", "ERROR")]).await;
    receiver.answers(|posted| Answer::Status(if posted.json()["correlationId"] == "dead" { 422 } else { 503 }));
    regards.publish(&Response::new("esa", "dead", "ERROR")).await;
    until("a dead letter", async || match home.dead_letters().len() {
        1 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    relay.stop().await;
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(home.data(name));
    }
    // A new journal.
    let relay = home.start_ready().await;
    regards.publish(&Response::new("esa", "recorded", "ERROR")).await;
    wait_for_trace(&home, "recorded", "a new journal", |trace| events(trace).len() == 1).await;
    for (id, state) in [("waiting", "waiting"), ("product of waiting", "waiting"), ("dead", "dead_letter")] {
        let trace = traced(&home, &[id]);
        let [event] = events(&trace)[..] else { panic!("{trace}") };
        assert_eq!((&event["status"], &event["deliveries"][0]["state"]), (&json!("ERROR"), &json!(state)), "{trace}");
    }
    let trace = traced(&home, &["waiting"]);
    let id = events(&trace)[0]["id"].as_str().unwrap();
    assert_eq!(events(&traced(&home, &[id]))[0]["deliveries"][0]["sink"], "hook");
    relay.stop().await;
}

#[tokio::test]
async fn an_id_finds_its_requests_and_no_others() {
    let (regards, _receiver, home) = with_webhook(HOOK).await;
    let relay = home.start_ready().await;
    let published = [
        Response::new("cnes-a", "order-1", "GRANTED"),
        Response::new("esa", "order-1", "GRANTED"),
        Response::new("cnes-a", "order-1", "SUCCESS"),
        Response::new("cnes-a", "order-2", "GRANTED").field("productId", "product of order-1"),
        Response::new("cnes-a", "order-3", "GRANTED"),
    ];
    regards.publish_all(&published).await;
    regards.wait_until_acknowledged().await;
    relay.stop().await;
    let requests = |arguments: &[&str]| -> Vec<String> {
        let trace = traced(&home, arguments);
        let line = |request: &Value| {
            let statuses: Vec<_> =
                request["events"].as_array().unwrap().iter().map(|event| event["status"].as_str().unwrap()).collect();
            format!(
                "{} {}: {}",
                request["tenant"].as_str().unwrap(),
                request["correlationId"].as_str().unwrap(),
                statuses.join(" ")
            )
        };
        trace["requests"].as_array().unwrap().iter().map(line).collect()
    };
    assert_eq!(requests(&["order-1"]), ["cnes-a order-1: GRANTED SUCCESS", "esa order-1: GRANTED"]);
    assert_eq!(requests(&["order-1", "--tenant", "esa"]), ["esa order-1: GRANTED"]);
    let of_product = ["cnes-a order-1: GRANTED SUCCESS", "esa order-1: GRANTED", "cnes-a order-2: GRANTED"];
    assert_eq!(requests(&["product of order-1"]), of_product);
    let trace = traced(&home, &["order-1", "--tenant", "cnes-a"]);
    let success = events(&trace)[1]["id"].as_str().unwrap();
    assert_eq!(requests(&[success]), ["cnes-a order-1: GRANTED SUCCESS"]);

    let unknown = home.run(&["trace", "order-4"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(said.contains("no event of order-4 is recorded; the journal begins at 2"), "{said}");
    home.write_routes(&format!("{HOOK}journal: none\n"));
    let disabled = home.run(&["trace", "order-1"]);
    let said = String::from_utf8_lossy(&disabled.stderr);
    assert_eq!(disabled.status.code(), Some(1));
    assert!(said.contains("there is no journal: the configuration says `journal: none`"), "{said}");
}

#[tokio::test]
async fn without_a_journal_the_relay_leaves_no_file() {
    let (regards, _receiver, home) = with_webhook(&format!("{HOOK}journal: none\n")).await;
    let relay = home.start_ready().await;
    regards.publish(&Response::new("cnes-a", "order-1", "GRANTED")).await;
    regards.wait_until_acknowledged().await;
    relay.stop().await;
    assert!(!home.data("journal.db").exists());
}

#[tokio::test]
async fn a_journal_that_can_not_be_written_stops_nothing() {
    let (regards, receiver, home) = with_webhook(HOOK).await;
    std::fs::create_dir_all(home.data("journal.db/taken")).unwrap();
    let relay = home.start_ready().await;
    let published: Vec<_> = (0..50).map(|number| Response::new("esa", &format!("order-{number}"), "ERROR")).collect();
    regards.publish_all(&published).await;
    receiver.wait_for_accepted(50).await;
    relay.wait_for_metric("journal_skipped_total", &[], 150.0).await;
    relay.stop().await;
    let problems = home.warnings_with(&["the journal can't be written; events are relayed and not recorded"]);
    assert_eq!(problems.len(), 1, "{}", home.log());
}

#[tokio::test]
async fn a_crash_loses_no_message_and_no_record_that_was_written() {
    let routes = HOOK.without_sink("hook").edit("[archive, hook]", "archive");
    let (regards, _receiver, home) = with_webhook(&routes).await;
    let relay = home.start_ready().await;
    let response =
        |number: usize| Response::new("esa", &format!("order-{number}"), "ERROR").field("productId", "product of all");
    let responses: Vec<_> = (0..300).map(response).collect();
    let (recorded, others) = responses.split_at(100);
    regards.publish_all(recorded).await;
    // Each event and its delivery.
    relay.wait_for_metric("journal_records", &[], 200.0).await;
    regards.publish_all(others).await;
    relay.kill();
    let request = |request: &Value| request["correlationId"].as_str().unwrap().to_owned();
    let after_the_crash: Vec<_> =
        traced(&home, &["product of all"])["requests"].as_array().unwrap().iter().map(request).collect();
    for number in 0..recorded.len() {
        assert!(after_the_crash.contains(&format!("order-{number}")), "{number}: {after_the_crash:?}");
    }

    let relay = home.start_ready().await;
    regards.wait_until_acknowledged().await;
    relay.stop().await;
    let mut delivered: Vec<_> = lines_of(home.data("archive.ndjson")).iter().map(request).collect();
    delivered.sort_unstable();
    delivered.dedup();
    assert_eq!(delivered.len(), responses.len(), "no message is lost");
    let trace = traced(&home, &["product of all"]);
    let requests = trace["requests"].as_array().unwrap().len();
    // The others were acknowledged just before the crash.
    assert!((recorded.len()..=responses.len()).contains(&requests), "{requests}");
    assert_eq!(events(&trace).len(), requests, "a redelivered message is the same event");
}
