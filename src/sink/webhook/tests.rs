//! Complete attempts, each against its own server.

mod secure;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::*;
use crate::config::{OrderBy, Responses, Retry, Secret, SinkKind, WebhookAuth};
use crate::event::{
    DecodeOptions, Event, EventView, ExpectedFamily, FAMILIES, Format, Message, Properties, Reason, SourceName,
    Template, Validation,
};
use crate::net::Tls;
use crate::rules::{Glob, SinkName};
use crate::sink::{AttemptEnd, AttemptId};

/// A timeout that is reached only by a test that hangs.
const LONG: Duration = Duration::from_mins(1);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

type Received = (http::request::Parts, Bytes);

/// A server that answers with `answer` and passes the requests on to the test.
async fn server<F, R>(answer: F) -> (SocketAddr, mpsc::UnboundedReceiver<Received>)
where
    F: Fn(http::request::Parts) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response> + Send,
{
    let (to, received) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move |parts: http::request::Parts, body: Bytes| {
        let _ = to.send((parts.clone(), body));
        let answer = answer.clone();
        async move { answer(parts).await }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, received)
}

/// A TCP server that calls `with` for each connection after the headers of its request.
async fn raw<F, R>(with: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            tokio::spawn(with(stream));
        }
    });
    address
}

fn webhook(url: &str) -> WebhookConfig {
    WebhookConfig {
        url: WebhookUrl::Fixed { url: Secret::text(url), shown: url.to_owned() },
        secrets: Vec::new(),
        headers: Vec::new(),
        auth: None,
        proxy: None,
        timeout: LONG,
        concurrency: 8,
        rate: None,
        responses: Responses::default(),
        deny: Vec::new(),
        tls: Tls::default(),
    }
}

fn config(webhook: WebhookConfig, format: Format) -> SinkConfig {
    SinkConfig {
        name: SinkName::new("on_call"),
        kind: SinkKind::Webhook(Box::new(webhook)),
        format,
        masks: crate::config::Masks::default(),
        files: crate::config::NamedFiles::default(),
        keep_headers: vec![Glob::new("regards.*")],
        order_by: OrderBy::None,
        when_full: crate::config::WhenFull::Block,
        retry: Retry {
            initial_backoff: LONG,
            max_backoff: LONG,
            give_up_after: None,
            max_attempts: None,
            refuse_after: 3,
        },
    }
}

async fn open(webhook: WebhookConfig) -> WebhookSink {
    try_open(webhook).await.unwrap()
}

async fn try_open(webhook: WebhookConfig) -> Result<WebhookSink, OpenError> {
    let config = config(webhook, Format::Normalized);
    let SinkKind::Webhook(webhook) = &config.kind else { panic!() };
    WebhookSink::open(&config, webhook, "urn:test").await
}

fn message(product: &str) -> Message {
    let text = |name: &str, value: &str| (name.to_owned(), EventHeader::Text(value.to_owned()));
    let body = serde_json::json!({"correlationId": "c 1", "responseStatus": "ERROR", "productId": product}).to_string();
    Message {
        source: SourceName::new("regards"),
        body: body.into(),
        properties: Properties {
            headers: vec![
                text("regards.tenant", "cnes-a"),
                text("regards.owner", "not\r\none: of HTTP"),
                text("traceparent", "00-1-2-03"),
                text("authorization", "Bearer theirs"),
            ],
            ..Properties::default()
        },
        redelivered: false,
    }
}

fn event(message: &Message) -> Event {
    let options = DecodeOptions {
        expects: ExpectedFamily::One(&FAMILIES[0]),
        validation: Validation::Lenient,
        tenant: None,
        max_body: 1024 * 1024,
    };
    Event::decode(message, &options).unwrap()
}

fn outgoing(sink: &WebhookSink) -> RenderedDelivery {
    let (message, webhook) = (message("p"), sink.sender.config.clone());
    render(&config(webhook.clone(), Format::Normalized), &webhook, EventView::of(&event(&message), &message)).unwrap()
}

fn attempts(sink: &WebhookSink, count: u64) -> mpsc::UnboundedReceiver<AttemptEnd> {
    let (to, ends) = mpsc::unbounded_channel();
    for number in 0..count {
        sink.attempt(outgoing(sink), Attempt::new(AttemptId(number), to.clone()));
    }
    ends
}

async fn one(webhook: WebhookConfig) -> Verdict {
    let sink = open(webhook).await;
    let (_, verdict) = attempts(&sink, 1).recv().await.unwrap();
    verdict
}

