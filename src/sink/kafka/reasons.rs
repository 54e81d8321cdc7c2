//! Explains librdkafka's error texts: what is likely wrong and what to change, with librdkafka's own text as a detail.

use std::borrow::Cow;

/// librdkafka's text if the peer is no Kafka broker. The number that follows is the first four bytes of its answer.
const RESPONSE_SIZE: &str = "Invalid response size ";

/// The first bytes of the answers of other servers.
const WRONG_SERVERS: [(&[u8], &str); 3] = [
    (b"AMQP", "the address is that of an AMQP broker (RabbitMQ), not of Kafka"),
    (b"HTTP", "the address is that of an HTTP server, not of Kafka"),
    // A TLS alert, version 3.x (RFC 8446, 5.1).
    (&[0x15, 0x03], "the broker expects TLS: add `tls: {}`, or use its port without TLS"),
];

/// Parts of librdkafka's texts, and their meaning. More specific parts come first.
const REASONS: [(&str, &str); 21] = [
    (INVALID_TOKEN, TOKEN_REFUSED),
    // The words of MIT Kerberos (`krb5_err.et`, `kv5m_err.et`) and of the broker.
    ("Cannot contact any KDC", NO_KDC),
    (
        "Cannot find KDC",
        "krb5.conf is missing, or names no key distribution center for the realm: check `principal`, and add the realm there",
    ),
    (
        "does not specify default realm",
        "krb5.conf is missing, or has no default realm: write the `principal` with its `@REALM`",
    ),
    ("Kerberos configuration file", "krb5.conf (or the file in KRB5_CONFIG) can't be used"),
    ("No credentials cache found", NOT_IN_KEYTAB),
    ("Keytab contains no suitable keys", NOT_IN_KEYTAB),
    ("Preauthentication failed", OLD_KEYTAB),
    ("Decrypt integrity check failed", OLD_KEYTAB),
    ("Password incorrect", OLD_KEYTAB),
    (
        "Clock skew too great",
        "the clocks of this machine and of the key distribution center, or of the broker, differ by more than Kerberos allows \
         (5 minutes): correct them",
    ),
    ("have been revoked", "the principal is locked or has ended: ask the administrator of the realm"),
    (
        "no support for encryption type",
        "the keytab has no key of a type that the realm still accepts: export it again (`ktadd`)",
    ),
    ("credentials with SASL mechanism GSSAPI", "the broker refuses the ticket: check its keytab and its clock"),
    ("connecting to a SSL listener", CLOSED_BEFORE_ANSWER),
    ("connecting to a PLAINTEXT broker listener", NO_TLS),
    ("wrong version number", NO_TLS),
    (
        "certificate verify failed",
        "the broker's certificate is not trusted: set `tls: { ca: … }` to the authority that signed it",
    ),
    ("ssl.ca.location failed", "the file in `tls.ca` can't be used"),
    ("ssl.certificate.location failed", "the file in `tls.cert` can't be used"),
    ("ssl.key.location failed", "the file in `tls.key` can't be used"),
];

pub(super) const NO_KDC: &str = "no key distribution center of the realm answers: check `kdc` of the realm in krb5.conf, and that this machine reaches it";
const NOT_IN_KEYTAB: &str = "the keytab has no key of the principal: `klist -k FILE` lists its principals, and krb5.conf says of which realm \
                             a principal without `@REALM` is";
const OLD_KEYTAB: &str = "the key in the keytab is not the current one of the principal: export the keytab again (`ktadd -k FILE PRINCIPAL` in `kadmin`)";
const UNKNOWN_CLIENT: &str = "the realm doesn't know the principal of the sink: check `principal`";
const UNKNOWN_SERVICE: &str = "the realm doesn't know the principal of the brokers: check `service`, and that `brokers` has their host names as in their principals";
/// Where Cyrus SASL's text begins, and where that of MIT Kerberos does in it.
const SASL_FAILURE: &str = "SASL(-1): generic failure: ";
const GSS_FAILURE: &str = "Minor code may provide more information (";
/// MIT Kerberos names the principal between these and the rest.
const NOT_FOUND: &str = " not found in Kerberos database";

/// A broker's answer to a token that it refuses (RFC 7628, 3.2.2).
const INVALID_TOKEN: &str = "invalid_token";
const TOKEN_REFUSED: &str = "the broker refuses the access token: check `audience` and `scope`, and that the broker trusts the keys of \
                             this token server and its clock is right";

