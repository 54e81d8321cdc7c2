//! Requests: headers, signatures, escaped values, and requests that are refused before they are sent.

use uuid::Uuid;

use super::*;
use crate::event::Reason;

#[tokio::test]
async fn a_request_is_signed_and_has_the_event_and_its_headers() {
    let (address, mut received) = server(ok).await;
    let secrets = vec![Secret::text(SECRET), Secret::text("d2hhdCBhIHNlY3JldCBvZiBvbGQ=")];
    let headers = vec![("X-Team".parse().unwrap(), Template::compile("ground {{ tenant }}").unwrap())];
    let auth = Some(WebhookAuth::Basic { username: Secret::text("me"), password: Secret::text("pass") });
    let url = format!("http://{address}/hooks?a=b");
    let sink = open(WebhookConfig { secrets, headers, auth, ..webhook(&url) }).await;
    let (_, verdict) = attempts(&sink, 1).recv().await.unwrap();
    assert!(verdict.is_delivered());

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
async fn a_request_without_a_secret_has_no_signature() {
    let (address, mut received) = server(ok).await;
    assert!(one(webhook(&format!("http://{address}/"))).await.is_delivered());
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