/// Blame and cause of a verdict that is retried.
fn failure(verdict: Verdict) -> (Blame, String) {
    match verdict {
        Verdict::Retry { blame, cause, .. } => (blame, cause),
        other => panic!("{other:?}"),
    }
}

async fn ok(_: http::request::Parts) -> Response {
    StatusCode::NO_CONTENT.into_response()
}

#[tokio::test]
async fn a_request_is_signed_and_has_the_event_and_its_headers() {
    let (address, mut received) = server(ok).await;
    let secrets = vec![Secret::text(SECRET), Secret::text("d2hhdCBhIHNlY3JldCBvZiBvbGQ=")];
    let headers = vec![("X-Team".parse().unwrap(), Template::compile("ground {{ tenant }}").unwrap())];
    let auth = Some(WebhookAuth::Basic { username: Secret::text("me"), password: Secret::text("pass") });
    let url = format!("http://{address}/hooks?a=b");
    let sink = open(WebhookConfig { secrets, headers, auth, ..webhook(&url) }).await;
    let (_, verdict) = attempts(&sink, 1).recv().await.unwrap();
    assert_eq!(verdict, Verdict::Delivered);

    let (parts, body) = received.recv().await.unwrap();
    let event = event(&message("p"));
    assert_eq!((parts.method, parts.uri.to_string()), (http::Method::POST, "/hooks?a=b".to_owned()));
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("webhook-id"), Some(event.id.to_string().as_str()));
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("x-team"), Some("ground cnes-a"));
    assert_eq!(header("authorization"), Some("Basic bWU6cGFzcw=="));
    assert_eq!(header("regards.tenant"), Some("cnes-a"));
    assert_eq!(header("traceparent"), Some("00-1-2-03"));
    assert_eq!(header("regards.owner"), None);
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&body, &parts.headers).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["id"], &body["productId"]), (&event.id.to_string().into(), &"p".into()));
}

#[tokio::test]
async fn without_a_secret_there_is_no_signature() {
    let (address, mut received) = server(ok).await;
    assert_eq!(one(webhook(&format!("http://{address}/"))).await, Verdict::Delivered);
    let (parts, _) = received.recv().await.unwrap();
    assert!(parts.headers.contains_key("webhook-id") && parts.headers.contains_key("webhook-timestamp"));
    assert!(!parts.headers.contains_key("webhook-signature"));
}

#[test]
fn values_of_templates_are_escaped_or_refused() {
    let path = Template::compile("/hooks/{{ productId }}?t={{ tenant }}").unwrap();
    let url = WebhookUrl::Templated { origin: "https://pager.example.org".to_owned(), path };
    let headers = vec![("x-product".parse().unwrap(), Template::compile("{{ productId }}").unwrap())];
    let webhook = WebhookConfig { url, headers, ..webhook("") };
    let config = config(webhook.clone(), Format::Normalized);
    let render = |product: &str| {
        let message = message(product);
        render(&config, &webhook, EventView::of(&event(&message), &message))
    };
    let Destination::Webhook { url: Some(url) } = render("a b/@evil.example?#é").unwrap().destination else {
        panic!()
    };
    assert_eq!(url.as_str(), "https://pager.example.org/hooks/a%20b%2F%40evil.example%3F%23%C3%A9?t=cnes-a");
    for (product, problem) in [("..", "segment"), ("a\r\nX-Evil: 1", "control character")] {
        let error = render(product).unwrap_err();
        assert!(error.reason == Reason::RenderFailed && error.detail.contains(problem), "{error}");
    }
}

#[tokio::test]
async fn responses_become_verdicts_and_redirects_are_not_followed() {
    let (elsewhere, mut followed) = server(ok).await;
    let (address, _) = server(move |parts: http::request::Parts| async move {
        let status: StatusCode = parts.uri.path().trim_start_matches('/').parse().unwrap();
        let headers = [("retry-after", "17".to_owned()), ("location", format!("http://{elsewhere}/"))];
        (status, headers, "because\nof this").into_response()
    })
    .await;
    let answered = |status: u16| one(webhook(&format!("http://{address}/{status}")));
    assert_eq!(answered(202).await, Verdict::Delivered);
    let cause = "the receiver answered 422 Unprocessable Entity: because\\nof this".to_owned();
    assert_eq!(answered(422).await, Verdict::Refused { cause });
    let cause = "the receiver answered 429 Too Many Requests: because\\nof this".to_owned();
    let after = Some(Duration::from_secs(17));
    assert_eq!(answered(429).await, Verdict::Retry { after, cause, blame: Blame::Sink });
    // With a fixed URL, all events would get this response.
    let (blame, cause) = failure(answered(307).await);
    assert!(blame == Blame::Sink && cause.contains("not followed"), "{cause}");
    assert!(followed.try_recv().is_err());
}

