//! Signatures by Standard Webhooks 1.0: what lets a receiver know that a request is ours, and not a replayed one.
//!
//! The signed content is `id.timestamp.body`; each key gives one `v1,BASE64` of HMAC-SHA256, and a receiver accepts any of
//! them, so that secrets can be rotated without a gap
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What secrets begin with when they are written down.
const PREFIX: &str = "whsec_";

/// A signing key.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// The key that a secret, `whsec_…` or its base64 alone, stands for. The error says what is wrong and not what was read.
    pub(super) fn read(secret: &str) -> Result<Self, &'static str> {
        let secret = secret.trim();
        let bytes = STANDARD
            .decode(secret.strip_prefix(PREFIX).unwrap_or(secret))
            .map_err(|_| "the secret is not base64: Standard Webhooks secrets are `whsec_` and base64")?;
        if bytes.is_empty() {
            return Err("the secret is empty");
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| "the secret can't be a key")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The header `webhook-signature`: one signature a key, separated by spaces. `timestamp` is in seconds since 1970.
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
        assert_eq!(sign(&[Key::read(SECRET).unwrap()], ID, TIMESTAMP, BODY), SIGNATURE);
    }

    #[test]
    fn signs_as_the_reference_implementation_for_bodies_of_any_length() {
        let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
        let ours = [Key::read(SECRET).unwrap()];
        for length in [0, 1, 63, 64, 65, 100_000] {
            let body = "é".repeat(length);
            let expected = theirs.sign(ID, 1_700_000_000, body.as_bytes()).unwrap();
            assert_eq!(sign(&ours, ID, 1_700_000_000, body.as_bytes()), expected);
        }
    }

    #[test]
    fn every_secret_signs_and_a_receiver_with_any_of_them_accepts() {
        let secrets = [SECRET, "d2hhdCBhIHNlY3JldCBvZiBvbGQ="];
        let keys: Vec<_> = secrets.iter().map(|secret| Key::read(secret).unwrap()).collect();
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
    fn a_secret_that_is_no_key_is_refused_without_being_repeated() {
        for secret in ["", "whsec_", "whsec_not base64", "hunter2!"] {
            let error = Key::read(secret).unwrap_err();
            assert!(secret.is_empty() || secret == "whsec_" || !error.contains(secret), "{error}");
        }
    }
}
