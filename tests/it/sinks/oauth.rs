//! Access tokens by OAuth 2.0 client credentials, from a token server that signs them.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use crate::configuration::Edit;
use crate::support::response::lives;
use crate::support::token_server::write_client_key;
use crate::support::{Answer, Home, Receiver, Regards, Response, TokenServer, until, with_webhook};

const ROUTES: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}", auth: { oauth2: { token_url: "${TOKENS}", client_id: relay, client_secret: "${file:secret}" } } }, retry: { initial_backoff: 100ms, max_backoff: 200ms } }"#,
    },
};

/// Like [`with_webhook`], with a token server. The receiver answers 401 to a request without a valid token.
async fn with_tokens() -> (Regards, Receiver, TokenServer, Home) {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    let tokens = TokenServer::start().await;
    let bearers = tokens.bearers();
    receiver.answers(move |posted| Answer::Status(if bearers.accept(&posted.headers) { 204 } else { 401 }));
    home.write("secret", TokenServer::CLIENT_SECRET);
    let home = home.with("TOKENS", &tokens.url()).keeping_secret(TokenServer::CLIENT_SECRET);
    (regards, receiver, tokens, home)
}

fn messages(count: usize) -> Vec<Response> {
    (0..count).map(|number| Response::new("t", &format!("product-{number}"), "GRANTED")).collect()
}

/// Neither the log, nor what the commands show of the spool, has a token in it.
pub fn assert_shows_no_token(home: &Home, tokens: &TokenServer) {
    let shown = [
        home.log(),
        home.does(&["dead-letters", "list", "--json"]),
        Value::from(home.dead_letters()).to_string(),
        Value::from(home.spool()).to_string(),
    ];
    for token in tokens.issued() {
        let signature = token.rsplit('.').next().expect("a signature");
        assert!(shown.iter().all(|text| !text.contains(signature)), "the relay shows a token: {shown:?}");
    }
}

#[tokio::test]
async fn tokens_of_seconds_are_renewed_while_a_webhook_delivers() {
    let (regards, receiver, tokens, home) = with_tokens().await;
    tokens.set_lifetime(Duration::from_secs(3));
    home.write_routes(&ROUTES.edit("url: \"${HOOK}\"", "url: \"${HOOK}\", rate: 20/s"));
    let relay = home.start_ready().await;
    regards.publish_all(&messages(160)).await;
    receiver.wait_for_accepted(160).await;
    relay.stop().await;
    let posted = receiver.posted();
    assert_eq!(posted.len(), 160, "every request had a valid token");
    let used: HashSet<_> = posted.iter().filter_map(|posted| posted.header("authorization")).collect();
    assert!(used.len() >= 3, "{} tokens in 8 s", used.len());
    assert_shows_no_token(&home, &tokens);
}

#[tokio::test]
async fn a_401_is_answered_by_one_new_token_at_once() {
    let (regards, receiver, tokens, home) = with_tokens().await;
    let relay = home.start_ready().await;
    for round in 1..=3 {
        regards.publish_all(&lives("t", &format!("round-{round}"), 5)).await;
        receiver.wait_for_accepted(round * 10).await;
        assert_eq!(tokens.issued().len(), round);
        tokens.revoke();
    }
    assert!(home.warnings_with(&["sink"]).is_empty(), "no attempt failed: {}", home.log());
    relay.stop().await;
    assert_shows_no_token(&home, &tokens);
}

#[tokio::test]
async fn a_token_that_is_always_refused_is_asked_for_once_with_each_attempt() {
    let (regards, receiver, tokens, home) = with_tokens().await;
    // This receiver repeats what it gets.
    receiver.answers(|posted| {
        let token = posted.header("authorization").unwrap_or_default();
        Answer::Body(401, format!("{token} is not valid"))
    });
    home.write_routes(&ROUTES.edit("max_backoff: 200ms", "max_backoff: 200ms, max_attempts: 4"));
    let relay = home.start_ready().await;
    regards.publish_all(&messages(1)).await;
    let dead = until("a dead letter", async || home.dead_letters().pop().ok_or_else(String::new)).await;
    relay.stop().await;
    let detail = dead["detail"].as_str().expect("a text");
    assert!(detail.contains("401 Unauthorized") && detail.contains("Bearer *** is not valid"), "{detail}");
    // The first attempt sends the token of the start and a new one, each further attempt only a new one.
    assert_eq!((receiver.posted().len(), tokens.issued().len()), (5, 5));
    let used: HashSet<_> =
        receiver.posted().iter().map(|posted| posted.header("authorization").unwrap_or_default().to_owned()).collect();
    assert_eq!(used.len(), 5, "no token is sent again");
    assert_shows_no_token(&home, &tokens);
}

#[tokio::test]
async fn a_token_server_that_is_away_is_named_and_nothing_is_lost() {
    let (regards, receiver, mut tokens, home) = with_tokens().await;
    tokens.go_down().await;
    let relay = home.start_ready().await;
    regards.publish_all(&messages(5)).await;
    home.wait_until_waiting("hook", 5).await;
    let server = tokens.url().replace("/token", "");
    home.wait_for_warning(&["hook", "the token server can't be connected to", &server]).await;
    assert!(receiver.posted().is_empty(), "nothing is sent without a token");
    tokens.come_back().await;
    receiver.wait_for_accepted(5).await;
    home.wait_until_waiting("hook", 0).await;
    relay.stop().await;
    assert_shows_no_token(&home, &tokens);
}

#[tokio::test]
async fn a_client_proves_itself_by_its_private_key() {
    let (regards, receiver, tokens, home) = with_tokens().await;
    tokens.expect_assertions(&write_client_key(&home.path("client.key")));
    home.write_routes(
        &ROUTES.edit("client_secret: \"${file:secret}\"", "private_key: client.key, key_id: one, scope: events"),
    );
    let relay = home.start_ready().await;
    regards.publish_all(&messages(3)).await;
    receiver.wait_for_accepted(3).await;
    let request = tokens.requests().pop().expect("a request");
    assert_eq!(request.form["scope"], "events");
    assert!(request.headers.get("authorization").is_none(), "no secret goes along");
    relay.stop().await;
    assert_shows_no_token(&home, &tokens);
}

#[tokio::test]
async fn check_connect_and_send_test_need_a_token() {
    let (_regards, receiver, tokens, home) = with_tokens().await;
    let said = |arguments: &[&str]| String::from_utf8_lossy(&home.run(arguments).stderr).into_owned();
    let checked = said(&["check", "--connect"]);
    assert!(checked.contains("the receiver can be connected to, and the token server issues a token"), "{checked}");
    home.does(&["send-test", "--sink", "hook"]);
    assert_eq!(receiver.accepted().len(), 1);
    tokens.set_secret("another");
    for arguments in [&["check", "--connect"][..], &["send-test", "--sink", "hook"]] {
        let done = home.run(arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(!done.status.success() && said.contains("invalid_client: wrong secret; check `client_id`"), "{said}");
    }
}
