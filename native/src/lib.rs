//! What the relay needs of C libraries and no safe crate offers: a Kerberos login for each sink, and access tokens that are given to
//! librdkafka at any time. The only code of the relay with `unsafe`; its interface is safe.

pub mod kerberos;
pub mod oauthbearer;