#[tokio::test]
async fn secrets_in_a_response_are_masked() {
    let echo = |parts: http::request::Parts| async move {
        let echoed = format!("{} {:?}", parts.uri, parts.headers);
        let location = ("location", format!("https://new.example{}", parts.uri));
        let status = if parts.uri.query().is_some() { 400 } else { 307 };
        (StatusCode::from_u16(status).unwrap(), [location], echoed).into_response()
    };
    let (address, _) = server(echo).await;
    let auth = |username: &str, password: &str| {
        Some(WebhookAuth::Basic { username: Secret::text(username), password: Secret::text(password) })
    };
    let hidden = |path: &str| {
        let url = Secret::text(format!("http://{address}{path}"));
        WebhookConfig { url: WebhookUrl::Fixed { url, shown: format!("http://{address}/***") }, ..webhook("") }
    };
    let bearer = Some(WebhookAuth::Bearer(Secret::text("t0ken-of-mine")));
    for (webhook, secrets) in [
        (hidden("/services/T0000/Xpath-s3cret"), &["Xpath-s3cret", "services"][..]),
        (hidden("/?key=Xquery-s3cret"), &["Xquery-s3cret"]),
        (WebhookConfig { auth: bearer, ..hidden("/") }, &["t0ken-of-mine"]),
        (WebhookConfig { auth: auth("me", "passw0rd"), ..hidden("/?") }, &["bWU6cGFzc3cwcmQ=", "passw0rd"]),
        (webhook(&format!("http://me:passw0rd@{address}/open")), &["bWU6cGFzc3cwcmQ="]),
    ] {
        let config = config(webhook, Format::Normalized);
        let sink = crate::sink::Sink::open(&config, "urn:test").await.unwrap();
        let message = message("p");
        let outgoing = sink.render(EventView::of(&event(&message), &message), None).unwrap();
        let (to, mut ends) = mpsc::unbounded_channel();
        sink.attempt(outgoing, Attempt::new(AttemptId(1), to));
        let (_, verdict) = ends.recv().await.unwrap();
        let (Verdict::Retry { cause, .. } | Verdict::Refused { cause }) = verdict else { panic!() };
        assert!(cause.contains("webhook-id") && cause.contains("***"), "{cause}");
        assert!(secrets.iter().all(|secret| !cause.contains(secret)), "{cause}");
    }
}

#[tokio::test]
async fn only_the_beginning_of_an_endless_response_is_read() {
    let address = raw(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n").await;
        // Ends when the client closes the connection.
        while stream.write_all(b"400\r\n").await.is_ok()
            && stream.write_all(&[b'x'; 1024]).await.is_ok()
            && stream.write_all(b"\r\n").await.is_ok()
        {}
    })
    .await;
    let (blame, cause) = failure(one(webhook(&format!("http://{address}/"))).await);
    assert_eq!((blame, cause.matches('x').count()), (Blame::Sink, 4096));
}

#[tokio::test]
async fn a_body_that_hangs_does_not_change_the_verdict() {
    let address = raw(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        let _ = stream.read_u8().await;
    })
    .await;
    let timeout = Duration::from_millis(200);
    assert_eq!(one(WebhookConfig { timeout, ..webhook(&format!("http://{address}/")) }).await, Verdict::Delivered);
}

/// The verdict of one attempt if the server writes exactly these bytes, and then closes the connection or hangs.
async fn answered_with(bytes: Vec<u8>, hangs: bool) -> Verdict {
    let bytes = Arc::new(bytes);
    let address = raw(move |mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            let _ = stream.write_all(&bytes).await;
            if hangs {
                let _ = stream.read_u8().await;
            }
        }
    })
    .await;
    let timeout = if hangs { Duration::from_millis(500) } else { LONG };
    one(WebhookConfig { timeout, ..webhook(&format!("http://{address}/")) }).await
}

