//! `check --connect` of a spool in PostgreSQL: every `sslmode`, every login, and servers that can't be used. No answer has a password.

use std::path::Path;

use regards_relay::net::{Tls, Verification};
use regards_relay::tasks::{TaskKind, VARIABLE};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::{Home, Postgres, Receiver, Services, until, use_ring};

const SECRET: &str = "wr0ng-for-postgres";
const WITH_TLS: &str = ", with TLS; the schema regards_relay doesn't exist yet, and the user may create it";
const WITHOUT_TLS: &str = ", without TLS; the schema regards_relay doesn't exist yet, and the user may create it";

/// A home whose spool is in the database at that URL, which has `${PASSWORD}` in it or not.
fn home(services: &Services, url: &str, keys: &str) -> Home {
    let home = Home::new(&format!(
        "
version: 1
sources: {{ samples: {{ recording: {{ path: samples.ndjson }} }} }}
sinks: {{ archive: {{ file: {{ path: archive.ndjson }} }} }}
routes: [{{ name: all, to: archive }}]
unrouted: drop
spool: {{ postgres: {{ url: '{url}'{keys} }} }}
"
    ));
    home.write("samples.ndjson", "");
    home.with("PASSWORD", services.postgres_password()).with("WRONG", SECRET).with("CA", services.ca())
}

/// The result for the spool.
fn said_of(home: &Home, services: &Services) -> String {
    let all = home.check_connect();
    for secret in [services.postgres_password(), SECRET] {
        assert!(!all.contains(secret), "a password is shown: {all}");
    }
    let line = all.lines().find(|line| line.contains(": spool: "));
    line.unwrap_or_else(|| panic!("nothing is said of the spool: {all}")).to_owned()
}

fn said(services: &Services, url: &str, keys: &str) -> String {
    said_of(&home(services, url, keys), services)
}

/// `postgresql://…` of the relay's user, with these parameters.
fn url(services: &Services, host: &str, parameters: &str) -> String {
    let (user, database) = (services.postgres_user(), services.postgres_database());
    format!("postgresql://{user}:${{PASSWORD}}@{host}:{}/{database}{parameters}", services.postgres_port())
}

/// An authority that signed no server's certificate.
fn write_another_authority(path: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(path, params.self_signed(&key).unwrap().pem()).unwrap();
}

#[test]
fn each_sslmode_verifies_what_libpq_does() {
    let services = Services::shared();
    let folder = tempfile::tempdir().unwrap();
    let another = folder.path().join("another.pem");
    write_another_authority(&another);
    let (ca, another) = (services.ca(), another.display());
    let trusted = format!(", tls: {{ ca: {ca} }}");
    let misnamed = format!(", tls: {{ ca: {ca}, server_name: db.example.org }}");
    let untrusted = format!(", tls: {{ ca: {another} }}");
    let (no_name, no_trust) = ("the server's certificate is for another name", "no trusted authority signed");
    for (mode, keys, expected) in [
        ("disable", "", WITHOUT_TLS),
        ("prefer", "", WITH_TLS),
        ("prefer", &misnamed, WITH_TLS),
        // A connection that isn't trusted is not replaced by one without TLS.
        ("prefer", &untrusted, no_trust),
        ("require", "", WITH_TLS),
        ("require", &misnamed, WITH_TLS),
        ("require", &untrusted, no_trust),
        ("verify-ca", &trusted, WITH_TLS),
        ("verify-ca", &misnamed, WITH_TLS),
        ("verify-ca", &untrusted, no_trust),
        ("verify-full", &trusted, WITH_TLS),
        ("verify-full", &misnamed, no_name),
        ("verify-full", &untrusted, no_trust),
        // The system's authorities.
        ("verify-full", "", no_trust),
    ] {
        let said = said(&services, &url(&services, "localhost", &format!("?sslmode={mode}")), keys);
        assert!(said.contains(expected), "{mode}{keys}: {said}");
    }
    let by_default = said(&services, &url(&services, "localhost", ""), &misnamed);
    assert!(by_default.contains(no_name), "with `tls` the name is verified: {by_default}");
    let by_default = said(&services, &url(&services, "localhost", ""), "");
    assert!(by_default.starts_with("ok: ") && by_default.contains(WITH_TLS), "{by_default}");
}

