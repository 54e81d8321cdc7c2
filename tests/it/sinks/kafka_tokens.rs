//! Logins at Kafka by access tokens (`OAUTHBEARER`), which the broker verifies by the keys of the token server.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::kafka_login;
use super::oauth::assert_shows_no_token;
use crate::support::{Home, Services, TokenServer};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  pipeline:
    kafka:
      brokers: "${KAFKA_TLS}"
      topic: "${TOPIC}"
      tls: { ca: "${CA}" }
      sasl:
        mechanism: OAUTHBEARER
        oauth2: { token_url: "${TOKENS}", client_id: relay, client_secret: "${file:secret}" }
    retry: { initial_backoff: 100ms, max_backoff: 1s }
  archive: { file: { path: archive.ndjson } }
routes: [{ name: all, to: [pipeline, archive] }]
unrouted: dead_letter
delivery: { shutdown_grace: 5s }
"#;

type World = kafka_login::World<TokenServer>;

async fn world() -> (World, Home) {
    world_with(TokenServer::start_for(&Services::shared()).await).await
}

async fn world_with(tokens: TokenServer) -> (World, Home) {
    let (world, home) = World::of(tokens, ROUTES).await;
    let home = home.with("TOKENS", &world.authority.url()).keeping_secret(TokenServer::CLIENT_SECRET);
    home.write("secret", TokenServer::CLIENT_SECRET);
    (world, home)
}

impl World {
    /// Each message is one record.
    async fn assert_all_there_once(&mut self) {
        let records = self.topic.all().await;
        let keys: BTreeSet<_> = records.iter().map(|record| record.key.clone()).collect();
        assert_eq!((records.len(), keys.len()), (self.published, self.published));
    }
}

/// Three renewals of tokens that live for 10 s. The broker ends a session with its token, unless the client logs in again on the open
/// connection (`connections.max.reauth.ms`).
#[tokio::test]
async fn tokens_are_renewed_while_records_are_produced() {
    let (mut world, home) = world().await;
    world.authority.set_lifetime(Duration::from_secs(10));
    let relay = home.start_ready().await;
    world.publish_until(|tokens| tokens.issued().len() >= 4).await;
    relay.stop().await;
    world.assert_all_there_once().await;
    assert!(home.warnings_with(&[]).is_empty(), "{}", home.log());
    assert_shows_no_token(&home, &world.authority);
}

