//! Logins at Kafka by Kerberos (`GSSAPI`), with MIT's key distribution center.

use super::kafka_login;
use crate::support::kerberos::Realm;
use crate::support::{Home, Kafka};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  pipeline:
    kafka:
      brokers: "${KAFKA_TLS}"
      topic: "${TOPIC}"
      tls: { ca: "${CA}" }
      sasl: { mechanism: GSSAPI, principal: "${PRINCIPAL}", keytab: relay.keytab, service: "${SERVICE:-kafka}" }
    retry: { initial_backoff: 100ms, max_backoff: 1s }
  archive: { file: { path: archive.ndjson } }
routes: [{ name: all, to: [pipeline, archive] }]
unrouted: dead_letter
delivery: { shutdown_grace: 5s }
"#;

type World = kafka_login::World<Realm>;

/// A relay that logs in as this principal, with its keytab.
async fn world_of(principal: &str) -> (World, Home) {
    let (world, home) = World::of(Realm::shared().await, ROUTES).await;
    let home = world.authority.of(home).with("PRINCIPAL", principal);
    home.write_bytes("relay.keytab", &world.authority.keytab(principal));
    (world, home)
}

impl World {
    /// Each message is one record, in the order of their publication.
    async fn assert_all_there_once_in_order(&mut self) {
        let records = self.topic.all().await;
        let keys: Vec<_> = records.iter().map(|record| record.key.clone().expect("a key")).collect();
        let expected: Vec<_> = (0..self.published).map(|number| format!("c-{number}")).collect();
        assert_eq!(keys, expected);
    }
}

#[tokio::test]
async fn two_sinks_log_in_as_two_principals() {
    let routes = ROUTES.replace(
        "  archive: { file: { path: archive.ndjson } }",
        r#"  archive:
    kafka:
      brokers: "${KAFKA_TLS}"
      topic: "${OTHER_TOPIC}"
      tls: { ca: "${CA}" }
      sasl: { mechanism: GSSAPI, principal: other@RELAY.TEST, keytab: other.keytab }"#,
    );
    let (mut world, home) = world_of("relay").await;
    let mut other = Kafka::shared().topic("kerberos-other", 1).await;
    let home = home.with("OTHER_TOPIC", other.topic());
    home.write_routes(&routes);
    home.write_bytes("other.keytab", &world.authority.keytab("other"));
    let principals = ["relay", "other"];
    let before = principals.map(|principal| world.authority.logins(principal));
    let relay = home.start_ready().await;
    for _ in 0..3 {
        world.publish().await;
    }
    world.topic.wait_for(3).await;
    other.wait_for(3).await;
    for (principal, before) in principals.into_iter().zip(before) {
        assert!(world.authority.logins(principal) > before, "{principal} logged in");
    }
    relay.stop().await;
    world.assert_all_there_once_in_order().await;
    assert!(home.warnings_with(&[]).is_empty(), "{}", home.log());
    let said = home.check_connect();
    assert!(!said.contains("error"), "{said}");
}

/// The broker asks for a login each 10 s, and a ticket lives as long.
#[tokio::test]
async fn tickets_are_renewed_while_records_are_produced() {
    let (mut world, home) = world_of("short").await;
    let before = world.authority.logins("short");
    let relay = home.start_ready().await;
    world.publish_until(|realm| realm.logins("short") >= before + 4).await;
    relay.stop().await;
    world.assert_all_there_once_in_order().await;
    assert!(home.warnings_with(&[]).is_empty(), "{}", home.log());
}

