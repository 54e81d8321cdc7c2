use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::config::{ClientAuthentication, Secret};
use crate::net::Tls;

const SECRET: &str = "s3cret+of/the client";

fn config(url: &str) -> OAuth2Config {
    OAuth2Config {
        token_url: Secret::text(url),
        client_id: Secret::text("relay"),
        client: ClientAuthentication::Secret(Secret::text(SECRET)),
        scope: Some("a b".to_owned()),
        audience: None,
        tls: Tls::default(),
    }
}

/// A server that issues `token-1`, `token-2` and so on.
async fn server(expires_in: Option<u64>) -> MockServer {
    let server = MockServer::start().await;
    let number = AtomicUsize::new(1);
    let issue = move |_: &wiremock::Request| {
        let token = format!("token-{}", number.fetch_add(1, Ordering::SeqCst));
        ResponseTemplate::new(200)
            .set_body_json(
                serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": expires_in }),
            )
            // Others ask while the request is in flight.
            .set_delay(Duration::from_millis(100))
    };
    Mock::given(any()).respond_with(issue).mount(&server).await;
    server
}

async fn requests(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn equal_blocks_share_one_request() {
    let server = server(Some(3600)).await;
    let config = config(&server.uri());
    let sources: Vec<_> = (0..3).map(|_| source(&config)).collect();
    let tokens = join_all(sources.iter().flat_map(|source| [source.token(), source.token()])).await;
    assert!(tokens.into_iter().all(|token| token.unwrap().secret() == "token-1"));
    let other = source(&OAuth2Config { scope: None, ..config.clone() });
    assert_eq!(other.token().await.unwrap().secret(), "token-2");
    let sent = server.received_requests().await.unwrap();
    assert_eq!(sent.len(), 2);
    assert_eq!(String::from_utf8_lossy(&sent[0].body), "grant_type=client_credentials&scope=a+b");
    let authorization = sent[0].headers.get("authorization").unwrap().to_str().unwrap();
    assert_eq!(authorization, crate::net::http::basic("relay", "s3cret%2Bof%2Fthe+client"));
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let server = server(Some(3600)).await;
    let source = source(&config(&server.uri()));
    let first = source.token().await.unwrap();
    source.refuse(&first);
    assert!(source.current().is_err());
    let second = source.token().await.unwrap();
    assert_eq!((second.secret(), second.is_after(1), first.is_after(1)), ("token-2", true, false));
    // Another request had the first one, too.
    source.refuse(&first);
    assert_eq!(source.token().await.unwrap().secret(), "token-2");
    assert_eq!(requests(&server).await, 2);
    let mut issued = source.subscribe();
    issued.mark_unchanged();
    source.replace(&second);
    issued.changed().await.unwrap();
    assert_eq!(source.current().unwrap().secret(), "token-3");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_although_nobody_asks() {
    let server = server(Some(2)).await;
    let source = source(&config(&server.uri()));
    let mut issued = source.subscribe();
    for number in 1..=3 {
        issued.changed().await.unwrap();
        assert_eq!(source.current().unwrap().secret(), format!("token-{number}"));
        // The one before has not ended yet.
        assert!(source.current().is_ok_and(|token| !token.has_ended()));
    }
    assert_eq!(source.mask("token-1, token-3 and toke"), "***, *** and toke");
    drop(source);
}

#[tokio::test]
async fn a_token_of_unknown_life_is_renewed_after_an_hour_and_does_not_end() {
    let server = server(None).await;
    let token = source(&config(&server.uri())).token().await.unwrap();
    let due = token.due_in();
    assert!(due > Duration::from_mins(45) && due <= Duration::from_mins(48), "{due:?}");
    assert!(!token.has_ended());
}

#[tokio::test]
async fn a_server_that_is_away_or_refuses_is_named_without_the_secret() {
    let server = MockServer::start().await;
    let said = format!("no client {} ({SECRET})", crate::net::http::basic("relay", "s3cret%2Bof%2Fthe+client"));
    let refusal = ResponseTemplate::new(401)
        .set_body_json(serde_json::json!({ "error": "invalid_client", "error_description": said }));
    Mock::given(any()).respond_with(refusal).mount(&server).await;
    let uri = server.uri();
    let error = source(&config(&uri)).token().await.unwrap_err().to_string();
    let expected = "answered 401 Unauthorized: invalid_client: no client Basic *** (***); check `client_id`, and `client_secret` or `private_key`";
    assert_eq!(error, format!("no access token: the token server {uri} {expected}"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = source(&config(&format!("http://{closed}/t0ken"))).token().await.unwrap_err().to_string();
    assert!(error.starts_with("no access token: the token server can't be connected to"), "{error}");
    assert!(error.ends_with(&format!("(`token_url` http://{closed})")), "{error}");
}

#[tokio::test]
async fn a_rotated_secret_is_read_for_the_next_token() {
    let server = server(Some(3600)).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one").unwrap();
    let part = crate::config::Part::File { path: file.path().to_owned(), encode: false };
    let client = ClientAuthentication::Secret(Secret::parts(vec![part]));
    let source = source(&OAuth2Config { client, ..config(&server.uri()) });
    let token = source.token().await.unwrap();
    std::fs::write(file.path(), "two\n").unwrap();
    source.refuse(&token);
    source.token().await.unwrap();
    let sent = server.received_requests().await.unwrap();
    let sent: Vec<_> = sent.iter().map(|sent| sent.headers.get("authorization").unwrap().to_str().unwrap()).collect();
    assert_eq!(sent, ["one", "two"].map(|secret| crate::net::http::basic("relay", secret)));
}
