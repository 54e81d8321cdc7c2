//! Connections to AMQP brokers.

use expect_test::expect;

use super::{Strictness, check_errors, parse, source, valid};
use crate::config::SourceKind;

#[test]
fn a_wrong_broker_url_is_an_error() {
    for (url, expected) in [
        (
            "localhost:5672",
            expect![[r#"
            error[broker-url]: the URL of a broker begins with `amqp://` or `amqps://`
             --> routes.yaml:4:18
              |
            4 |     amqp: { url: localhost:5672, queue: q }
              |                  ^^^^^^^^^^^^^^
              |
              = help: write `amqp://HOST:PORT` or `amqps://HOST:PORT`

        "#]],
        ),
        (
            "http://localhost",
            expect![[r#"
            error[broker-url]: the URL of a broker begins with `amqp://` or `amqps://`
             --> routes.yaml:4:18
              |
            4 |     amqp: { url: http://localhost, queue: q }
              |                  ^^^^^^^^^^^^^^^^
              |
              = help: write `amqp://HOST:PORT` or `amqps://HOST:PORT`

        "#]],
        ),
        (
            "amqp://localhost:port",
            expect![[r#"
            error[broker-url]: this is not a URL: invalid port number
             --> routes.yaml:4:18
              |
            4 |     amqp: { url: amqp://localhost:port, queue: q }
              |                  ^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `amqp://HOST:PORT` or `amqps://HOST:PORT`

        "#]],
        ),
        (
            "amqp:///vhost",
            expect![[r#"
            error[broker-url]: this URL names no host
             --> routes.yaml:4:18
              |
            4 |     amqp: { url: amqp:///vhost, queue: q }
              |                  ^^^^^^^^^^^^^
              |
              = help: write `amqp://HOST:PORT` or `amqps://HOST:PORT`

        "#]],
        ),
        (
            "amqp://localhost/a/b",
            expect![[r#"
            error[broker-url]: a virtual host with a slash in it has to be written with `%2F` in a URL
             --> routes.yaml:4:18
              |
            4 |     amqp: { url: amqp://localhost/a/b, queue: q }
              |                  ^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `%2F`, or name it in `vhost:` as it is

        "#]],
        ),
        (
            "amqp://localhost?heartbeat=5",
            expect![[r#"
            error[broker-url]: the relay sets the parameters of a connection itself
             --> routes.yaml:4:18
              |
            4 |     amqp: { url: amqp://localhost?heartbeat=5, queue: q }
              |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: remove the part from `?` or `#` on

        "#]],
        ),
        (
            "[]",
            expect![[r#"
            error[empty-list]: there is no URL in the list
             --> routes.yaml:4:18
              |
            4 |     amqp: { url: [], queue: q }
              |                  ^^
              |
              = help: write at least one, as in `amqps://broker.example.org`

        "#]],
        ),
    ] {
        check_errors(&source(&format!("amqp: {{ url: {url}, queue: q }}")), expected);
    }
}

#[test]
fn an_ambiguous_broker_url_is_an_error() {
    check_errors(
        &source(
            "amqp:\n  url:\n  - amqp://partner:p@ss/w%rd@host\n  - amqp://partner:p/ss@host\n  - amqp://partner:p#ss@host/v\n  - amqp://partner:100%@host\n  - 'amqp://h\\x'\n  queue: q",
        ),
        expect![[r#"
            error[broker-url]: this URL can be read in two ways: there is an `@` after the first `/`, `?` or `#`, so the beginning of the host is ambiguous
             --> routes.yaml:6:9
              |
            6 |       - amqp://partner:***@host
              |         ^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write the user and the password as they are beside the URL, as `username:` and `password:`, or percent-encode them (`@` is `%40`, `/` is `%2F`, `%` is `%25`)

            error[broker-url]: this URL can be read in two ways: there is an `@` after the first `/`, `?` or `#`, so the beginning of the host is ambiguous
             --> routes.yaml:7:9
              |
            7 |       - amqp://partner:***@host
              |         ^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write the user and the password as they are beside the URL, as `username:` and `password:`, or percent-encode them (`@` is `%40`, `/` is `%2F`, `%` is `%25`)

            error[broker-url]: this URL can be read in two ways: there is an `@` after the first `/`, `?` or `#`, so the beginning of the host is ambiguous
             --> routes.yaml:8:9
              |
            8 |       - amqp://partner:***@host/v
              |         ^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write the user and the password as they are beside the URL, as `username:` and `password:`, or percent-encode them (`@` is `%40`, `/` is `%2F`, `%` is `%25`)

            error[broker-url]: this URL can be read in two ways: a `%` in a URL begins an escape of two hexadecimal digits, and this one doesn't
             --> routes.yaml:9:9
              |
            9 |       - amqp://partner:***@host
              |         ^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write the user and the password as they are beside the URL, as `username:` and `password:`, or percent-encode them (`@` is `%40`, `/` is `%2F`, `%` is `%25`)

            error[broker-url]: this URL can be read in two ways: white space, control characters and backslashes can't be a part of a URL
              --> routes.yaml:10:9
               |
            10 |       - 'amqp://h\x'
               |         ^^^^^^^^^^^^
               |
               = help: write the user and the password as they are beside the URL, as `username:` and `password:`, or percent-encode them (`@` is `%40`, `/` is `%2F`, `%` is `%25`)

        "#]],
    );
    // Inserted values are not shown.
    let diagnostics = parse(
        &source("amqp: { url: '${URL}', queue: q }"),
        Strictness::Run,
        &[("URL", "amqp://partner:p@ss/w%rd@host")],
    );
    let diagnostics = diagnostics.unwrap_err().to_string();
    assert!(diagnostics.contains("read in two ways") && !diagnostics.contains("ss/w"), "{diagnostics}");
    let diagnostics = parse(
        &super::sink("webhook: { url: 'https://h/', proxy: '${URL}' }"),
        Strictness::Run,
        &[("URL", "http://partner:p@ss/w%rd@host")],
    );
    assert!(diagnostics.unwrap_err().to_string().contains("read in two ways"));
    super::valid(&source("amqp: { url: 'amqp://h', username: 'p@ss', password: '${P:-a/b%@c}', queue: q }"));
    super::valid(&super::sink("webhook: { url: 'https://h/hook/a@b' }"));
}

#[test]
fn a_wrong_virtual_host_or_port_is_reported() {
    check_errors(
        &source("amqp: { url: amqp://h/x, vhost: y, queue: q }"),
        expect![[r#"
        error[two-vhosts]: this URL names another virtual host than `vhost:`
         --> routes.yaml:4:18
          |
        4 |     amqp: { url: amqp://h/x, vhost: y, queue: q }
          |                  ^^^^^^^^^^         - the other one
          |
          = help: keep one of the two

    "#]],
    );
    check_errors(
        &source("amqp: { url: [amqp://a/x, amqp://b/x, amqp://c], queue: q }"),
        expect![[r#"
        error[two-vhosts]: the URLs of this list name different virtual hosts
         --> routes.yaml:4:43
          |
        4 |     amqp: { url: [amqp://a/x, amqp://b/x, amqp://c], queue: q }
          |                   ----------              ^^^^^^^^
          |                   |
          |                   the first one
          |
          = help: the brokers of a list replace each other: write the same virtual host in every URL, or `vhost:` beside the list

    "#]],
    );
    super::check_warnings(
        &source("amqp: { url: amqp://h:15672/, queue: q }"),
        expect![[r#"
        warning[management-port]: this is the port of RabbitMQ's management, which uses HTTP
         --> routes.yaml:4:18
          |
        4 |     amqp: { url: amqp://h:15672/, queue: q }
          |                  ^^^^^^^^^^^^^^^
          |
          = help: by default, AMQP has port 5672 without TLS and port 5671 with TLS

        warning[empty-vhost]: this URL ends with `/`: the relay uses the virtual host `/`
         --> routes.yaml:4:18
          |
        4 |     amqp: { url: amqp://h:15672/, queue: q }
          |                  ^^^^^^^^^^^^^^^
          |
          = help: leave the `/` out for the virtual host `/`, or write the name after it

    "#]],
    );
    super::valid(&source("amqp: { url: [amqp://a/x, amqp://b/%78], queue: q }"));
    super::valid(&source("amqp: { url: [amqp://a/x, amqp://b/], vhost: x, queue: q }"));
}

#[test]
fn tls_needs_an_encrypted_url_and_complete_files() {
    check_errors(
        &source(
            "amqp:\n  url: amqp://localhost\n  queue: q\n  tls: { ca: no-such.pem, cert: Cargo.toml, server_name: 'a b' }",
        ),
        expect![[r#"
            error[tls-unused]: `tls` is given, but the URL says `amqp://`, which is not encrypted
             --> routes.yaml:7:12
              |
            7 |       tls: { ca: no-such.pem, cert: Cargo.toml, server_name: 'a b' }
              |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `amqps://`, or remove `tls`

            error[missing-file]: the file `HERE/no-such.pem` can't be read: No such file or directory (os error 2)
             --> routes.yaml:7:18
              |
            7 |       tls: { ca: no-such.pem, cert: Cargo.toml, server_name: 'a b' }
              |                  ^^^^^^^^^^^
              |
              = help: relative paths begin at the directory of this file

            error[tls-pair]: `cert` needs `key`
             --> routes.yaml:7:37
              |
            7 |       tls: { ca: no-such.pem, cert: Cargo.toml, server_name: 'a b' }
              |                                     ^^^^^^^^^^ no `key` beside it
              |
              = help: add `key:`: a client needs its certificate and its key to authenticate itself

            error[server-name]: `a b` is not the name of a server
             --> routes.yaml:7:62
              |
            7 |       tls: { ca: no-such.pem, cert: Cargo.toml, server_name: 'a b' }
              |                                                              ^^^^^
              |
              = help: write the name in the server's certificate, as in `broker.example.org`

        "#]],
    );
}

#[test]
fn a_tls_file_without_a_certificate_is_an_error() {
    let text = source("amqp:\n  url: amqps://localhost\n  queue: q\n  tls: { ca: Cargo.toml }");
    let errors = parse(&text, Strictness::Offline, &[]).unwrap_err().to_string();
    assert!(errors.starts_with("error[tls-files]: these files can't be used: tls.ca "), "{errors}");
}

#[test]
fn a_login_by_token_takes_no_password() {
    let token = "token_url: https://idp.example.org/token, client_id: relay, client_secret: '${S:-x}'";
    check_errors(
        &source(&format!(
            "amqp: {{ url: amqps://me:hunter2@h, queue: q, auth: {{ oauth2: {{ {token} }} }}, username: me }}"
        )),
        expect![[r#"
            error[oauth2-login]: with `auth: { oauth2: … }` the access token is the login; the user name and the password in this URL are not used
             --> routes.yaml:4:18
              |
            4 |     amqp: { url: amqps://me:***@h, queue: q, auth: { oauth2: { token_url: https://idp.example.org/token, client_id: ***, client_secre...
              |                  ^^^^^^^^^^^^^^^^
              |
              = help: remove them, or remove `auth`

            warning[secret-in-clear]: the password in this URL is written in the file itself
             --> routes.yaml:4:18
              |
            4 |     amqp: { url: amqps://me:***@h, queue: q, auth: { oauth2: { token_url: https://idp.example.org/token, client_id: ***, client_secre...
              |                  ^^^^^^^^^^^^^^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

            error[oauth2-login]: with `auth: { oauth2: … }` the access token is the login; this user name is not used
             --> routes.yaml:4:168
              |
            4 | ...oken, client_id: ***, client_secret: '${S:-***}' } }, username: me }
              |                                                                    ^^
              |
              = help: remove it, or remove `auth`

        "#]],
    );
    check_errors(
        &source("amqp: { url: amqps://h, queue: q, auth: {} }"),
        expect![[r#"
        error[missing-key]: `oauth2` is missing
         --> routes.yaml:4:45
          |
        4 |     amqp: { url: amqps://h, queue: q, auth: {} }
          |                                             ^^ needs `oauth2`
          |
          = help: add `oauth2:`, the access tokens, which are the password; the broker gets each new one on the open connection

    "#]],
    );
    check_errors(
        &source("amqp: { url: amqps://h, queue: q, auth: [external] }"),
        expect![[r#"
        error[wrong-type]: expected a word, found a list
         --> routes.yaml:4:45
          |
        4 |     amqp: { url: amqps://h, queue: q, auth: [***] }
          |                                             ^^^^^
          |
          = help: write it as in `auth: external`

    "#]],
    );
    let config = valid(&source(&format!("amqp: {{ url: amqps://h, queue: q, auth: {{ oauth2: {{ {token} }} }} }}")));
    let SourceKind::Amqp(amqp) = &config.sources[0].kind else { panic!("not AMQP") };
    assert_eq!(amqp.connection.oauth2().unwrap().client_id.reveal().unwrap(), "relay");
}

#[test]
fn a_login_by_certificate_needs_one_and_nothing_else() {
    check_errors(
        &source("amqp: { url: amqps://h, queue: q, auth: external, username: me, password: '${P:-x}' }"),
        expect![[r#"
            error[external-login]: this login needs a client certificate, and there is none
             --> routes.yaml:4:45
              |
            4 |     amqp: { url: amqps://h, queue: q, auth: ***, username: me, password: '${P:-***}' }
              |                                             ^^^
              |
              = help: add `cert:` and `key:` under `tls:`, as in `tls: { cert: client.pem, key: client.key }`

            error[external-login]: with `auth: external` the client certificate is the login; this user name is not used
             --> routes.yaml:4:65
              |
            4 |     amqp: { url: amqps://h, queue: q, auth: ***, username: me, password: '${P:-***}' }
              |                                                            ^^
              |
              = help: remove it, or remove `auth`

            error[external-login]: with `auth: external` the client certificate is the login; this password is not used
             --> routes.yaml:4:79
              |
            4 |     amqp: { url: amqps://h, queue: q, auth: ***, username: me, password: '${P:-***}' }
              |                                                                          ^^^^^^^^^^^
              |
              = help: remove it, or remove `auth`

        "#]],
    );
    check_errors(
        &source("amqp: { url: [amqps://me@h, amqp://h], queue: q, auth: external, tls: { ca: ca.pem } }"),
        expect![[r#"
            error[external-login]: with `auth: external` the client certificate is the login; the user name and the password in this URL are not used
             --> routes.yaml:4:19
              |
            4 |     amqp: { url: [amqps://me@h, amqp://h], queue: q, auth: ***, tls: { ca: ca.pem } }
              |                   ^^^^^^^^^^^^
              |
              = help: remove them, or remove `auth`

            error[external-login]: this URL is not encrypted, so the broker gets no client certificate
             --> routes.yaml:4:33
              |
            4 |     amqp: { url: [amqps://me@h, amqp://h], queue: q, auth: ***, tls: { ca: ca.pem } }
              |                                 ^^^^^^^^
              |
              = help: write `amqps://`

            error[external-login]: this login needs a client certificate, and there is none
             --> routes.yaml:4:60
              |
            4 |     amqp: { url: [amqps://me@h, amqp://h], queue: q, auth: ***, tls: { ca: ca.pem } }
              |                                                            ^^^
              |
              = help: add `cert:` and `key:` under `tls:`, as in `tls: { cert: client.pem, key: client.key }`

            error[missing-file]: the file `HERE/ca.pem` can't be read: No such file or directory (os error 2)
             --> routes.yaml:4:81
              |
            4 |     amqp: { url: [amqps://me@h, amqp://h], queue: q, auth: ***, tls: { ca: ca.pem } }
              |                                                                            ^^^^^^
              |
              = help: relative paths begin at the directory of this file

        "#]],
    );
    check_errors(
        &source("amqp: { url: amqps://h, queue: q, auth: plain }"),
        expect![[r#"
        error[unknown-word]: this value is not one of `external`
         --> routes.yaml:4:45
          |
        4 |     amqp: { url: amqps://h, queue: q, auth: *** }
          |                                             ^^^
          |
          = help: write one of these

    "#]],
    );
}
