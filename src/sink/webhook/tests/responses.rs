//! Responses, also malformed ones, and their verdicts.

use std::sync::Arc;

use super::*;

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
    assert!(answered(202).await.is_delivered());
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
    assert!(one(WebhookConfig { timeout, ..webhook(&format!("http://{address}/")) }).await.is_delivered());
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
        assert!(answered_with(head.into_bytes(), hangs).await.is_delivered(), "{what}");
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
