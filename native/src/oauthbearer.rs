//! Access tokens of librdkafka's connections (`OAUTHBEARER`). rdkafka gives librdkafka a token only when it asks for one, and without
//! extensions.

use std::ffi::{CString, NulError, c_char};

use rdkafka::bindings::rd_kafka_oauthbearer_set_token;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaRespErr;

/// The size of librdkafka's texts of errors, in bytes.
const ERROR_SIZE: usize = 512;

/// A token as librdkafka takes it.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    pub text: &'a str,
    /// In milliseconds since the epoch, after now.
    pub ends_at: i64,
    /// The name of the user, which brokers take from the token: librdkafka logs it.
    pub user: &'a str,
    /// Names and values that are sent with the token (RFC 7628, 3.1).
    pub extensions: &'a [(String, String)],
}

/// Gives the client its token. Connections that wait for one go on at once, others use it for their next login. The error may have
/// the token in it.
pub fn set_token<C: ClientContext>(client: &Client<C>, token: Token<'_>) -> Result<(), String> {
    let nul = |_: NulError| "there is a NUL character in the token, or in an extension".to_owned();
    let (text, user) = (CString::new(token.text).map_err(nul)?, CString::new(token.user).map_err(nul)?);
    let parts = token.extensions.iter().flat_map(|(name, value)| [name, value]);
    let parts: Vec<_> = parts.map(|part| CString::new(part.as_str())).collect::<Result<_, _>>().map_err(nul)?;
    let mut extensions: Vec<_> = parts.iter().map(|part| part.as_ptr()).collect();
    let mut error: [c_char; ERROR_SIZE] = [0; ERROR_SIZE];
    // SAFETY: the client lives during the call. librdkafka copies the texts, which end with NUL and live longer than the call, as do
    // the lists, whose sizes are given.
    let result = unsafe {
        rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            text.as_ptr(),
            token.ends_at,
            user.as_ptr(),
            extensions.as_mut_ptr(),
            extensions.len(),
            error.as_mut_ptr(),
            error.len(),
        )
    };
    if result == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let error: Vec<u8> = error.into_iter().take_while(|char| *char != 0).flat_map(c_char::to_ne_bytes).collect();
    Err(String::from_utf8_lossy(&error).into_owned())
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use rdkafka::config::ClientConfig;
    use rdkafka::producer::{BaseProducer, Producer as _};

    use super::*;

    #[test]
    fn a_client_with_that_mechanism_takes_a_token_with_extensions() {
        let client = |mechanism: &str| -> BaseProducer {
            let mut settings = ClientConfig::new();
            settings.set("security.protocol", "sasl_plaintext").set("sasl.mechanism", mechanism);
            settings.set("sasl.username", "u").set("sasl.password", "p");
            settings.create().unwrap()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let extensions = [("logicalCluster".to_owned(), "lkc-1".to_owned())];
        let token = Token {
            text: "a.b.c",
            ends_at: i64::try_from(now).unwrap() + 60_000,
            user: "relay",
            extensions: &extensions,
        };
        let set = |mechanism, token| set_token(client(mechanism).client(), token);
        assert_eq!(set("OAUTHBEARER", token), Ok(()));
        assert!(set("PLAIN", token).unwrap_err().contains("not the configured authentication mechanism"));
        assert!(set("OAUTHBEARER", Token { ends_at: 1, ..token }).unwrap_err().contains("unexpired"));
        let reserved = [("auth".to_owned(), "x".to_owned())];
        assert!(set("OAUTHBEARER", Token { extensions: &reserved, ..token }).is_err());
        assert!(set("OAUTHBEARER", Token { text: "a\0b", ..token }).unwrap_err().contains("NUL"));
    }
}
