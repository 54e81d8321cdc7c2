//! Signatures according to Standard Webhooks 1.0. With them a receiver verifies that a request comes from this relay and is not
//! replayed.
//!
//! The signed content is `id.timestamp.body`. Each key makes one signature `v1,BASE64` (HMAC-SHA256), and a receiver accepts
//! any of them, so that secrets can be rotated without an interruption
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const PREFIX: &str = "whsec_";

#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// Parses a secret, with or without its prefix `whsec_`. The error does not repeat the secret.
    pub(super) fn parse(secret: &str) -> Result<Self, &'static str> {
        let secret = secret.trim();
        let bytes = STANDARD
            .decode(secret.strip_prefix(PREFIX).unwrap_or(secret))
            .map_err(|_| "the secret is not base64: Standard Webhooks secrets are `whsec_` and base64")?;
        if bytes.is_empty() {
            return Err("the secret is empty");
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| "the secret can't be used as a key")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The header `webhook-signature`: one signature per key, separated by spaces. `timestamp` is in seconds since 1970.
pub(super) fn sign(keys: &[Key], id: &str, timestamp: u64, body: &[u8]) -> String {
    keys.iter().map(|key| sign_with(key, id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

fn sign_with(key: &Key, id: &str, timestamp: u64, body: &[u8]) -> String {
    let mut mac = key.0.clone();
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the specification's own test suites.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn signs_as_the_specification_s_example() {
        assert_eq!(sign(&[Key::parse(SECRET).unwrap()], ID, TIMESTAMP, BODY), SIGNATURE);
    }

    #[test]
    fn signs_as_the_reference_implementation_for_bodies_of_any_length() {
        let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
        let ours = [Key::parse(SECRET).unwrap()];
        for length in [0, 1, 63, 64, 65, 100_000] {
            let body = "é".repeat(length);
            let expected = theirs.sign(ID, 1_700_000_000, body.as_bytes()).unwrap();
            assert_eq!(sign(&ours, ID, 1_700_000_000, body.as_bytes()), expected);
        }
    }

    #[test]
    fn every_secret_signs_and_a_receiver_with_any_of_them_accepts() {
        let secrets = [SECRET, "d2hhdCBhIHNlY3JldCBvZiBvbGQ="];
        let keys: Vec<_> = secrets.iter().map(|secret| Key::parse(secret).unwrap()).collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", ID.parse().unwrap());
        headers.insert("webhook-timestamp", now.into());
        headers.insert("webhook-signature", sign(&keys, ID, now, BODY).parse().unwrap());
        for secret in secrets {
            let receiver = standardwebhooks::Webhook::new(secret).unwrap();
            receiver.verify(BODY, &headers).unwrap();
            assert!(receiver.verify(b"another body", &headers).is_err());
        }
        assert!(standardwebhooks::Webhook::new("c29tZW9uZSBlbHNl").unwrap().verify(BODY, &headers).is_err());
    }

    #[test]
    fn the_error_of_an_invalid_secret_does_not_repeat_it() {
        for secret in ["", "whsec_", "whsec_not base64", "hunter2!"] {
            let error = Key::parse(secret).unwrap_err();
            assert!(secret.is_empty() || secret == "whsec_" || !error.contains(secret), "{error}");
        }
    }
}