#[test]
fn a_client_certificate_is_a_login() {
    let services = Services::shared();
    let url = format!(
        "postgresql://{}@localhost:{}/{}",
        services.postgres_cert_user(),
        services.postgres_port(),
        services.postgres_database()
    );
    let tls = |cert: &str, key: &str| format!(", tls: {{ ca: {}, cert: {cert}, key: {key} }}", services.ca());
    let known = said(&services, &url, &tls(services.client_cert(), services.client_key()));
    assert!(known.contains(WITH_TLS), "{known}");
    let [stranger, stranger_key] = services.stranger();
    for keys in [tls(&stranger, &stranger_key), format!(", tls: {{ ca: {} }}", services.ca())] {
        let refused = said(&services, &url, &keys);
        assert!(refused.contains("asks for a client certificate that it trusts"), "{keys}: {refused}");
    }
    let plain = said(&services, &format!("{url}?sslmode=disable"), "");
    assert!(plain.contains("the server asks for a password, and there is none"), "{plain}");
}

#[tokio::test]
async fn a_login_that_fails_is_explained() {
    let services = Services::shared();
    let (user, port, database) = (services.postgres_user(), services.postgres_port(), services.postgres_database());
    let at = |login: &str, database: &str| format!("postgresql://{login}@localhost:{port}/{database}");
    let (right, wrong) = (format!("{user}:${{PASSWORD}}"), format!("{user}:${{WRONG}}"));
    let other = services.postgres_other_database();
    let grant = format!("GRANT CREATE ON DATABASE \"{other}\" TO \"{user}\"");
    let receiver = Receiver::start().await;
    for (url, words) in [
        (at(&wrong, database), ["check user and password", "28P01"]),
        (at("nobody:${PASSWORD}", database), ["check user and password", "nobody"]),
        (at(user, database), ["there is none: write `password:`", database]),
        (at(&right, "nothing"), ["there is no such database", "3D000"]),
        (at(&right, other), ["the user lacks a right", &grant]),
        (format!("postgresql://u@127.0.0.1:{}/d", receiver.port()), ["the answer is not PostgreSQL's", "127.0.0.1"]),
        ("postgresql://u@no-such-host.invalid/d".to_owned(), ["check its name", "no-such-host.invalid:5432"]),
    ] {
        let said = said(&services, &url, "");
        assert!(said.starts_with("error: ") && words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
    let beside = said(&services, &at(&wrong, database), ", password: '${PASSWORD}'");
    assert!(beside.starts_with("ok: "), "the password beside the URL is used: {beside}");
    assert_eq!(receiver.posted().len(), 0);
}

/// The login has channel binding, so that it works only on the connection to the server itself, even if nobody verifies certificates.
#[tokio::test]
async fn someone_in_between_cannot_log_in() {
    use_ring();
    let services = Services::shared();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = listener.local_addr().unwrap().port();
    let (port, ca) = (services.postgres_port(), services.ca().to_owned());
    tokio::spawn(async move {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let own = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], own).unwrap();
        let mut request = [0; 8];
        let (mut relay, _) = listener.accept().await.unwrap();
        relay.read_exact(&mut request).await.unwrap();
        relay.write_all(b"S").await.unwrap();
        let mut relay = TlsAcceptor::from(std::sync::Arc::new(config)).accept(relay).await.unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        server.write_all(&request).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'S');
        let tls = Tls { ca: Some(ca.into()), ..Tls::default() };
        let client = tls.client_config_with(Verification::ChainAndName).unwrap();
        let name = "localhost".try_into().unwrap();
        let mut server = TlsConnector::from(std::sync::Arc::new(client)).connect(name, server).await.unwrap();
        let _ = copy_bidirectional(&mut relay, &mut server).await;
    });
    let url = url(&services, "localhost", "?sslmode=require").replace(&format!(":{port}/"), &format!(":{between}/"));
    let home = home(&services, &url, "");
    let said = tokio::task::spawn_blocking(move || said_of(&home, &services)).await.unwrap();
    assert!(said.starts_with("error: ") && said.contains("something between the relay and the server"), "{said}");
}

