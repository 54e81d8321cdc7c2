//! The key `oauth2:` of any login.

use super::Tls;
use crate::config::text::decode::mapping;
use crate::config::text::scalar::{SecretText, Text, UrlText};

mapping! {
    /// An access token by OAuth 2.0 client credentials: fetched by the relay, shared by equal blocks, and renewed before it ends.
    OAuth2 {
        /// The URL of the token endpoint
        token_url: UrlText = required,
        /// The identifier of the client
        client_id: SecretText = required,
        /// The secret of the client, sent by HTTP Basic; either this or `private_key`
        client_secret: SecretText,
        /// PEM file with the private key of the client, RSA (RS256) or EC P-256 (ES256): it signs an assertion by RFC 7523
        private_key: Text,
        /// The `kid` of that key in the header of the assertion
        key_id: Text,
        /// The scopes to ask for, separated by spaces
        scope: Text,
        /// The audience to ask for, for token servers that have the parameter `audience`
        audience: Text,
        /// The certificates for an `https://` connection to the token server
        tls: Tls,
    }
}
