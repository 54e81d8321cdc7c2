//! librdkafka's reasons in plain words: what is likely wrong and what to change, with the reason itself as a detail.

use std::borrow::Cow;

/// What librdkafka says where something other than a Kafka broker answers: its answer's first four bytes, read as a size.
const RESPONSE_SIZE: &str = "Invalid response size ";

/// Beginnings of what others than Kafka brokers answer.
const OTHERS: [(&[u8], &str); 3] = [
    (b"AMQP", "an AMQP broker (RabbitMQ) answers there, not Kafka"),
    (b"HTTP", "an HTTP server answers there, not Kafka"),
    // A TLS alert, version 3.x (RFC 8446, 5.1).
    (&[0x15, 0x03], "the broker expects TLS: add `tls: {}`, or use its port without TLS"),
];

/// Words in librdkafka's reasons, and what they mean here. The more special ones come first.
const REASONS: [(&str, &str); 7] = [
    ("connecting to a SSL listener", CLOSED_AT_ONCE),
    (
        "connecting to a PLAINTEXT broker listener",
        "the broker doesn't speak TLS there: remove `tls`, or use its TLS port",
    ),
    ("wrong version number", "the broker doesn't speak TLS there: remove `tls`, or use its TLS port"),
    (
        "certificate verify failed",
        "the broker's certificate is not trusted: name the authority that signed it in `tls: { ca: … }`",
    ),
    ("ssl.ca.location failed", "the file in `tls.ca` can't be used"),
    ("ssl.certificate.location failed", "the file in `tls.cert` can't be used"),
    ("ssl.key.location failed", "the file in `tls.key` can't be used"),
];

/// What librdkafka was at when the connection ended: a broker that expects TLS closes it at once.
const FIRST_REQUEST: &str = "in state APIVERSION_QUERY";
const CLOSED_AT_ONCE: &str =
    "the connection ended at the first request; does the broker expect TLS? Then add `tls: {}`";

/// Whether the broker closed the connection before it answered anything.
pub(super) fn is_closed_at_once(reason: &str) -> bool {
    reason.contains("Disconnected") && reason.contains(FIRST_REQUEST)
}

/// The reason in plain words, where there are better ones than its own. Without how long it took and how often it was repeated, which is
/// different each time.
pub(super) fn in_plain_words(reason: &str) -> Cow<'_, str> {
    let detail = reason.split_once(" (after ").map_or(reason, |(detail, _)| detail);
    let words = REASONS.iter().find(|(part, _)| reason.contains(part)).map(|(_, words)| *words);
    match words.or_else(|| who_answers(reason)).or_else(|| is_closed_at_once(reason).then_some(CLOSED_AT_ONCE)) {
        Some(words) => Cow::Owned(format!("{words} ({detail})")),
        None => Cow::Borrowed(detail),
    }
}

fn who_answers(reason: &str) -> Option<&'static str> {
    let (_, size) = reason.split_once(RESPONSE_SIZE)?;
    let digits = size.split(|char: char| !(char.is_ascii_digit() || char == '-')).next()?;
    let bytes = digits.parse::<i32>().ok()?.to_be_bytes();
    let known = OTHERS.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, words)| *words);
    known.or(Some("whatever answers there is not a Kafka broker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_what_to_change() {
        for (reason, expected) in [
            ("h:5672/bootstrap: Receive failed: Invalid response size 1095586128 (0..100000000): increase", "RabbitMQ"),
            ("h:80/bootstrap: Receive failed: Invalid response size 1213486160 (0..100000000)", "HTTP server"),
            ("h:9093/bootstrap: Receive failed: Invalid response size 352518912 (0..100000000)", "expects TLS"),
            ("h:1/bootstrap: Receive failed: Invalid response size -17 (0..100000000)", "not a Kafka broker"),
            (
                "h:1: Disconnected while requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a SSL listener?)",
                "add `tls: {}`",
            ),
            ("h:1: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker", "tls: { ca"),
            ("ssl.ca.location failed: error:80000002:system library::No such file or directory", "`tls.ca`"),
        ] {
            let said = in_plain_words(reason);
            assert!(said.contains(expected) && said.contains(reason), "{said}");
        }
        let rabbit =
            "h:1: Receive failed: Invalid response size 1095586128 (0..1): x (after 1ms in state APIVERSION_QUERY)";
        assert!(in_plain_words(rabbit).contains("RabbitMQ"));
        let closed = "h:1/bootstrap: Disconnected: connection closed by peer (after 0ms in state APIVERSION_QUERY)";
        let said = in_plain_words(closed);
        assert!(said.contains("tls: {}") && !said.contains("after 0ms"), "{said}");
        let plain = "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused";
        assert_eq!(in_plain_words(plain), plain);
    }
}
