//! `sasl:` of a Kafka sink.

use super::OAuth2;
use crate::config::text::decode::{NamedEntries, mapping};
use crate::config::text::scalar::{OneOf, SecretText, Text};
use crate::config::values::Mechanism;

mapping! {
    /// The SASL login at the brokers.
    Sasl {
        /// The SASL mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`, with `username` and `password`; `OAUTHBEARER`, with `oauth2`; or `GSSAPI` (Kerberos), with `principal` and `keytab`
        mechanism: OneOf<Mechanism> = required,
        /// The user name for the SASL login
        username: SecretText,
        /// The password for the SASL login
        password: SecretText,
        /// The access tokens of `OAUTHBEARER`
        oauth2: OAuth2,
        /// Names and values that are sent with the access tokens, as the cluster's operator asks for them
        extensions: NamedEntries<Text>,
        /// The Kerberos principal that logs in, as in `relay@EXAMPLE.ORG`
        principal: Text,
        /// The keytab of the principal; it is read again for each ticket
        keytab: Text,
        /// The Kerberos service name of the brokers: the first part of their principals
        service: Text ["kafka"],
    }
}
