//! The key `postgres:` of the spool.

use super::super::text::decode::mapping;
use super::super::text::scalar::{Period, SecretText, Text, UrlText};
use super::Tls;

mapping! {
    /// A PostgreSQL database, version 14 or later, that keeps the backlog of each sink and the dead letters, for several relays.
    Postgres {
        /// The address of the database, `postgresql://USER@HOST/DATABASE`; several hosts, separated by commas, are tried in turn; it may have the parameters `sslmode` (by default `prefer`), `connect_timeout` (seconds) and `application_name`
        url: UrlText = required,
        /// The password, taken literally; replaces the one in the URL
        password: SecretText,
        /// The schema of the tables; the relay creates it if it is missing
        schema: Text ["regards_relay"],
        /// How long a relay owns its sources without renewing; after that time another relay takes over
        lease: Period ["10s"],
        /// The certificates of the connection; with them, `sslmode` is `verify-full` by default
        tls: Tls,
    }
}