const NO_TLS: &str = "the broker does not use TLS on this port: remove `tls`, or use its TLS port";
/// librdkafka's state when the connection ended. A broker that expects TLS closes the connection at the first request.
const FIRST_REQUEST: &str = "in state APIVERSION_QUERY";
const CLOSED_BEFORE_ANSWER: &str =
    "the broker closed the connection at the first request; if it expects TLS, add `tls: {}`";

/// Whether the broker closed the connection before it answered.
pub(super) fn closed_before_answer(reason: &str) -> bool {
    reason.contains("Disconnected") && reason.contains(FIRST_REQUEST)
}

/// Explains the reason if it is a known one. Removes its duration and count, which differ each time.
pub(super) fn explain_reason(reason: &str) -> Cow<'_, str> {
    let detail = reason.split_once(" (after ").map_or(reason, |(detail, _)| detail);
    let detail = &*without_sasl_layers(detail);
    let meaning = REASONS.iter().find(|(part, _)| reason.contains(part)).map(|(_, meaning)| *meaning);
    match meaning
        .or_else(|| unknown_principal(reason))
        .or_else(|| server_kind(reason))
        .or_else(|| closed_before_answer(reason).then_some(CLOSED_BEFORE_ANSWER))
    {
        Some(meaning) => Cow::Owned(format!("{meaning} ({detail})")),
        None => Cow::Owned(detail.to_owned()),
    }
}

/// The broker and what MIT Kerberos says, without the words of librdkafka, Cyrus SASL and GSSAPI between them.
fn without_sasl_layers(reason: &str) -> Cow<'_, str> {
    let Some((before, after)) = reason.split_once(SASL_FAILURE) else { return Cow::Borrowed(reason) };
    let inner = after.split_once(GSS_FAILURE).and_then(|(_, inner)| inner.trim_end().strip_suffix(')'));
    let broker = before.split_once(": ").map_or(before, |(broker, _)| broker);
    Cow::Owned(format!("{broker}: {}", inner.unwrap_or(after)))
}

fn unknown_principal(reason: &str) -> Option<&'static str> {
    let (before, _) = reason.split_once(NOT_FOUND)?;
    Some(if before.contains("Client") { UNKNOWN_CLIENT } else { UNKNOWN_SERVICE })
}

fn server_kind(reason: &str) -> Option<&'static str> {
    let (_, size) = reason.split_once(RESPONSE_SIZE)?;
    let digits = size.split(|char: char| !(char.is_ascii_digit() || char == '-')).next()?;
    let bytes = digits.parse::<i32>().ok()?.to_be_bytes();
    let known = WRONG_SERVERS.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, words)| *words);
    known.or(Some("the server at this address is not a Kafka broker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_reason_says_what_to_change() {
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
            let said = explain_reason(reason);
            assert!(said.contains(expected) && said.contains(reason), "{said}");
        }
        let rabbit =
            "h:1: Receive failed: Invalid response size 1095586128 (0..1): x (after 1ms in state APIVERSION_QUERY)";
        assert!(explain_reason(rabbit).contains("RabbitMQ"));
        let closed = "h:1/bootstrap: Disconnected: connection closed by peer (after 0ms in state APIVERSION_QUERY)";
        let said = explain_reason(closed);
        assert!(said.contains("tls: {}") && !said.contains("after 0ms"), "{said}");
        let kerberos = "sasl_ssl://h:1/bootstrap: Failed to initialize SASL authentication: SASL handshake failed (start (-1)): \
                        SASL(-1): generic failure: GSSAPI Error: Unspecified GSS failure.  Minor code may provide more information \
                        (Server a/h@R not found in Kerberos database) (after 5ms in state AUTH_REQ)";
        let said = explain_reason(kerberos);
        assert!(said.contains("check `service`"), "{said}");
        assert!(said.ends_with("(sasl_ssl://h:1/bootstrap: Server a/h@R not found in Kerberos database)"), "{said}");
        for (text, expected) in [
            ("Client 'relay@R' not found in Kerberos database", "check `principal`"),
            ("Clock skew too great", "5 minutes"),
            ("Client's credentials have been revoked", "locked"),
            ("Keytab contains no suitable keys for relay@R", "klist -k"),
            ("Configuration file does not specify default realm when parsing name relay", "`@REALM`"),
        ] {
            let said = explain_reason(text);
            assert!(said.contains(expected) && said.contains(text), "{said}");
        }
        let plain = "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused";
        assert_eq!(explain_reason(plain), plain);
    }
}
