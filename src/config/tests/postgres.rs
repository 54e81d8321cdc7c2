//! The spool in PostgreSQL.

use std::time::Duration;

use expect_test::{Expect, expect};

use super::{Strictness, check_errors, check_warnings, parse, valid_with};
use crate::config::{Config, PostgresConfig, SslMode, StoreConfig};

/// A file with that spool that is valid otherwise.
fn file(spool: &str) -> String {
    format!("{}spool: {{ {spool} }}\n", super::source("amqp: { url: amqp://localhost, queue: q }"))
}

/// The database of a file with that `postgres:`.
#[track_caller]
fn postgres(postgres: &str, variables: &[(&str, &str)]) -> PostgresConfig {
    stored(valid_with(&file(&format!("postgres: {{ {postgres} }}")), variables))
}

fn stored(config: Config) -> PostgresConfig {
    match config.spool.store {
        StoreConfig::Postgres(postgres) => *postgres,
        StoreConfig::Sqlite(file) => panic!("the spool is in {}", file.path.display()),
    }
}

#[track_caller]
fn check_postgres(postgres: &str, expected: Expect) {
    check_errors(&file(&format!("postgres: {{ {postgres} }}")), expected);
}

#[test]
fn missing_keys_have_their_defaults() {
    let least = postgres("url: postgresql://relay@db.example.org/events", &[]);
    assert_eq!(least.hosts, [("db.example.org".to_owned(), 5432)]);
    assert_eq!((least.user.as_str(), least.database.as_str()), ("relay", "events"));
    assert_eq!(least.password, None);
    assert_eq!(least.schema, "regards_relay");
    assert_eq!(least.lease, Duration::from_secs(10));
    assert_eq!(least.ssl_mode, SslMode::Prefer);
    assert_eq!(least.connect_timeout, Duration::from_secs(10));
    assert_eq!(least.application_name, "regards-relay");
    let schema = serde_json::to_value(crate::config::schema()).unwrap();
    let defaults = |key: &str| schema["$defs"]["Postgres"]["properties"][key]["default"].clone();
    assert_eq!((defaults("schema"), defaults("lease")), ("regards_relay".into(), "10s".into()));
}

#[test]
fn every_key_and_parameter_is_used() {
    let all = postgres(
        "url: 'postgres://re%40lay@one:1,two/my%2Fdb?sslmode=require&connect_timeout=3&application_name=a%20b&target_session_attrs=primary', \
         password: '${P}', schema: relay_2, lease: 3s",
        &[("P", "100%/@:")],
    );
    assert_eq!(all.hosts, [("one".to_owned(), 1), ("two".to_owned(), 5432)]);
    assert_eq!((all.user.as_str(), all.database.as_str()), ("re@lay", "my/db"));
    assert_eq!(all.password.as_ref().unwrap().reveal().unwrap(), "100%/@:");
    assert_eq!((all.schema.as_str(), all.lease), ("relay_2", Duration::from_secs(3)));
    assert_eq!((all.ssl_mode, all.connect_timeout), (SslMode::Require, Duration::from_secs(3)));
    assert_eq!(all.application_name, "a b");
    assert_eq!(all.to_string(), "postgresql://one:1,two:5432/my/db (schema relay_2)");
    for (name, mode) in SslMode::NAMES.iter().filter(|(_, mode)| *mode != SslMode::VerifyCa) {
        assert_eq!(postgres(&format!("url: postgresql://u@h/d?sslmode={name}"), &[]).ssl_mode, *mode);
    }
}

#[test]
fn a_password_in_the_url_is_encoded_where_it_is_inserted_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "p@ss/w%rd\n").unwrap();
    let in_file = postgres(&format!("url: 'postgresql://relay:${{file:{}}}@h/d'", path.display()), &[]);
    let password = in_file.password.unwrap();
    assert_eq!(password.reveal().unwrap(), "p@ss/w%rd");
    std::fs::write(&path, "another\n").unwrap();
    assert_eq!(password.reveal().unwrap(), "another");
    let whole = postgres("url: '${URL}'", &[("URL", "postgresql://relay:a%40b@h/d")]);
    assert_eq!(whole.password.unwrap().reveal().unwrap(), "a@b");
    let beside = postgres("url: 'postgresql://relay:${P}@h/d', password: '${P}'", &[("P", "x@y")]);
    assert_eq!(beside.password.unwrap().reveal().unwrap(), "x@y");
    assert!(!format!("{password:?}").contains("another"));
}

