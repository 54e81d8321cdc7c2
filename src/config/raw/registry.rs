//! The key `registry:` of a format with a schema.

use super::super::text::decode::mapping;
use super::super::text::scalar::{Flag, Text, UrlText};
use super::{Auth, Tls};

mapping! {
    /// A schema registry with Confluent's API: each record begins with the id of its schema there.
    Registry {
        /// Where the API begins, as in `https://registry.example.org/apis/ccompat/v7`
        url: UrlText = required,
        /// The subject of the schema; a template over the event and `topic`, the topic of the record
        subject: Text ["{{ topic }}-value"],
        /// Register the schema under the subject if it isn't there; without it deliveries wait until somebody else does
        register: Flag ["false"],
        /// The login at the registry
        auth: Auth,
        /// The certificates for an `https://` connection to the registry
        tls: Tls,
    }
}
