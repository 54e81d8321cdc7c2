//! Connections: timeouts, forbidden addresses, proxies, limits and the end of a sink.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::*;
use crate::net::http::{ClientTls, FilteringResolver};

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
    let settings = ClientSettings { server: "receiver", timeout: LONG, concurrency: 1, max_body: MAX_EXCERPT };
    let client = HttpClient::new(settings, ClientTls::none().unwrap(), FilteringResolver::to(metadata));
    let url = Url::parse("http://innocent.example/").unwrap();
    let pool = client.pool(None);
    let problem = client.send(&pool, Method::POST, &url, HeaderMap::new(), Bytes::new()).await.unwrap_err();
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
    assert!(attempts(&sink, 1).recv().await.unwrap().1.is_delivered());
    let (parts, _) = by_first.recv().await.unwrap();
    assert_eq!(parts.uri.to_string(), "http://partner.invalid/hook");
    assert_eq!(parts.headers["proxy-authorization"], "Basic bWU6cGFzcw==");

    std::fs::write(file.path(), format!("http://{second}\n")).unwrap();
    assert!(attempts(&sink, 1).recv().await.unwrap().1.is_delivered());
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
        assert!(ends.recv().await.unwrap().1.is_delivered());
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
        assert!(ends.try_recv().unwrap().1.is_delivered());
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