#[test]
fn a_wrong_url_is_an_error() {
    for (url, expected) in [
        (
            "localhost/db",
            expect![[r#"
            error[postgres-url]: the URL of a PostgreSQL database begins with `postgresql://`
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: localhost/db } }
              |                           ^^^^^^^^^^^^
              |
              = help: write `postgresql://USER@HOST:PORT/DATABASE`

        "#]],
        ),
        (
            "postgresql:///db",
            expect![[r#"
            error[postgres-url]: this URL names no host, or an empty one in the list of hosts
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql:///db } }
              |                           ^^^^^^^^^^^^^^^^
              |
              = help: write `postgresql://USER@HOST:PORT/DATABASE`

        "#]],
        ),
        (
            "postgresql://relay@%2Frun%2Fpostgresql/db",
            expect![[r#"
            error[postgres-url]: the relay connects to PostgreSQL by TCP, not by a Unix-domain socket
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay@%2Frun%2Fpostgresql/db } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write the name or the address of a host; `127.0.0.1` if the server runs on this machine

        "#]],
        ),
        (
            "postgresql://db.example.org/db",
            expect![[r#"
            error[postgres-url]: this URL names no user
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://db.example.org/db } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `postgresql://USER@HOST:PORT/DATABASE`

        "#]],
        ),
        (
            "postgresql://relay@h",
            expect![[r#"
                error[postgres-url]: this URL names no database
                 --> routes.yaml:9:27
                  |
                9 | spool: { postgres: { url: postgresql://relay@h } }
                  |                           ^^^^^^^^^^^^^^^^^^^^
                  |
                  = help: write `postgresql://USER@HOST:PORT/DATABASE`, in quotes if there is a comma in it

            "#]],
        ),
        (
            "postgresql://relay@h:0/db",
            expect![[r#"
            error[postgres-url]: a port in this URL is not a number between 1 and 65535
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay@h:0/db } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `postgresql://USER@HOST:PORT/DATABASE`

        "#]],
        ),
        (
            "postgresql://relay:p/ss@h/db",
            expect![[r#"
            error[postgres-url]: this URL can be read in two ways: there is an `@` after the first `/`, `?` or `#`, so the beginning of the host is ambiguous
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay:***@h/db } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: percent-encode user, password and database (`@` is `%40`, `/` is `%2F`, `#` is `%23`, `%` is `%25`), or write the password as it is beside the URL, as `password:`

        "#]],
        ),
    ] {
        check_postgres(&format!("url: {url}"), expected);
    }
}

#[test]
fn a_wrong_parameter_is_an_error() {
    for (parameters, expected) in [
        (
            "sslmode=allow",
            expect![[r#"
            error[postgres-url]: `allow` is no value for the parameter `sslmode` of this URL
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db?sslmode=allow } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `prefer` for TLS if the server has it, or `disable`

        "#]],
        ),
        (
            "sslmode=on&connect_timeout=0&application_name=",
            expect![[r#"
            error[postgres-url]: `on` is no value for the parameter `sslmode` of this URL
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db?sslmode=on&connect_timeout=0&application_name= } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write one of `disable`, `prefer`, `require`, `verify-ca`, `verify-full`

            error[postgres-url]: `0` is no value for the parameter `connect_timeout` of this URL
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db?sslmode=on&connect_timeout=0&application_name= } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write a number of seconds between 1 and 300

            error[postgres-url]: `` is no value for the parameter `application_name` of this URL
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db?sslmode=on&connect_timeout=0&application_name= } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write 1 to 63 printable characters of ASCII

        "#]],
        ),
        (
            "target_session_attrs=any",
            expect![[r#"
            error[postgres-url]: `any` is no value for the parameter `target_session_attrs` of this URL
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db?target_session_attrs=any } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: remove it: the relay connects to the first host that can be written to

        "#]],
        ),
        (
            "keepalives=1&sslrootcert=ca.pem&password=hunter2",
            expect![[r#"
                error[postgres-url]: the relay doesn't know the parameter `keepalives` of this URL
                 --> routes.yaml:9:27
                  |
                9 | spool: { postgres: { url: postgresql://relay@h/db?keepalives=1&sslrootcert=ca.pem&password=*** } }
                  |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                  |
                  = help: known parameters: `sslmode`, `connect_timeout`, `application_name`, `target_session_attrs`

                error[postgres-url]: the relay doesn't take `sslrootcert` from the parameters of this URL
                 --> routes.yaml:9:27
                  |
                9 | spool: { postgres: { url: postgresql://relay@h/db?keepalives=1&sslrootcert=ca.pem&password=*** } }
                  |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                  |
                  = help: write it beside the URL, as `tls: { ca: … }`

                error[postgres-url]: the relay doesn't take `password` from the parameters of this URL
                 --> routes.yaml:9:27
                  |
                9 | spool: { postgres: { url: postgresql://relay@h/db?keepalives=1&sslrootcert=ca.pem&password=*** } }
                  |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                  |
                  = help: write it beside the URL, as `password:`

            "#]],
        ),
        (
            "sslmode=require&sslmode=require",
            expect![[r#"
            error[postgres-url]: this URL has the parameter `sslmode` twice
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db?sslmode=require&sslmode=require } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: keep one of the two

        "#]],
        ),
        (
            "sslmode=verify-ca",
            expect![[r#"
            error[tls-ca]: `sslmode=verify-ca` needs the authority that signs the server's certificate
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db?sslmode=verify-ca } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: name it in `tls: { ca: … }`, or write `sslmode=verify-full`: anyone can get a certificate from one of the system's authorities, but not in the name of the server

        "#]],
        ),
    ] {
        check_postgres(&format!("url: postgresql://relay@h/db?{parameters}"), expected);
    }
}

#[test]
fn inserted_values_are_not_shown() {
    let url = "postgresql://relay:hunter2@h/db?hunter3=1&sslmode=hunter4";
    let text = file("postgres: { url: '${URL}' }");
    let errors = parse(&text, Strictness::Run, &[("URL", url)]).unwrap_err().to_string();
    assert!(
        errors.contains("known parameters") && errors.contains("sslmode") && !errors.contains("hunter"),
        "{errors}"
    );
    // Offline, a variable that is not set is a placeholder.
    let (config, warnings) = parse(&text, Strictness::Offline, &[]).unwrap();
    assert!(warnings.to_string().contains("the variable `URL` is not set"), "{warnings}");
    assert_eq!(stored(config).hosts, [("unset.invalid".to_owned(), 5432)]);
}

#[test]
fn wrong_values_of_other_keys_are_errors() {
    check_postgres(
        "url: postgresql://relay@h/db, schema: My-Schema, lease: 1s, tls: { ca: no-such.pem, cert: Cargo.toml }",
        expect![[r#"
            error[schema-name]: `My-Schema` can't be the name of a schema here
             --> routes.yaml:9:60
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db, schema: My-Schema, lease: 1s, tls: { ca: no-such.pem, cert: Cargo.toml } } }
              |                                                            ^^^^^^^^^
              |
              = help: write lower-case letters, digits and `_`, at most 63 of them and no digit first, as in `regards_relay`

            error[out-of-range]: `1s` is out of range
             --> routes.yaml:9:78
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db, schema: My-Schema, lease: 1s, tls: { ca: no-such.pem, cert: Cargo.toml } } }
              |                                                                              ^^
              |
              = help: write something between `3s` and `5m`

            error[missing-file]: the file `HERE/no-such.pem` can't be read: No such file or directory (os error 2)
             --> routes.yaml:9:93
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db, schema: My-Schema, lease: 1s, tls: { ca: no-such.pem, cert: Cargo.toml } } }
              |                                                                                             ^^^^^^^^^^^
              |
              = help: relative paths begin at the directory of this file

            error[tls-pair]: `cert` needs `key`
             --> routes.yaml:9:112
              |
            9 | spool: { postgres: { url: postgresql://relay@h/db, schema: My-Schema, lease: 1s, tls: { ca: no-such.pem, cert: Cargo.toml } } }
              |                                                                                                                ^^^^^^^^^^ no `key` beside it
              |
              = help: add `key:`: a client needs its certificate and its key to authenticate itself

        "#]],
    );
    check_postgres(
        "url: postgresql://relay@h/db?sslmode=disable, schema: pg_relay, tls: {}",
        expect![[r#"
        error[schema-name]: `pg_relay` is a schema of PostgreSQL itself
         --> routes.yaml:9:76
          |
        9 | spool: { postgres: { url: postgresql://relay@h/db?sslmode=disable, schema: pg_relay, tls: {} } }
          |                                                                            ^^^^^^^^
          |
          = help: write lower-case letters, digits and `_`, at most 63 of them and no digit first, as in `regards_relay`

        error[tls-unused]: `tls` is given, but the URL says `sslmode=disable`
         --> routes.yaml:9:91
          |
        9 | spool: { postgres: { url: postgresql://relay@h/db?sslmode=disable, schema: pg_relay, tls: {} } }
          |                                                                                           ^^
          |
          = help: remove one of the two

    "#]],
    );
    check_postgres(
        "uri: postgresql://relay@h/db, dbname: db",
        expect![[r#"
            error[missing-key]: `url` is missing
             --> routes.yaml:9:20
              |
            9 | spool: { postgres: { uri: postgresql://relay@h/db, dbname: db } }
              |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ needs `url`
              |
              = help: add `url:`, the address of the database, `postgresql://USER@HOST/DATABASE`; several hosts, separated by commas, are tried in turn; it may have the parameters `sslmode` (by default `prefer`), `connect_timeout` (seconds) and `application_name`

            error[unknown-key]: unknown key `uri`
             --> routes.yaml:9:22
              |
            9 | spool: { postgres: { uri: postgresql://relay@h/db, dbname: db } }
              |                      ^^^ did you mean `url`?
              |
              = help: write `url:`

            error[unknown-key]: unknown key `dbname`
             --> routes.yaml:9:52
              |
            9 | spool: { postgres: { uri: postgresql://relay@h/db, dbname: db } }
              |                                                    ^^^^^^
              |
              = help: known keys: `url`, `password`, `schema`, `lease`, `tls`

        "#]],
    );
    check_errors(
        &file("postgres: postgresql://relay@h/db"),
        expect![[r#"
        error[wrong-type]: expected a mapping of keys to values, found a single value
         --> routes.yaml:9:20
          |
        9 | spool: { postgres: postgresql://relay@h/db }
          |                    ^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: write it as in `postgres: { url: postgresql://USER@HOST/DATABASE, password: "${file:/run/secrets/NAME}" }`

    "#]],
    );
    check_errors(
        &file("postgresql: { url: postgresql://relay@h/db }"),
        expect![[r#"
        error[unknown-key]: unknown key `postgresql`
         --> routes.yaml:9:10
          |
        9 | spool: { postgresql: { url: postgresql://relay@h/db } }
          |          ^^^^^^^^^^ did you mean `postgres`?
          |
          = help: write `postgres:`

    "#]],
    );
}

#[test]
fn a_spool_is_in_postgresql_or_in_a_file() {
    check_errors(
        &file("path: spool.db, on_corrupt: stop, max_size: 1GiB, postgres: { url: postgresql://relay@h/db }"),
        expect![[r#"
            error[two-stores]: `path` is for a spool in a file, and this one is in PostgreSQL
             --> routes.yaml:9:16
              |
            9 | spool: { path: spool.db, on_corrupt: stop, max_size: 1GiB, postgres: { url: postgresql://relay@h/db } }
              |                ^^^^^^^^                                              -------------------------------- the spool
              |
              = help: remove `path`, or remove `postgres`

            error[two-stores]: `on_corrupt` is for a spool in a file, and this one is in PostgreSQL
             --> routes.yaml:9:38
              |
            9 | spool: { path: spool.db, on_corrupt: stop, max_size: 1GiB, postgres: { url: postgresql://relay@h/db } }
              |                                      ^^^^                            -------------------------------- the spool
              |
              = help: remove `on_corrupt`, or remove `postgres`

        "#]],
    );
}

#[test]
fn passwords_in_clear_are_warned_of_and_masked() {
    check_warnings(
        &file("postgres: { url: postgresql://relay:hunter2@h/db, password: hunter3 }"),
        expect![[r#"
            warning[secret-in-clear]: the password in this URL is written in the file itself
             --> routes.yaml:9:27
              |
            9 | spool: { postgres: { url: postgresql://relay:***@h/db, password: *** } }
              |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

            warning[secret-in-clear]: the password is written in the file itself
             --> routes.yaml:9:70
              |
            9 | spool: { postgres: { url: postgresql://relay:***@h/db, password: *** } }
              |                                                                  ^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

        "#]],
    );
}

#[test]
fn with_certificates_the_server_is_verified_by_default() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["h".to_owned()]).unwrap().self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, certificate.pem()).unwrap();
    let mode = |url: &str| postgres(&format!("url: {url}, tls: {{ ca: {} }}", ca.display()), &[]).ssl_mode;
    assert_eq!(mode("postgresql://relay@h/db"), SslMode::VerifyFull);
    assert_eq!(mode("postgresql://relay@h/db?sslmode=verify-ca"), SslMode::VerifyCa);
    assert_eq!(mode("postgresql://relay@h/db?sslmode=require"), SslMode::Require);
}
