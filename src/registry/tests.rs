//! Requests to a registry that a test plays.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use tokio::sync::watch;

use super::*;
use crate::config::{Secret, WebhookAuth};
use crate::event::{SchemaKind, Template};
use crate::net::Tls;

async fn server<R: Future<Output = Response> + Send>(
    answer: impl Fn(Parts, String) -> R + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move |parts: Parts, body: String| {
        let answer = answer.clone();
        async move { answer(parts, body).await }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn config(url: &str) -> RegistryConfig {
    RegistryConfig {
        url: Secret::text(url),
        subject: Template::compile("unused").unwrap(),
        register: false,
        auth: None,
        tls: Tls::default(),
    }
}

fn open(config: &RegistryConfig) -> Registry {
    let wanted = Wanted::Exactly { schema: Schema::of_event(SchemaKind::Avro), origin: "the schema".to_owned() };
    Registry::open(config, wanted).unwrap()
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, r#"{"error_code":40401,"message":"No artifact"}"#).into_response()
}

#[tokio::test]
async fn a_subject_is_asked_for_once_however_many_wait_for_it() {
    let (requests, (go, going)) = (Arc::new(AtomicUsize::new(0)), watch::channel(false));
    let count = Arc::clone(&requests);
    let address = server(move |parts, body| {
        let (count, mut going) = (Arc::clone(&count), going.clone());
        async move {
            assert_eq!(parts.uri.to_string(), "/ccompat/subjects/a%2Fb-value?normalize=true");
            assert!(body.contains(r#""schemaType":"AVRO""#), "{body}");
            count.fetch_add(1, Ordering::SeqCst);
            going.wait_for(|going| *going).await.unwrap();
            r#"{"subject":"a/b-value","id":7,"version":1}"#.into_response()
        }
    })
    .await;
    let registry = Arc::new(open(&config(&format!("http://{address}/ccompat/"))));
    assert_eq!(registry.known("a/b-value"), None);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move { registry.resolve("a/b-value").await })
        })
        .collect();
    go.send(true).unwrap();
    for waiter in waiting {
        assert_eq!(waiter.await.unwrap().unwrap().id, 7);
    }
    assert_eq!((requests.load(Ordering::SeqCst), registry.known("a/b-value").map(|known| known.id)), (1, Some(7)));
}

#[tokio::test]
async fn a_schema_is_registered_only_if_it_is_missing_and_the_sink_may() {
    let address = server(|parts, _| async move {
        if parts.uri.path().ends_with("/versions") { r#"{"id":8}"#.into_response() } else { not_found() }
    })
    .await;
    let config = config(&format!("http://{address}"));
    let error = open(&config).resolve("s").await.unwrap_err();
    expect_test::expect![
        "the registry doesn't have this schema under the subject s: register the schema there, or set `register: true`"
    ]
    .assert_eq(&error.to_string());
    assert_eq!(open(&RegistryConfig { register: true, ..config }).resolve("s").await.unwrap().id, 8);
}

#[tokio::test]
async fn a_server_without_the_api_is_no_registry_without_the_schema() {
    let address = server(|_, _| async { (StatusCode::NOT_FOUND, "no such page").into_response() }).await;
    let config = RegistryConfig { register: true, ..config(&format!("http://{address}")) };
    let error = open(&config).resolve("s").await.unwrap_err().to_string();
    assert!(error.contains("404 Not Found (no such page); check `registry.url`"), "{error}");
}

#[tokio::test]
async fn those_that_wait_share_an_error_and_a_later_one_asks_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let address = server(move |_, _| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    })
    .await;
    let registry = open(&config(&format!("http://{address}")));
    let (one, two) = tokio::join!(registry.resolve("s"), registry.resolve("s"));
    assert_eq!((one.clone().unwrap_err(), one), (two.clone().unwrap_err(), two));
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    let held = registry.subject("s");
    *held.lock().await = Some((Instant::now().checked_sub(ERROR_HOLD).unwrap(), RegistryError::settings(None, "old")));
    registry.resolve("s").await.unwrap_err();
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn logins_are_sent_and_never_shown() {
    let address = server(|parts, _| async move {
        let login = parts.headers.get("authorization").map(|login| login.to_str().unwrap().to_owned());
        match login.as_deref() {
            Some("Bearer t0ken") => r#"{"id":1,"version":1}"#.into_response(),
            Some("Basic bWU6cGFzcw==") => r#"{"id":2,"version":1}"#.into_response(),
            _ => StatusCode::UNAUTHORIZED.into_response(),
        }
    })
    .await;
    let plain = config(&format!("http://{address}"));
    let bearer = RegistryConfig { auth: Some(WebhookAuth::Bearer(Secret::text("t0ken"))), ..plain.clone() };
    assert_eq!(open(&bearer).resolve("s").await.unwrap().id, 1);
    assert_eq!(open(&config(&format!("http://me:pass@{address}"))).resolve("s").await.unwrap().id, 2);
    let error = open(&plain).resolve("s").await.unwrap_err().to_string();
    assert!(error.ends_with("401 Unauthorized; check `registry.auth`"), "{error}");
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = open(&config(&format!("http://me:pass@{free}"))).resolve("s").await.unwrap_err().to_string();
    assert!(
        error.contains("of the subject s: the registry can't be connected to") && !error.contains("pass"),
        "{error}"
    );
}

/// A registry whose subject `s` has a schema that refers to `r-1`, which refers to `r-2` and so on up to `r-LAST`, which refers to `r-1`.
async fn with_references(last: usize, requests: Arc<AtomicUsize>) -> SocketAddr {
    server(move |parts, _| {
        requests.fetch_add(1, Ordering::SeqCst);
        async move {
            let subject = parts.uri.path().split('/').nth(2).unwrap_or_default();
            let number = subject.strip_prefix("r-").map_or(0, |number| number.parse::<usize>().unwrap());
            let next = if number == last { 1 } else { number + 1 };
            let field = format!(r#"{{"name":"next","type":["null","demo.R{next}"],"default":null}}"#);
            let schema = format!(r#"{{"type":"record","name":"R{number}","namespace":"demo","fields":[{field}]}}"#);
            let reference = serde_json::json!({"name": format!("demo.R{next}"), "subject": format!("r-{next}"), "version": 1});
            let answer = serde_json::json!({"subject": subject, "version": 1, "id": number + 1, "schema": schema, "references": [reference]});
            answer.to_string().into_response()
        }
    })
    .await
}

fn latest(address: SocketAddr) -> Registry {
    let wanted = Wanted::Latest { kind: SchemaKind::Avro, message: None };
    Registry::open(&config(&format!("http://{address}")), wanted).unwrap()
}

#[tokio::test]
async fn references_are_fetched_once_each_and_compiled_with_the_schema() {
    let requests = Arc::new(AtomicUsize::new(0));
    let registry = latest(with_references(32, Arc::clone(&requests)).await);
    let RegisteredSchema { id, schema } = registry.resolve("s").await.unwrap();
    assert_eq!((id, requests.load(Ordering::SeqCst)), (1, 33));
    let names: Vec<_> = schema.text().references.iter().map(|reference| reference.name.as_str()).collect();
    assert_eq!((names.len(), names.first(), names.last()), (32, Some(&"demo.R32"), Some(&"demo.R1")));
    let mut out = Vec::new();
    schema.encode_json(br#"{"next": {"next": null, "other": 1}}"#, &mut out).unwrap();
    assert_eq!(out, [2, 0]);

    assert_eq!(registry.refresh("s").await, Refreshed::Unchanged);
    assert_eq!(requests.load(Ordering::SeqCst), 34, "an id that is known is not read again");
}

#[tokio::test]
async fn a_schema_has_at_most_32_references() {
    let error = latest(with_references(33, Arc::default()).await).resolve("s").await.unwrap_err();
    expect_test::expect![
        "the latest schema under the subject s refers to more than 32 others: register one with fewer references"
    ]
    .assert_eq(&error.to_string());
}

#[tokio::test]
async fn what_the_latest_schema_lacks_is_told() {
    let check = async |answer: &'static str, expected: expect_test::Expect| {
        let address = server(move |parts, _| async move {
            if parts.uri.path().starts_with("/subjects/s/") { answer.into_response() } else { not_found() }
        })
        .await;
        expected.assert_eq(&latest(address).resolve("s").await.unwrap_err().to_string());
    };
    check(
        r#"{"version": 3, "id": 1, "schema": "{\"type\": \"record\"}"}"#,
        expect_test::expect![
            "the latest schema under the subject s (version 3) can't be used: No `name` field; register one that can"
        ],
    )
    .await;
    check(
        r#"{"version": 3, "id": 1, "schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"}"#,
        expect_test::expect!["the latest schema under the subject s is of the type PROTOBUF, and the sink encodes by AVRO: check `subject` and `format`"],
    )
    .await;
    check(
        r#"{"version": 3, "id": 1, "schema": "\"a.B\"", "references": [{"name": "a.B", "subject": "b", "version": 2}]}"#,
        expect_test::expect!["the latest schema under the subject s refers to a.B, and the registry doesn't have version 2 of the subject b: register it again"],
    )
    .await;
    check(r#"{"versions": [1]}"#, expect_test::expect!["no schema of the subject s: the answer is not that of a registry; check that the registry runs, and `registry.url`"]).await;
    let address = server(|_, _| async { not_found() }).await;
    let error = latest(address).resolve("s").await.unwrap_err().to_string();
    assert!(error.starts_with("the registry has no schema under the subject s: register one there"), "{error}");
}

#[tokio::test]
async fn a_schema_that_is_gone_is_asked_for_again() {
    let (gone, is_gone) = watch::channel(false);
    let address = server(move |_, _| {
        let is_gone = *is_gone.borrow();
        async move { if is_gone { not_found() } else { r#"{"id":7,"version":1}"#.into_response() } }
    })
    .await;
    let registry = open(&config(&format!("http://{address}")));
    assert_eq!(registry.refresh("s").await, Refreshed::Unchanged, "it isn't known");
    registry.resolve("s").await.unwrap();
    assert_eq!(registry.refresh("s").await, Refreshed::Unchanged);
    gone.send(true).unwrap();
    assert!(matches!(registry.refresh("s").await, Refreshed::Gone(_)));
    assert_eq!(registry.known("s"), None);
}

/// However long the answer is before it.
#[tokio::test]
async fn a_login_that_the_registry_repeats_is_masked() {
    let address = server(|parts, _| async move {
        let login = parts.headers.get("authorization").unwrap().to_str().unwrap().to_owned();
        (StatusCode::FORBIDDEN, format!("{} {login} p4ssword", "x".repeat(380))).into_response()
    })
    .await;
    let basic = config(&format!("http://me:p4ssword@{address}"));
    let bearer = RegistryConfig {
        auth: Some(WebhookAuth::Bearer(Secret::text("t0ken-that-is-long"))),
        ..config(&format!("http://{address}"))
    };
    for (config, secrets) in [(basic, ["p4ssw", "bWU6c"]), (bearer, ["t0ken", "t0ken"])] {
        let error = open(&config).resolve("s").await.unwrap_err().to_string();
        assert!(error.contains("***") && secrets.iter().all(|secret| !error.contains(secret)), "{error}");
    }
}
