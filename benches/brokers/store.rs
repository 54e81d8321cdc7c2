//! The stores of the spool that are compared.

use super::support::{Home, Services};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    Sqlite,
    /// With all servers and the relay on one machine.
    Postgres,
}

impl Store {
    pub const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];

    /// The entry `spool:` of a configuration, with these keys besides the store's.
    pub fn configuration(self, keys: &str) -> String {
        let postgres = match self {
            Self::Sqlite => "",
            Self::Postgres => {
                "postgres: { url: \"${POSTGRES}\", password: \"${POSTGRES_PASSWORD}\", schema: \"${SCHEMA}\" }, "
            }
        };
        format!("spool: {{ {postgres}{keys} }}\n")
    }

    /// Sets the variables of the configuration. A schema that no other home has is an empty spool.
    pub fn prepare(self, home: Home, schema: &str) -> Home {
        if self == Self::Sqlite {
            return home;
        }
        let services = Services::shared();
        let (user, port) = (services.postgres_user(), services.postgres_port());
        // Without TLS: that would be a part of the figures for a server on the same machine, and none for the file.
        let url = format!("postgres://{user}@127.0.0.1:{port}/{}?sslmode=disable", services.postgres_database());
        home.with("POSTGRES", &url).with("POSTGRES_PASSWORD", services.postgres_password()).with("SCHEMA", schema)
    }
}
