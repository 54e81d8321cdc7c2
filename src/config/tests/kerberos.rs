//! `sasl: { mechanism: GSSAPI, … }` of a Kafka sink.

use expect_test::expect;

use super::{check_errors, sink, valid};
use crate::config::{KerberosLogin, Sasl, SinkKind};
use crate::net::keytab::tests::keytab;

fn kafka(sasl: &str) -> String {
    sink(&format!("kafka:\n  brokers: h\n  topic: t\n  tls: {{}}\n  sasl: {{ mechanism: GSSAPI, {sasl} }}"))
}

/// A keytab with keys of these principals, in a directory of its own.
fn with_keytab(of: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.keytab");
    std::fs::write(&path, keytab(of)).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn a_kerberos_login_needs_a_principal_and_a_keytab() {
    check_errors(
        &kafka(""),
        expect![[r#"
        error[missing-key]: `principal` is missing
         --> routes.yaml:9:13
          |
        9 |       sasl: { mechanism: GSSAPI,  }
          |             ^^^^^^^^^^^^^^^^^^^^^^^ needs `principal`
          |
          = help: add `principal:`, the principal that logs in, as in `relay@EXAMPLE.ORG`

        error[missing-key]: `keytab` is missing
         --> routes.yaml:9:13
          |
        9 |       sasl: { mechanism: GSSAPI,  }
          |             ^^^^^^^^^^^^^^^^^^^^^^^ needs `keytab`
          |
          = help: add `keytab:`, the file with the keys of the principal

    "#]],
    );
    check_errors(
        &kafka("principal: relay@A.ORG, keytab: /nonexistent/relay.keytab, username: me, service: kafka/h"),
        expect![[r#"
            error[missing-file]: the file `/nonexistent/relay.keytab` can't be read: No such file or directory (os error 2)
             --> routes.yaml:9:66
              |
            9 |       sasl: { mechanism: GSSAPI, principal: relay@A.ORG, keytab: /nonexistent/relay.keytab, username: ***, service: kafka/h }
              |                                                                  ^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: relative paths begin at the directory of this file

            error[sasl-login]: `GSSAPI` logs in by Kerberos; this user name is not used
             --> routes.yaml:9:103
              |
            9 |       sasl: { mechanism: GSSAPI, principal: relay@A.ORG, keytab: /nonexistent/relay.keytab, username: ***, service: kafka/h }
              |                                                                                                       ^^^
              |
              = help: remove it, or write `mechanism: SCRAM-SHA-512` or `PLAIN`

            error[kerberos-service]: `kafka/h` is not the name of a Kerberos service
             --> routes.yaml:9:116
              |
            9 |       sasl: { mechanism: GSSAPI, principal: relay@A.ORG, keytab: /nonexistent/relay.keytab, username: ***, service: kafka/h }
              |                                                                                                                     ^^^^^^^
              |
              = help: write only the first part of the brokers' principals: `kafka` of `kafka/HOST@REALM` (Kafka's `sasl.kerberos.service.name`)

        "#]],
    );
    check_errors(
        &kafka("principal: relay@A.ORG, keytab: Cargo.toml"),
        expect![[r#"
        error[keytab]: this file can't be used: it is not a keytab
         --> routes.yaml:9:66
          |
        9 |       sasl: { mechanism: GSSAPI, principal: relay@A.ORG, keytab: Cargo.toml }
          |                                                                  ^^^^^^^^^^
          |
          = help: `kadmin` writes keytabs (`ktadd -k FILE PRINCIPAL`), `klist -k FILE` lists their principals

    "#]],
    );
    check_errors(
        &sink(
            "kafka:\n  brokers: h\n  topic: t\n  tls: {}\n  sasl: { mechanism: PLAIN, username: '${U:-x}', password: '${P:-x}', keytab: Cargo.toml }",
        ),
        expect![[r#"
            error[sasl-login]: `PLAIN` logs in by user name and password; this keytab is not used
             --> routes.yaml:9:83
              |
            9 |       sasl: { mechanism: PLAIN, username: '${U:-***}', password: '${P:-***}', keytab: Cargo.toml }
              |                                                                                       ^^^^^^^^^^
              |
              = help: remove it, or write `mechanism: GSSAPI`

        "#]],
    );
}

#[test]
fn a_principal_that_can_not_be_right_is_an_error() {
    let (_folder, path) = with_keytab(&["relay@A.ORG"]);
    for (principal, why) in [
        ("relay@", "there is no realm"),
        ("@A.ORG", "a part of its name is empty"),
        ("relay/@A.ORG", "a part of its name is empty"),
        ("relay@A@B", "more than one `@`"),
        ("re lay@A.ORG", "white space"),
    ] {
        let text = kafka(&format!("principal: '{principal}', keytab: {path}"));
        let errors = super::parse(&text, super::Strictness::Run, &[]).unwrap_err().to_string();
        assert!(errors.contains("error[principal]") && errors.contains(why), "{errors}");
    }
}

#[test]
fn a_keytab_without_a_key_of_the_principal_is_an_error() {
    let (_folder, path) = with_keytab(&["relay@A.ORG", "relay/h.example.org@A.ORG"]);
    for (principal, is_there) in [
        ("relay@A.ORG", true),
        ("relay", true),
        ("relay/h.example.org@A.ORG", true),
        ("relay@a.org", false),
        ("other", false),
    ] {
        let parsed =
            super::parse(&kafka(&format!("principal: '{principal}', keytab: {path}")), super::Strictness::Run, &[]);
        match parsed {
            Ok(_) => assert!(is_there, "{principal}"),
            Err(errors) => {
                let errors = errors.to_string();
                assert!(!is_there && errors.contains("error[keytab-principal]: the keytab has no key of"), "{errors}");
                assert!(errors.contains("it has keys of `relay@A.ORG`, `relay/h.example.org@A.ORG`"), "{errors}");
            }
        }
    }
}

#[test]
fn the_service_is_kafka_unless_another_is_given_and_the_keytab_belongs_to_the_sink() {
    let (_folder, path) = with_keytab(&["relay@A.ORG"]);
    for (service, expected) in [("", "kafka"), (", service: events", "events")] {
        let config = valid(&kafka(&format!("principal: relay@A.ORG, keytab: {path}{service}")));
        let SinkKind::Kafka(kafka) = &config.sinks[0].kind else { panic!("kafka") };
        let login = KerberosLogin {
            principal: "relay@A.ORG".to_owned(),
            keytab: path.clone().into(),
            service: expected.to_owned(),
        };
        assert_eq!(kafka.sasl, Some(Sasl::Kerberos(login)));
        let named: Vec<_> = config.sinks[0].kind.files().paths().map(|path| path.display().to_string()).collect();
        assert!(named.contains(&path), "{named:?}");
    }
}
