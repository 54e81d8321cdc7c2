//! What PostgreSQL's error codes mean for the relay. They are listed in the PostgreSQL manual, Appendix A "PostgreSQL Error Codes".

use super::PostgresErrorKind as Kind;

/// What a code, or all other codes of a class, means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SqlState {
    /// Five characters; a class has only the first two.
    code: &'static str,
    pub kind: Kind,
    /// Whether the same request can succeed later without a change of the configuration, the database or the relay.
    pub is_transient: bool,
    /// What happened, and what to do.
    pub meaning: &'static str,
}

const fn row(code: &'static str, kind: Kind, is_transient: bool, meaning: &'static str) -> SqlState {
    SqlState { code, kind, is_transient, meaning }
}

const TABLE: [SqlState; 39] = [
    row("08", Kind::ConnectionLost, true, "the connection is broken: check the network, and that the server runs"),
    row("08004", Kind::Unavailable, true, "the server takes no connection now: ask its administrator why"),
    row(
        "08P01",
        Kind::Protocol,
        false,
        "the server doesn't understand the relay: connect to PostgreSQL itself, not to something in between",
    ),
    row("0A000", Kind::Refused, false, "the server doesn't support this: use PostgreSQL 14 or later"),
    row("22", Kind::Refused, false, "the server refuses a value"),
    row("23", Kind::Refused, false, "the data contradict a constraint: someone else may have changed the tables"),
    row("25", Kind::Refused, false, "the transaction is in a state that doesn't allow this"),
    row(
        "25006",
        Kind::Standby,
        true,
        "the server takes no writes: it is a standby, or `default_transaction_read_only` is on; name the primary in the URL",
    ),
    row(
        "25P03",
        Kind::ConnectionLost,
        true,
        "the server ended the connection, because a transaction did nothing for too long: the relay was suspended, or its machine is overloaded",
    ),
    row(
        "25P04",
        Kind::Canceled,
        true,
        "the server ended the transaction, because it took too long: check `transaction_timeout`, and the load of the server",
    ),
    row(
        "28000",
        Kind::LoginRefused,
        false,
        "the server refuses the login: check the user, and ask the server's administrator",
    ),
    row("28P01", Kind::LoginRefused, false, "the server refuses the login: check user and password"),
    row(
        "3D000",
        Kind::NotFound,
        false,
        "there is no such database: check the URL, or ask the server's administrator to create it",
    ),
    row("3F000", Kind::NotFound, false, "there is no such schema: check `schema`"),
    row("40", Kind::Conflict, true, "the transaction was rolled back, because another one got in its way"),
    row("40003", Kind::ConnectionLost, true, "it is not known whether the transaction was committed"),
    row(
        "40P01",
        Kind::Conflict,
        true,
        "the transaction was rolled back, because it and another one waited for each other",
    ),
    row("42", Kind::Refused, false, "the server refuses the request: someone else may have changed the tables"),
    row(
        "42501",
        Kind::NotPermitted,
        false,
        "the user lacks a right: ask the server's administrator for the right to connect to the database and to create in it",
    ),
    row("42P01", Kind::NotFound, false, "a table is missing: someone else may have removed it"),
    row("53", Kind::Unavailable, true, "the server has too few resources"),
    row("53100", Kind::DiskFull, true, "the server's disk is full: make room on it"),
    row("53200", Kind::Unavailable, true, "the server has too little memory"),
    row(
        "53300",
        Kind::TooManyConnections,
        true,
        "the server takes no more connections: close others, or ask its administrator for a higher `max_connections` or limit of this user or database",
    ),
    row("54", Kind::Refused, false, "the request is larger than the server allows"),
    row("55", Kind::Refused, false, "the object is not in the state that this needs"),
    row("55006", Kind::Conflict, true, "the object is in use"),
    row("55P03", Kind::Conflict, true, "another transaction holds the lock for too long"),
    row("57", Kind::Canceled, true, "an administrator or a time limit ended the request"),
    row(
        "57014",
        Kind::Canceled,
        true,
        "the request was cancelled, by an administrator or because it took too long (`statement_timeout`)",
    ),
    row("57P01", Kind::Unavailable, true, "the server is stopping, or an administrator ended the connection"),
    row("57P02", Kind::Unavailable, true, "the server closed all connections, because one of its processes crashed"),
    row("57P03", Kind::Unavailable, true, "the server is starting or stopping, and takes no connections yet"),
    row("57P04", Kind::NotFound, false, "the database was removed"),
    row(
        "57P05",
        Kind::ConnectionLost,
        true,
        "the server ended the connection, because it did nothing for too long (`idle_session_timeout`)",
    ),
    row("58", Kind::Unavailable, true, "the server's system fails: check its disk, and its log"),
    row("XX", Kind::Unavailable, true, "the server has an internal error: look at its log"),
    row(
        "XX001",
        Kind::Damaged,
        false,
        "the server's data are damaged: look at its log, and restore them from a backup",
    ),
    row(
        "XX002",
        Kind::Damaged,
        false,
        "an index of the server is damaged: look at its log, and rebuild the index (`REINDEX`)",
    ),
];

const UNKNOWN: SqlState = row("", Kind::Refused, false, "the server refuses the request");

impl SqlState {
    /// What that code means, or what its class does.
    pub fn of(code: &str) -> &'static Self {
        let named = |name: &str| TABLE.iter().find(|row| row.code == name);
        named(code).or_else(|| named(code.get(..2)?)).unwrap_or(&UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_that_of_postgresql_or_a_class_of_one() {
        for row in &TABLE {
            let is_known = match row.code.len() {
                // PostgreSQL 17 has it, but not the client's list.
                5 if row.code == "25P04" => true,
                5 => format!("{:?}", tokio_postgres::error::SqlState::from_code(row.code)).find("Other").is_none(),
                length => length == 2,
            };
            assert!(is_known, "{}", row.code);
        }
    }

    #[test]
    fn a_code_is_looked_up_before_its_class() {
        for (code, kind, is_transient) in [
            ("08000", Kind::ConnectionLost, true),
            ("08006", Kind::ConnectionLost, true),
            ("08P01", Kind::Protocol, false),
            ("22P05", Kind::Refused, false),
            ("23505", Kind::Refused, false),
            ("25006", Kind::Standby, true),
            ("28000", Kind::LoginRefused, false),
            ("28P01", Kind::LoginRefused, false),
            ("3D000", Kind::NotFound, false),
            ("40001", Kind::Conflict, true),
            ("40P01", Kind::Conflict, true),
            ("42501", Kind::NotPermitted, false),
            ("42601", Kind::Refused, false),
            ("53000", Kind::Unavailable, true),
            ("53100", Kind::DiskFull, true),
            ("53300", Kind::TooManyConnections, true),
            ("53400", Kind::Unavailable, true),
            ("55P03", Kind::Conflict, true),
            ("57014", Kind::Canceled, true),
            ("57P01", Kind::Unavailable, true),
            ("57P02", Kind::Unavailable, true),
            ("57P03", Kind::Unavailable, true),
            ("57P04", Kind::NotFound, false),
            ("58030", Kind::Unavailable, true),
            ("XX000", Kind::Unavailable, true),
            ("XX001", Kind::Damaged, false),
            ("XX002", Kind::Damaged, false),
            ("P0001", Kind::Refused, false),
            ("é", Kind::Refused, false),
            ("", Kind::Refused, false),
        ] {
            let found = SqlState::of(code);
            assert_eq!((found.kind, found.is_transient), (kind, is_transient), "{code}");
        }
    }
}