#[tokio::test]
async fn a_malformed_head_after_a_2xx_status_still_counts_as_delivered() {
    let many = |count: usize| "x-a: y\r\n".repeat(count);
    for (what, head, hangs) in [
        ("150 header lines", format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", many(150)), false),
        ("20,000 header lines", format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", many(20_000)), false),
        ("a header of a megabyte", format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)), false),
        ("a folded header", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n".to_owned(), false),
        ("a space before a colon", "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 0\r\n\r\n".to_owned(), false),
        ("a space in a name", "HTTP/1.1 200 OK\r\nx y: a\r\ncontent-length: 0\r\n\r\n".to_owned(), false),
        ("a control character", "HTTP/1.1 200 OK\r\nx: a\x01b\r\ncontent-length: 0\r\n\r\n".to_owned(), false),
        ("a line that is no header", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n".to_owned(), false),
        ("two lengths", "HTTP/1.1 202 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(), false),
        ("no length", "HTTP/1.1 202 OK\r\ncontent-length: many\r\n\r\nab".to_owned(), false),
        (
            "both lengths",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: nonsense\r\ncontent-length: 3\r\n\r\n".to_owned(),
            false,
        ),
        ("only line feeds", "HTTP/1.1 200 OK\ncontent-length: 0\n\n".to_owned(), false),
        ("a head without an end", "HTTP/1.1 200 OK\r\nx: a".to_owned(), false),
        ("a head that hangs", "HTTP/1.1 200 OK\r\nx: a\r\n".to_owned(), true),
        ("a status line only", "HTTP/1.1 204\r\n".to_owned(), true),
        ("an early hint before", "HTTP/1.1 103 Early\r\nx: y\r\n\r\nHTTP/1.1 200 OK\r\nx : a\r\n".to_owned(), false),
        ("an upper protocol", "HTTP/1.1 200 OK\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned(), false),
    ] {
        assert_eq!(answered_with(head.into_bytes(), hangs).await, Verdict::Delivered, "{what}");
    }
}

#[tokio::test]
async fn a_malformed_head_after_another_status_counts_as_that_status() {
    let bytes = format!("HTTP/1.1 503 Oh\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)).into_bytes();
    let (blame, cause) = failure(answered_with(bytes, false).await);
    assert!(blame == Blame::Sink && cause.starts_with("the receiver answered 503"), "{cause}");
}

#[tokio::test]
async fn without_a_status_line_nothing_is_delivered() {
    for (bytes, hangs) in [
        ("", false),
        ("HTTP/1.1 20", false),
        ("HTTP/1.1 200", true),
        ("HTTP/1.1 2000 OK\r\n\r\n", false),
        ("HTTP/1.1 100 Continue\r\n\r\n", false),
        ("HTTP/1.1 100 Continue\r\nHTTP/1.1 200 OK\r\n", false),
        ("ICY 200 OK\r\n\r\n", false),
    ] {
        let (blame, cause) = failure(answered_with(bytes.into(), hangs).await);
        assert!(blame == Blame::Sink, "{bytes}: {cause}");
    }
}

#[tokio::test]
async fn a_timeout_is_a_failure_of_the_sink() {
    let address = raw(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let timeout = Duration::from_millis(200);
    let verdict = one(WebhookConfig { timeout, ..webhook(&format!("http://{address}/s3cret")) }).await;
    assert_eq!(failure(verdict), (Blame::Sink, "the receiver did not answer within 200ms".to_owned()));
}

#[tokio::test]
async fn a_refused_connection_is_a_failure_of_the_sink_and_does_not_show_the_url() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (blame, cause) = failure(one(webhook(&format!("http://{free}/s3cret"))).await);
    assert!(blame == Blame::Sink && cause.contains("Connection refused") && !cause.contains("s3cret"), "{cause}");
}

#[tokio::test]
async fn the_relay_never_connects_to_metadata_services_and_unspecified_addresses() {
    for url in ["http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://[::ffff:a9fe:a9fe]/", "http://0.0.0.0/"] {
        let error = try_open(webhook(url)).await.err().unwrap();
        assert!(error.detail.contains("never connects"), "{error}");
    }
    // A name that resolves to such an address.
    let metadata = IpAddr::from([169, 254, 169, 254]);
    let client = WebhookClient::new(tls::none().unwrap(), FilteringResolver::to(metadata), LONG, 1);
    let url = Url::parse("http://innocent.example/").unwrap();
    let pool = client.pool(None);
    let problem = client.post(&pool, &url, HeaderMap::new(), Bytes::new()).await.unwrap_err();
    assert!(problem.contains("innocent.example resolves to 169.254.169.254"), "{problem}");
}

#[tokio::test]
async fn a_proxy_resolves_the_name_and_a_changed_proxy_takes_effect() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let part = crate::config::Part::File { path: file.path().to_owned(), encode: false };
    let (first, mut by_first) = server(ok).await;
    let (second, mut by_second) = server(ok).await;
    std::fs::write(file.path(), format!("http://me:pass@{first}\n")).unwrap();
    let proxy = Some(Secret::parts(vec![part]));
    let sink = open(WebhookConfig { proxy, ..webhook("http://partner.invalid/hook") }).await;
    assert_eq!(attempts(&sink, 1).recv().await.unwrap().1, Verdict::Delivered);
    let (parts, _) = by_first.recv().await.unwrap();
    assert_eq!(parts.uri.to_string(), "http://partner.invalid/hook");
    assert_eq!(parts.headers["proxy-authorization"], "Basic bWU6cGFzcw==");

    std::fs::write(file.path(), format!("http://{second}\n")).unwrap();
    assert_eq!(attempts(&sink, 1).recv().await.unwrap().1, Verdict::Delivered);
    assert!(by_second.recv().await.is_some() && by_first.try_recv().is_err());
}

#[tokio::test]
async fn requests_in_flight_are_bounded() {
    let (in_flight, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (go, going) = watch::channel(false);
    let answer = {
        let (in_flight, most) = (Arc::clone(&in_flight), Arc::clone(&most));
        move |_| {
            let (in_flight, most, mut going) = (Arc::clone(&in_flight), Arc::clone(&most), going.clone());
            async move {
                most.fetch_max(in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                going.wait_for(|going| *going).await.unwrap();
                in_flight.fetch_sub(1, Ordering::SeqCst);
                StatusCode::OK.into_response()
            }
        }
    };
    let (address, mut received) = server(answer).await;
    let sink = open(WebhookConfig { concurrency: 3, ..webhook(&format!("http://{address}/")) }).await;
    assert_eq!(sink.capacity(), 3);
    let mut ends = attempts(&sink, 12);
    for _ in 0..3 {
        received.recv().await.unwrap();
    }
    go.send(true).unwrap();
    for _ in 0..12 {
        assert_eq!(ends.recv().await.unwrap().1, Verdict::Delivered);
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn closing_waits_for_requests_and_abandons_those_that_hang() {
    let (go, going) = watch::channel(false);
    let (address, mut received) = server(move |_| {
        let mut going = going.clone();
        async move {
            going.wait_for(|going| *going).await.unwrap();
            StatusCode::OK.into_response()
        }
    })
    .await;
    let url = format!("http://{address}/");
    let sink = open(WebhookConfig { concurrency: 2, ..webhook(&url) }).await;
    let mut ends = attempts(&sink, 4);
    received.recv().await.unwrap();
    let closing = tokio::spawn(sink.close(LONG));
    go.send(true).unwrap();
    closing.await.unwrap();
    for _ in 0..4 {
        assert_eq!(ends.try_recv().unwrap().1, Verdict::Delivered);
    }

    let hanging = raw(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let sink = open(WebhookConfig { concurrency: 2, ..webhook(&format!("http://{hanging}/")) }).await;
    let mut ends = attempts(&sink, 4);
    sink.close(Duration::from_millis(50)).await;
    for _ in 0..4 {
        assert_eq!(failure(ends.try_recv().unwrap().1).0, Blame::Relay);
    }
}

#[tokio::test]
async fn files_that_the_configuration_names_have_to_exist() {
    let https = webhook("https://partner.example/");
    let missing = Some("/nonexistent/x.pem".into());
    for (webhook, says) in [
        (WebhookConfig { tls: Tls { ca: missing.clone(), ..Tls::default() }, ..https.clone() }, "/nonexistent/x.pem"),
        (WebhookConfig { secrets: vec![Secret::text("s3cret!")], ..https.clone() }, "not base64"),
        (
            WebhookConfig { headers: vec![(render::WEBHOOK_ID, Template::compile("x").unwrap())], ..https.clone() },
            "the relay sets it",
        ),
    ] {
        let error = try_open(webhook).await.err().unwrap();
        assert!(error.detail.contains(says) && !error.detail.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_delivery_rendered_for_another_kind_of_sink_is_refused() {
    let credentials = Credentials { url: None, keys: Vec::new(), authorization: None, proxy: None };
    let stdout =
        |headers| RenderedDelivery { id: Uuid::nil(), destination: Destination::Stdout, headers, body: Bytes::new() };
    assert!(request(&stdout(Vec::new()), &credentials, SystemTime::now()).is_err());
    let url = Url::parse("http://[fe80::1]/").unwrap();
    let forbidden = RenderedDelivery { destination: Destination::Webhook { url: Some(url) }, ..stdout(Vec::new()) };
    assert!(request(&forbidden, &credentials, SystemTime::now()).is_err());
}
