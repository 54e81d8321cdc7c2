//! Logins at RabbitMQ by access tokens, which its plugin for OAuth 2.0 verifies: source and sink.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::oauth::assert_shows_no_token;
use crate::support::rabbit::Collected;
use crate::support::{Home, Regards, Response, Services, TokenServer, until};

const ROUTES: &str = r#"
version: 1
sources:
  regards:
    amqp:
      url: "${BROKER}"
      auth: { oauth2: { token_url: "${TOKENS}", client_id: relay, client_secret: "${file:secret}" } }
      queue: "${QUEUE}"
    expects: lta
sinks:
  out:
    amqp:
      url: "${BROKER}"
      auth: { oauth2: { token_url: "${TOKENS}", client_id: relay, client_secret: "${file:secret}" } }
      exchange: out
    retry: { initial_backoff: 100ms, max_backoff: 1s }
routes: [{ name: all, to: out }]
unrouted: dead_letter
"#;
/// The user of all tokens, as the broker sees it.
const USER: &str = TokenServer::CLIENT_ID;

struct World {
    regards: Regards,
    collected: Collected,
    tokens: TokenServer,
    home: Home,
}

impl World {
    async fn new() -> Self {
        Self::with(TokenServer::start_for(&Services::shared()).await).await
    }

    async fn with(tokens: TokenServer) -> Self {
        let regards = Regards::new().await;
        let vhost = &regards.vhost;
        vhost.fanout("out").await;
        let collected = vhost.collect("out").await;
        let home = Home::of(&regards, ROUTES)
            .with("BROKER", &vhost.url_without_login())
            .with("TOKENS", &tokens.url())
            .keeping_secret(TokenServer::CLIENT_SECRET);
        home.write("secret", TokenServer::CLIENT_SECRET);
        Self { regards, collected, tokens, home }
    }

    /// Publishes one message at a time, each when the one before has arrived, until `is_done`. Returns how many.
    async fn publish_until(&self, is_done: impl Fn() -> bool) -> usize {
        let mut count = 0;
        while !is_done() {
            self.regards.publish(&Response::new("t", &format!("c-{count}"), "SUCCESS")).await;
            count += 1;
            self.collected.wait_for(count).await;
        }
        count
    }

    async fn connections(&self) -> BTreeSet<String> {
        self.regards.vhost.connections_of(USER).await.into_iter().collect()
    }

    fn correlation_ids(&self) -> BTreeSet<String> {
        let id = |body: Value| body["correlationId"].as_str().expect("an id").to_owned();
        self.collected.all().iter().map(|message| id(message.json())).collect()
    }
}

/// Three renewals of tokens that live for 10 s: the broker takes each new one on the open connections.
#[tokio::test]
async fn tokens_are_renewed_on_open_connections() {
    let world = World::new().await;
    world.tokens.set_lifetime(Duration::from_secs(10));
    let relay = world.home.start_ready().await;
    world.regards.publish(&Response::new("t", "first", "SUCCESS")).await;
    world.collected.wait_for(1).await;
    world.collected.take();
    let before = until("the connections of the source and of the sink", async || {
        let connections = world.connections().await;
        if connections.len() == 2 { Ok(connections) } else { Err(format!("{connections:?}")) }
    })
    .await;
    let count = world.publish_until(|| world.tokens.issued().len() >= 4).await;
    assert_eq!(world.connections().await, before, "no connection was cut: {}", world.home.log());
    relay.stop().await;
    assert_eq!(world.collected.count(), count, "nothing is repeated");
    assert_eq!(world.correlation_ids().len(), count, "nothing is lost");
    assert!(world.home.warnings_with(&[]).is_empty(), "{}", world.home.log());
    assert_eq!(world.tokens.requests().len(), world.tokens.issued().len(), "source and sink share their tokens");
    world.regards.assert_left_as_found().await;
    assert_shows_no_token(&world.home, &world.tokens);
}

/// The token ends before the token server says so, and the broker refuses the next login with it.
#[tokio::test]
async fn a_refused_token_is_replaced_at_once() {
    let world = World::new().await;
    let ends_at = SystemTime::now() + Duration::from_secs(8);
    world.tokens.set_claims(&json!({ "exp": ends_at.duration_since(UNIX_EPOCH).unwrap().as_secs() }));
    let relay = world.home.start_ready().await;
    world.tokens.set_claims(&json!({}));
    until("the end of the token", async || if SystemTime::now() > ends_at { Ok(()) } else { Err(String::new()) }).await;
    // Of the source: the sink connects when it has something to publish.
    world.regards.vhost.close_connection_of(USER).await;
    world.tokens.wait_for_issued(2).await;
    relay.wait_until_ready().await;
    world.publish_until(|| world.collected.count() >= 5).await;
    relay.stop().await;
    assert_eq!(world.correlation_ids().len(), 5, "nothing is lost");
    assert_eq!(world.tokens.issued().len(), 2, "the new token is good");
    let refused = world.home.warnings_with(&["refuses the access token"]);
    assert!(refused.is_empty(), "a new token is used before anyone sees the refusal: {refused:?}");
    assert_shows_no_token(&world.home, &world.tokens);
}