#[tokio::test]
async fn a_realm_that_is_away_at_the_start_is_named_and_nothing_is_lost() {
    let (mut world, home) = world_of("relay").await;
    world.authority.proxy().go_down().await;
    let said = home.check_connect();
    let away = "no key distribution center of the realm answers";
    assert!(said.contains("error: sink pipeline: ") && said.contains(away) && said.contains("RELAY.TEST"), "{said}");
    let relay = home.start_ready().await;
    for _ in 0..3 {
        world.publish().await;
    }
    home.wait_for_lines("archive.ndjson", 3).await;
    home.wait_for_warning(&["pipeline", away, "RELAY.TEST"]).await;
    world.authority.proxy().come_back().await;
    world.topic.wait_for(3).await;
    home.wait_until_waiting("pipeline", 0).await;
    relay.stop().await;
    world.assert_all_there_once_in_order().await;
}

/// A ticket is used until it ends. Then deliveries wait.
#[tokio::test]
async fn a_realm_that_goes_away_later_delays_deliveries() {
    let (mut world, home) = world_of("brief").await;
    let relay = home.start_ready().await;
    world.publish().await;
    world.topic.wait_for(1).await;
    world.authority.proxy().go_down().await;
    home.wait_for_warning(&["pipeline", "no key distribution center of the realm answers"]).await;
    for _ in 0..3 {
        world.publish().await;
    }
    home.wait_for_lines("archive.ndjson", 4).await;
    world.authority.proxy().come_back().await;
    world.topic.wait_for(4).await;
    home.wait_until_waiting("pipeline", 0).await;
    relay.stop().await;
    world.assert_all_there_once_in_order().await;
}

#[tokio::test]
async fn a_realm_that_does_not_answer_delays_no_stop_and_nothing_is_lost() {
    let (mut world, home) = world_of("relay").await;
    world.authority.proxy().hold();
    let relay = home.start_ready().await;
    world.publish().await;
    home.wait_for_lines("archive.ndjson", 1).await;
    relay.stop().await;
    assert_eq!(home.waiting("pipeline"), 1);
    world.authority.proxy().release();
    let relay = home.start_ready().await;
    world.publish().await;
    world.topic.wait_for(2).await;
    relay.stop().await;
    world.assert_all_there_once_in_order().await;
}

#[tokio::test]
async fn refused_logins_are_explained() {
    let (world, home) = world_of("relay").await;
    let keytab = world.authority.keytab("relay");
    // Names of the same length.
    let renamed = |from: &str, to: &str| {
        let mut bytes = keytab.clone();
        while let Some(at) = bytes.windows(from.len()).position(|part| part == from.as_bytes()) {
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        }
        bytes
    };
    let mut said = String::new();
    for (principal, service, keytab, expected) in [
        ("relay", "nosuch", keytab.clone(), "doesn't know the principal of the brokers"),
        ("relax", "kafka", renamed("relay", "relax"), "doesn't know the principal of the sink"),
        ("relay@OTHER.TEST", "kafka", renamed("RELAY.TEST", "OTHER.TEST"), "names no key distribution center"),
        ("relay", "kafka", renamed("RELAY.TEST", "OTHER.TEST"), "the keytab has no key of the principal"),
        ("stale", "kafka", world.authority.keytab("stale"), "is not the current one"),
    ] {
        home.write_bytes("relay.keytab", &keytab);
        home.write_routes(&ROUTES.replace("${PRINCIPAL}", principal).replace("${SERVICE:-kafka}", service));
        let checked = home.check_connect();
        assert!(checked.contains("error: sink pipeline: ") && checked.contains(expected), "{expected}: {checked}");
        said += &checked;
    }
    assert!(said.lines().count() > 4);
}

#[tokio::test]
async fn a_keytab_that_is_replaced_takes_effect_without_a_restart() {
    let (mut world, home) = world_of("stale").await;
    let relay = home.start_ready().await;
    world.publish().await;
    home.wait_for_warning(&["pipeline", "is not the current one"]).await;
    home.write_bytes("relay.keytab", &world.authority.keytab("renewed"));
    world.topic.wait_for(1).await;
    home.wait_until_waiting("pipeline", 0).await;
    relay.stop().await;
    world.assert_all_there_once_in_order().await;
}
