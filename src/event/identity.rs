//! The id of an event: the same for every copy of one response, wherever and whenever it is decoded.
//!
//! The recipe is a promise to consumers, who may have stored ids: it never changes. The id is a version 5 UUID (RFC 9562,
//! section 5.5) in [`NAMESPACE`], over the concatenation of five parts in this order, each preceded by its length in
//! bytes as 32 bits, big-endian:
//!
//! 1. the tenant, in UTF-8;
//! 2. the correlation id, in UTF-8;
//! 3. the status, in UTF-8;
//! 4. the AMQP timestamp in decimal digits; empty if there is none;
//! 5. the SHA-256 of the body as received, 32 bytes.
//!
//! The name of the source is no part of the id, so that two relays on two queues of one exchange give the same ids.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The namespace of event ids: the version 5 UUID of `urn:regards-relay:event` in the namespace for URLs.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x0885_3d23_e029_5315_94fb_ad5f_5f55_f3bf);

#[must_use]
pub(super) fn id(tenant: &str, correlation_id: &str, status: &str, timestamp: Option<u64>, body: &[u8]) -> Uuid {
    let timestamp = timestamp.map(|seconds| seconds.to_string()).unwrap_or_default();
    let hash = Sha256::digest(body);
    let parts = [tenant.as_bytes(), correlation_id.as_bytes(), status.as_bytes(), timestamp.as_bytes(), &hash];
    // A body is far below 4 GiB, and no part is longer than the body or 255 bytes.
    let lengths = parts.map(|part| u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    version_5(&NAMESPACE, lengths.iter().zip(parts).flat_map(|(length, part)| [length, part]))
}

/// The version 5 UUID of the concatenated parts. (The crate `uuid` computes the same, but without the processor's SHA-1
/// instructions.)
#[must_use]
pub(crate) fn version_5<'a>(namespace: &Uuid, name: impl IntoIterator<Item = &'a [u8]>) -> Uuid {
    let mut hash = Sha1::new();
    hash.update(namespace.as_bytes());
    for part in name {
        hash.update(part);
    }
    let [bytes @ .., _, _, _, _] = hash.finalize().0;
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_the_documented_one() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:regards-relay:event"));
    }

    /// The published test vectors of docs/event.md.
    #[test]
    fn the_recipe_never_changes() {
        let body = br#"{"correlationId":"c-1","responseStatus":"GRANTED"}"#;
        assert_eq!(
            id("cnes-a", "c-1", "GRANTED", Some(1_681_461_977), body).to_string(),
            "3649ef75-4f22-5d63-8bc7-b0bcf16519ba"
        );
        assert_eq!(id("cnes-a", "c-1", "GRANTED", None, body).to_string(), "87516913-5c66-58c3-904a-86f7fc8fa6b4");
    }

    #[test]
    fn every_part_changes_the_id_and_parts_are_delimited() {
        let ids = [
            id("a", "bc", "GRANTED", None, b""),
            id("ab", "c", "GRANTED", None, b""),
            id("a", "bcG", "RANTED", None, b""),
            id("a", "bc", "GRANTED", Some(0), b""),
            id("a", "bc", "GRANTED1", None, b""),
            id("a", "bc", "GRANTED", Some(1), b""),
            id("a", "bc", "GRANTED", None, b" "),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