#[test]
fn a_connection_whose_task_panics_is_an_error() {
    if !cfg!(debug_assertions) {
        println!("a release build has no faults on purpose");
        return;
    }
    let services = Services::shared();
    let home =
        home(&services, &url(&services, "localhost", ""), "").with(VARIABLE, TaskKind::PostgresConnection.name());
    let said = said_of(&home, &services);
    assert!(said.starts_with("error: spool: asking for its version failed"), "{said}");
}

#[tokio::test]
async fn settings_of_the_server_that_risk_data_are_warned_of() {
    let private = Services::private(&["postgres"]).await;
    let services = private.services();
    let admin = Postgres::as_admin(services);
    let set = async |setting: &str, value: &str| {
        admin.execute(&format!("ALTER SYSTEM SET {setting} = {value}")).await.unwrap();
        admin.execute("SELECT pg_reload_conf()").await.unwrap();
        until(&format!("{setting} to be {value}"), async || match admin.execute(&format!("SHOW {setting}")).await {
            Ok(found) if found == value => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await;
    };
    let url = url(services, "localhost", "");
    assert!(said(services, &url, "").starts_with("ok: "));
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        set(setting, "off").await;
        let said = said(services, &url, "");
        assert!(said.starts_with("warning: ") && said.contains(&format!("`{setting}` is off")), "{said}");
        set(setting, "on").await;
    }
    // The schema of a relay that ran before, with and without the right to use it.
    let (user, schema) = (services.postgres_user(), "CREATE SCHEMA regards_relay");
    admin.execute(&format!("{schema} AUTHORIZATION {user}")).await.unwrap();
    assert!(said(services, &url, "").contains("; the schema regards_relay exists"));
    admin.execute("ALTER SCHEMA regards_relay OWNER TO CURRENT_USER").await.unwrap();
    let refused = said(services, &url, "");
    assert!(refused.contains("`GRANT USAGE, CREATE ON SCHEMA regards_relay TO "), "{refused}");
}

#[tokio::test]
async fn a_standby_is_refused_and_the_primary_found() {
    let private = Services::private(&["postgres", "postgres-standby"]).await;
    let services = private.services();
    let (primary, standby) = (services.postgres_port(), services.postgres_standby_port());
    let at = |hosts: &str| {
        format!("postgresql://{}:${{PASSWORD}}@{hosts}/{}", services.postgres_user(), services.postgres_database())
    };
    let alone = said(services, &at(&format!("localhost:{standby}")), "");
    assert!(alone.starts_with("error: spool: the server is a standby, which takes no writes"), "{alone}");
    let nobody = format!("localhost:1,localhost:{standby}");
    let refused = said(services, &at(&nobody), "");
    assert!(
        refused.contains("the server is a standby") && refused.contains("localhost:1: nothing answers"),
        "{refused}"
    );

    let hosts = format!("{nobody},localhost:{primary}");
    let found = said(services, &at(&hosts), "");
    let warning = "`synchronous_standby_names` is empty: a failover would lose deliveries";
    assert!(found.starts_with("warning: ") && found.contains(&format!("localhost:{primary}, with TLS")), "{found}");
    assert!(found.contains(warning), "{found}");
    private.synchronous().await;
    let found = said(services, &at(&hosts), "");
    assert!(found.starts_with("ok: "), "{found}");

    private.stop("postgres").await;
    private.promote().await;
    let found = said(services, &at(&hosts), "");
    assert!(found.contains(&format!("localhost:{standby}, with TLS")), "the new primary: {found}");
}

#[tokio::test]
async fn a_server_that_refuses_or_does_not_answer_is_named_with_the_reason() {
    let private = Services::private(&["postgres"]).await;
    let services = private.services();
    let admin = Postgres::as_admin(services);
    let (user, database) = (services.postgres_user(), services.postgres_database());
    let url = url(services, "localhost", "?connect_timeout=1");
    for (change, back, words) in [
        (
            format!("ALTER ROLE {user} CONNECTION LIMIT 0"),
            format!("ALTER ROLE {user} CONNECTION LIMIT -1"),
            ["no more connections", "53300"],
        ),
        (
            format!("ALTER ROLE {user} NOLOGIN"),
            format!("ALTER ROLE {user} LOGIN"),
            ["no such user, or one that may not log in", "28000"],
        ),
        (
            format!("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC"),
            format!("GRANT CONNECT ON DATABASE {database} TO PUBLIC"),
            ["`GRANT CONNECT ON DATABASE`", "42501"],
        ),
    ] {
        admin.execute(&change).await.unwrap();
        let said = said(services, &url, "");
        assert!(said.starts_with("error: ") && words.iter().all(|word| said.contains(word)), "{change}: {said}");
        admin.with("dbname=postgres").execute(&back).await.unwrap();
    }

    // Only connections with TLS are let in.
    let data = admin.execute("SHOW data_directory").await.unwrap();
    let hba = format!("{data}/only_tls.conf");
    admin.execute(&format!("COPY (SELECT 'hostssl all all all scram-sha-256') TO '{hba}'")).await.unwrap();
    admin.execute(&format!("ALTER SYSTEM SET hba_file = '{hba}'")).await.unwrap();
    private.stop("postgres").await;
    private.start("postgres").await;
    let plain = said(services, &format!("{url}&sslmode=disable"), "");
    assert!(plain.contains("`pg_hba.conf` doesn't let this user log in"), "{plain}");
    assert!(said(services, &url, "").contains(WITH_TLS));
    admin.execute("ALTER SYSTEM RESET hba_file").await.unwrap();

    // It starts, and waits for old parts of its log.
    admin.execute("ALTER SYSTEM SET restore_command = 'sleep 5; false'").await.unwrap();
    admin.execute(&format!("COPY (SELECT '') TO '{data}/recovery.signal'")).await.unwrap();
    private.stop("postgres").await;
    let starting = until("the server to say that it is starting", async || {
        let said = said(services, &url, "");
        if said.contains("the server is starting or stopping") { Ok(said) } else { Err(said) }
    });
    let ((), starting) = tokio::join!(private.start("postgres"), starting);
    assert!(starting.contains("57P03"), "{starting}");

    admin.execute("ALTER SYSTEM SET ssl = off").await.unwrap();
    admin.execute("SELECT pg_reload_conf()").await.unwrap();
    until("TLS to be off", async || {
        let said = said(services, &format!("{url}&sslmode=prefer"), "");
        if said.contains(WITHOUT_TLS) { Ok(()) } else { Err(said) }
    })
    .await;
    for mode in ["require", "verify-full"] {
        let said = said(services, &format!("{url}&sslmode={mode}"), "");
        assert!(said.starts_with("error: spool: the server has no TLS"), "{mode}: {said}");
    }

    private.pause("postgres").await;
    let frozen = said(services, &url, "");
    assert!(frozen.contains("did not answer within 1.0 s"), "{frozen}");
    private.resume("postgres").await;
    private.stop("postgres").await;
    let down = said(services, &url, "");
    assert!(down.starts_with("error: spool: localhost:") && down.contains("nothing listens there"), "{down}");
}