#[tokio::test]
async fn refused_tokens_are_explained() {
    let (world, home) = world().await;
    assert!(!home.check_connect().contains("error"), "{}", home.check_connect());
    let refused = "the broker refuses the access token: check `audience` and `scope`";
    for claims in [json!({ "aud": "another" }), json!({ "exp": 1_000_000_000 })] {
        world.authority.set_claims(&claims);
        let said = home.check_connect();
        assert!(said.contains("error: sink pipeline: ") && said.contains(refused), "{claims}: {said}");
    }
    // Signed by a key that the broker doesn't know.
    let (stranger, strangers) = world_with(TokenServer::start().await).await;
    let mut said = strangers.check_connect();
    assert!(said.contains(refused), "{said}");
    world.authority.set_secret("another");
    said += &home.check_connect();
    assert!(said.contains("error: sink pipeline: no access token: the token server "), "{said}");
    for token in world.authority.issued().into_iter().chain(stranger.authority.issued()) {
        assert!(!said.contains(&token), "{said}");
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced() {
    let (mut world, home) = world().await;
    world.authority.set_claims(&json!({ "aud": "another" }));
    let relay = home.start_ready().await;
    world.publish().await;
    world.authority.wait_for_issued(2).await;
    world.authority.set_claims(&json!({}));
    world.topic.wait_for(1).await;
    home.wait_until_waiting("pipeline", 0).await;
    relay.stop().await;
    world.assert_all_there_once().await;
    let why = ["pipeline", "the broker refuses the access token", "invalid_token"];
    assert!(!home.warnings_with(&why).is_empty(), "{}", home.log());
    assert_shows_no_token(&home, &world.authority);
}

/// A token server that doesn't answer holds up neither the sink, as long as it has a token, nor the rest of the relay.
#[tokio::test]
async fn a_silent_token_server_blocks_nothing() {
    let (mut world, home) = world().await;
    world.authority.set_lifetime(Duration::from_secs(10));
    let relay = home.start_ready().await;
    world.publish_until(|tokens| tokens.issued().len() == 1).await;
    world.authority.hold();
    // The renewal is requested, and not answered.
    world.publish_until(|tokens| tokens.requests().len() >= 2).await;
    for _ in 0..10 {
        world.publish().await;
        world.topic.wait_for(world.published).await;
    }
    world.authority.release();
    world.publish_until(|tokens| tokens.issued().len() >= 3).await;
    relay.stop().await;
    world.assert_all_there_once().await;
}

#[tokio::test]
async fn a_sink_without_a_token_keeps_its_deliveries_and_names_the_token_server() {
    let (mut world, home) = world().await;
    world.authority.hold();
    let relay = home.start_ready().await;
    world.publish().await;
    home.wait_for_lines("archive.ndjson", 1).await;
    world.authority.go_down().await;
    world.authority.release();
    let server = world.authority.url().replace("/token", "");
    let why = ["no access token", "the token server can't be connected to", server.as_str()];
    home.wait_for_warning(&why).await;
    world.authority.come_back().await;
    world.topic.wait_for(1).await;
    relay.stop().await;
    world.assert_all_there_once().await;
}

#[tokio::test]
async fn extensions_are_sent_with_the_token() {
    let (mut world, home) = world().await;
    let routes = ROUTES
        .replace("OAUTHBEARER", "OAUTHBEARER\n        extensions: { logicalCluster: lkc-1, identityPoolId: pool 2 }");
    home.write_routes(&routes);
    let relay = home.start_ready().await;
    world.publish().await;
    world.topic.wait_for(1).await;
    relay.stop().await;
    world.assert_all_there_once().await;
    assert!(home.warnings_with(&[]).is_empty(), "{}", home.log());
    // Kafka doesn't say what it got.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    home.write_routes(&routes.replace("${KAFKA_TLS}", &address).replace("      tls: { ca: \"${CA}\" }\n", ""));
    let mut check = home.begin(&["check", "--connect"], Stdio::null());
    let login = loop {
        let (client, _) = listener.accept().await.expect("a client");
        if let Some(login) = read_login(client).await {
            break login;
        }
    };
    check.kill().expect("killed");
    check.wait().expect("gone");
    let token = world.authority.issued().pop().expect("a token");
    let text = String::from_utf8_lossy(&login);
    assert!(text.contains(&format!("\u{1}auth=Bearer {token}\u{1}")), "{text}");
    for extension in ["logicalCluster=lkc-1", "identityPoolId=pool 2"] {
        assert!(text.contains(&format!("\u{1}{extension}\u{1}")), "{extension}: {text}");
    }
}

/// Speaks just enough of Kafka's protocol to be sent the login.
async fn read_login(mut client: TcpStream) -> Option<Vec<u8>> {
    loop {
        let size = client.read_u32().await.ok()?;
        let mut request = vec![0; usize::try_from(size).expect("a size")];
        client.read_exact(&mut request).await.ok()?;
        let answer = match request[..4] {
            // ApiVersions, of which only version 0 is known here.
            [0, 18, 0, 0] => {
                [&[0, 0, 0, 0, 0, 3][..], &[0, 17, 0, 0, 0, 1], &[0, 18, 0, 0, 0, 0], &[0, 36, 0, 0, 0, 0]].concat()
            }
            [0, 18, ..] => vec![0, 35, 0, 0, 0, 0],
            // SaslHandshake
            [0, 17, ..] => [&[0, 0, 0, 0, 0, 1, 0, 11], b"OAUTHBEARER".as_slice()].concat(),
            // SaslAuthenticate
            [0, 36, ..] => return Some(request),
            ref other => panic!("a request {other:?}"),
        };
        client.write_u32(u32::try_from(answer.len() + 4).expect("a size")).await.ok()?;
        client.write_all(&[&request[4..8], &answer].concat()).await.ok()?;
    }
}