/// The broker ends a connection with such an update. Source and sink log in again as soon as there is a token that it takes.
#[tokio::test]
async fn a_refused_update_of_a_token_means_a_new_connection() {
    let world = World::new().await;
    world.tokens.set_lifetime(Duration::from_secs(10));
    let relay = world.home.start_ready().await;
    world.publish_until(|| world.collected.count() >= 1).await;
    world.tokens.set_claims(&json!({ "aud": "another" }));
    relay.wait_until_unready(&["regards", "the broker refuses the access token"]).await;
    world.regards.publish(&Response::new("t", "late", "SUCCESS")).await;
    world.tokens.set_claims(&json!({}));
    relay.wait_until_ready().await;
    world.collected.wait_for(2).await;
    relay.stop().await;
    assert_eq!(world.collected.count(), 2, "nothing is repeated");
    assert!(world.correlation_ids().contains("late"), "nothing is lost");
    world.regards.assert_left_as_found().await;
    assert_shows_no_token(&world.home, &world.tokens);
}

/// As when the machine slept: nobody could renew the token before its end.
#[tokio::test]
async fn a_token_that_ended_means_a_new_connection() {
    let world = World::new().await;
    world.tokens.set_lifetime(Duration::from_secs(5));
    let relay = world.home.start_ready().await;
    world.publish_until(|| world.collected.count() >= 1).await;
    let before = until("the connections of the source and of the sink", async || {
        let connections = world.connections().await;
        if connections.len() == 2 { Ok(connections) } else { Err(format!("{connections:?}")) }
    })
    .await;
    world.tokens.hold();
    until("the end of the token", async || match world.tokens.requests().len() {
        // The request for the next one has timed out, so the token is over.
        requests if requests > world.tokens.issued().len() + 1 => Ok(()),
        requests => Err(format!("{requests} requests")),
    })
    .await;
    world.regards.publish(&Response::new("t", "late", "SUCCESS")).await;
    world.tokens.release();
    until("new connections", async || {
        let connections = world.connections().await;
        if connections.is_disjoint(&before) { Ok(()) } else { Err(format!("{connections:?}")) }
    })
    .await;
    until(
        "the late message",
        async || {
            if world.correlation_ids().contains("late") { Ok(()) } else { Err(world.home.log()) }
        },
    )
    .await;
    relay.stop().await;
    assert!(world.home.log().contains("an access token ended before there was a new one"), "{}", world.home.log());
    assert_eq!(world.correlation_ids().len(), 2, "nothing is lost");
}

#[tokio::test]
async fn refused_tokens_are_explained() {
    let world = World::new().await;
    assert!(!world.home.check_connect().contains("error"), "{}", world.home.check_connect());
    let refused = "the broker refuses the access token: check `audience` and `scope`";
    for (claims, expected) in [
        (json!({ "aud": "another" }), refused),
        (json!({ "exp": 1_000_000_000 }), refused),
        (json!({ "scope": "rabbitmq.read:another/*/*" }), "check `vhost`, and the scopes of the access token"),
        (json!({ "padding": "x".repeat(6_000) }), "Ask the broker's administrator for a larger `initial_frame_max`"),
    ] {
        world.tokens.set_claims(&claims);
        let said = world.home.check_connect();
        for of in ["error: source regards: ", "error: sink out: "] {
            assert!(said.lines().any(|line| line.starts_with(of) && line.contains(expected)), "{claims}: {said}");
        }
        assert!(world.tokens.issued().iter().all(|token| !said.contains(token)), "{said}");
    }
    // Signed by a key that the broker doesn't know.
    let stranger = World::with(TokenServer::start().await).await;
    let said = stranger.home.check_connect();
    assert!(said.contains(refused), "{said}");
    for token in world.tokens.issued().into_iter().chain(stranger.tokens.issued()) {
        assert!(!said.contains(&token), "{said}");
    }
}

#[tokio::test]
async fn a_source_waits_for_the_token_server_and_for_a_token_that_the_broker_takes() {
    let mut world = World::new().await;
    world.tokens.go_down().await;
    let relay = world.home.start();
    let server = world.tokens.url().replace("/token", "");
    relay.wait_until_unready(&["regards", "the token server can't be connected to", &server]).await;
    world.tokens.set_claims(&json!({ "aud": "another" }));
    world.tokens.come_back().await;
    relay.wait_until_unready(&["regards", "the broker refuses the access token"]).await;
    world.tokens.set_claims(&json!({}));
    relay.wait_until_ready().await;
    world.regards.publish(&Response::new("t", "at last", "SUCCESS")).await;
    world.collected.wait_for(1).await;
    relay.stop().await;
    assert_shows_no_token(&world.home, &world.tokens);
}
