//! A thread or task that panics ends the relay with an error: nobody would notice a relay that runs and does nothing.

use std::time::Duration;

use lapin::ExchangeKind;
use regards_relay::tasks::{TaskKind, VARIABLE};

use crate::configuration::Edit;
use crate::support::response::lives;
use crate::support::wait::until_within;
use crate::support::{Home, Kafka, Rabbit, Receiver, Regards, Services, TokenServer, unique};

const ROUTES: &str = configuration! {
    sinks: {
        pipeline: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" } }"#,
        typed: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" }, format: { avro: { registry: { url: "http://127.0.0.1:9" } } } }"#,
        hook: r#"{ webhook: { url: "${HOOK}", auth: { oauth2: { token_url: "${TOKENS}", client_id: relay, client_secret: "${SECRET}" } } } }"#,
        partner: r#"{ amqp: { url: "${PARTNER}", exchange: partner.products, routing_key: "{{ status }}" } }"#,
        archive: "{ file: { path: archive.ndjson } }",
    },
};

const IN_POSTGRES: &str =
    "spool: { postgres: { url: '${POSTGRES}', password: '${PASSWORD}', schema: '${SCHEMA}', lease: 3s } }";

/// Time limit for the relay to detect a dead task on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_dead_thread_or_task_ends_the_relay_with_an_error() {
    if !cfg!(debug_assertions) {
        println!("a release build has no faults on purpose");
        return;
    }
    let partner = Rabbit::shared().new_vhost().await;
    partner.exchange("partner.products", ExchangeKind::Topic).await;
    let topic = Kafka::shared().topic("dead", 1).await;
    let receiver = Receiver::start().await;
    let tokens = TokenServer::start().await;
    let services = Services::shared();
    let database = format!(
        "postgres://{}@127.0.0.1:{}/{}?sslmode=require",
        services.postgres_user(),
        services.postgres_port(),
        services.postgres_database()
    );
    for &task in TaskKind::ALL {
        let regards = Regards::new().await;
        let routes = match task {
            // Only a spool in PostgreSQL has these.
            TaskKind::LeaseRenewal | TaskKind::PostgresConnection | TaskKind::RemoteCommands => {
                &format!("{ROUTES}\n{IN_POSTGRES}")
            }
            _ => ROUTES,
        };
        let home = Home::of(&regards, routes)
            .with("POSTGRES", &database)
            .with("PASSWORD", services.postgres_password())
            .with("SCHEMA", &unique("dead").replace('-', "_"))
            .with_kafka()
            .with("TOPIC", topic.topic())
            .with("HOOK", &receiver.url())
            .with("TOKENS", &tokens.url())
            .with("SECRET", TokenServer::CLIENT_SECRET)
            .with("PARTNER", &partner.admin_url())
            .with(VARIABLE, task.name());
        let mut relay = home.start();
        regards.publish_all(&lives("t", "dead", 3)).await;
        // This message becomes a dead letter, so that the spool is used too.
        let mut unreadable = crate::support::Response::new("t", "dead", "GRANTED");
        unreadable.body = b"not JSON".to_vec();
        regards.publish(&unreadable).await;
        until_within(PATIENCE, &format!("the death of {task:?} to be noticed"), async || {
            if !relay.runs() {
                return Ok(());
            }
            match task {
                TaskKind::AdminRequest => drop(relay.page("/livez").await),
                TaskKind::ControlRequest => drop(home.run(&["pause", "--sink", "hook"])),
                TaskKind::RetiredSink if relay.page("/readyz").await.is_ok_and(|(status, _)| status == 200) => {
                    home.write_routes(&ROUTES.edit("url: \"${HOOK}\"", "url: \"${HOOK}\", concurrency: 3"));
                    relay.signal("HUP");
                }
                _ => {}
            }
            Err("it runs".to_owned())
        })
        .await;
        assert_eq!(relay.ended().await.code(), Some(1), "{task:?}");
        let log = home.log();
        // Without the log thread, nothing is logged.
        if task != TaskKind::Log {
            let bug = log.lines().any(|line| line.contains("\"ERROR\"") && line.contains("a bug in the relay"));
            assert!(bug, "{task:?}: where it died is logged: {log}");
            assert!(log.contains("error: a part of the relay"), "{task:?}: {log}");
        }
    }
}
