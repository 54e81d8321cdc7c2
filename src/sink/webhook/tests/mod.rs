//! Complete attempts, each against its own server.

mod connections;
mod requests;
mod responses;
mod secure;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::config::{OrderBy, Responses, Retry, Secret, SinkKind, WebhookAuth};
use crate::event::{
    DecodeOptions, Event, EventView, ExpectedFamily, FAMILIES, Format, Message, Properties, SourceName, Template,
    Validation,
};
use crate::net::Tls;
use crate::rules::{Glob, SinkName};
use crate::sink::{AttemptEnd, AttemptId};

/// A timeout that is reached only by a test that hangs.
const LONG: Duration = Duration::from_mins(1);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

type ReceivedRequest = (http::request::Parts, Bytes);

/// A server that answers with `answer` and passes the requests on to the test.
async fn server<F, R>(answer: F) -> (SocketAddr, mpsc::UnboundedReceiver<ReceivedRequest>)
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
        group: None,
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
