//! The key `oauth2:` of any login.

use expect_test::expect;

use super::{check_errors, check_warnings, sink, valid_with};
use crate::config::{ClientAuthentication, SinkKind, WebhookAuth};

fn webhook(oauth2: &str) -> String {
    sink(&format!("webhook:\n  url: https://example.org/\n  auth: {{ oauth2: {{ {oauth2} }} }}"))
}

#[test]
fn a_client_has_a_secret_or_a_key() {
    let url = "token_url: https://idp.example.org/token, client_id: relay";
    check_errors(
        &webhook(url),
        expect![[r#"
        error[oauth2-client]: neither `client_secret` nor `private_key` is given
         --> routes.yaml:7:23
          |
        7 |       auth: { oauth2: { token_url: https://idp.example.org/token, client_id: *** } }
          |                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: add `client_secret: "${file:/run/secrets/NAME}"`, or `private_key: FILE`: the token server has to know who asks

    "#]],
    );
    check_errors(
        &webhook(&format!("{url}, client_secret: \"${{S:-x}}\", private_key: client.key")),
        expect![[r#"
        error[oauth2-client]: both `client_secret` and `private_key` are given
         --> routes.yaml:7:124
          |
        7 |       auth: { oauth2: { token_url: https://idp.example.org/token, client_id: ***, client_secret: "${S:-***}", private_key: *** } }
          |                                                                                                  ----------- the other one ^^^
          |
          = help: keep the one that the token server expects of this client

    "#]],
    );
    check_errors(
        &webhook(&format!("{url}, client_secret: hunter2, key_id: one, scope: \"\"")),
        expect![[r#"
        warning[secret-in-clear]: the client's secret is written in the file itself
         --> routes.yaml:7:100
          |
        7 |       auth: { oauth2: { token_url: https://idp.example.org/token, client_id: ***, client_secret: ***, key_id: ***, scope: "" } }
          |                                                                                                  ^^^
          |
          = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

        error[oauth2-key]: `key_id` needs `private_key`
         --> routes.yaml:7:117
          |
        7 |       auth: { oauth2: { token_url: https://idp.example.org/token, client_id: ***, client_secret: ***, key_id: ***, scope: "" } }
          |                                                                                                               ^^^
          |
          = help: add `private_key: FILE`, or remove `key_id`: it is the name of the key that signs

        error[empty-text]: this is empty
         --> routes.yaml:7:129
          |
        7 |       auth: { oauth2: { token_url: https://idp.example.org/token, client_id: ***, client_secret: ***, key_id: ***, scope: "" } }
          |                                                                                                                           ^^
          |
          = help: write a value, or remove the key

    "#]],
    );
    check_errors(
        &webhook(&format!("{url}, private_key: src/lib.rs")),
        expect![[r#"
        error[private-key]: this file can't be used: it has no private key in PEM: no items found
         --> routes.yaml:7:98
          |
        7 |       auth: { oauth2: { token_url: https://idp.example.org/token, client_id: ***, private_key: *** } }
          |                                                                                                ^^^
          |
          = help: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048` makes a key; it must not be encrypted

    "#]],
    );
    check_errors(
        &webhook("client_secret: \"${S:-x}\""),
        expect![[r#"
        error[missing-key]: `token_url` is missing
         --> routes.yaml:7:23
          |
        7 |       auth: { oauth2: { client_secret: "${S:-***}" } }
          |                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ needs `token_url`
          |
          = help: add `token_url:`, the URL of the token endpoint

        error[missing-key]: `client_id` is missing
         --> routes.yaml:7:23
          |
        7 |       auth: { oauth2: { client_secret: "${S:-***}" } }
          |                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ needs `client_id`
          |
          = help: add `client_id:`, the identifier of the client

    "#]],
    );
}

#[test]
fn the_url_of_a_token_server_is_checked() {
    for (url, expected) in [
        (
            "ftp://idp.example.org/",
            expect![[r#"
            error[url]: the URL of a token server begins with `https://` or `http://`
             --> routes.yaml:7:36
              |
            7 |       auth: { oauth2: { token_url: "ftp://idp.example.org/", client_id: ***, client_secret: "${S:-***}" } }
              |                                    ^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `https://HOST/PATH`, the token endpoint of the authorization server

        "#]],
        ),
        (
            "https://me:hunter2@idp.example.org/token",
            expect![[r#"
            error[url-password]: the URL of a token server can't hold a user or password
             --> routes.yaml:7:36
              |
            7 |       auth: { oauth2: { token_url: "https://me:***@idp.example.org/token", client_id: ***, client_secret: "${S:-***}" } }
              |                                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write them as `client_id` and `client_secret`

        "#]],
        ),
        (
            "http://169.254.169.254/token",
            expect![[r#"
            error[forbidden-host]: the relay never connects to this host: it is link-local, where clouds keep their metadata service
             --> routes.yaml:7:36
              |
            7 |       auth: { oauth2: { token_url: "http://169.254.169.254/token", client_id: ***, client_secret: "${S:-***}" } }
              |                                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write the address of the token server

        "#]],
        ),
        (
            "idp.example.org/token",
            expect![[r#"
            error[url]: this URL has no scheme
             --> routes.yaml:7:36
              |
            7 |       auth: { oauth2: { token_url: "idp.example.org/token", client_id: ***, client_secret: "${S:-***}" } }
              |                                    ^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `https://HOST/PATH`, the token endpoint of the authorization server

        "#]],
        ),
    ] {
        check_errors(
            &webhook(&format!("token_url: \"{url}\", client_id: relay, client_secret: \"${{S:-x}}\"")),
            expected,
        );
    }
    check_errors(
        &webhook(
            "token_url: \"http://localhost/\", client_id: relay, client_secret: \"${S:-x}\", tls: { server_name: idp }",
        ),
        expect![[r#"
            error[tls-unused]: `tls` is given, but `token_url` says `http://`, which is not encrypted
             --> routes.yaml:7:106
              |
            7 |       auth: { oauth2: { token_url: "http://localhost/", client_id: ***, client_secret: "${S:-***}", tls: { server_name: *** } } }
              |                                                                                                          ^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `https://`, or remove `tls`

        "#]],
    );
    check_warnings(
        &webhook("token_url: \"http://idp.example.org/\", client_id: relay, client_secret: hunter2"),
        expect![[r#"
            warning[unencrypted]: `http://` sends the client's secret and its tokens without encryption
             --> routes.yaml:7:36
              |
            7 |       auth: { oauth2: { token_url: "http://idp.example.org/", client_id: ***, client_secret: *** } }
              |                                    ^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `https://` if the token server has it

            warning[secret-in-clear]: the client's secret is written in the file itself
             --> routes.yaml:7:96
              |
            7 |       auth: { oauth2: { token_url: "http://idp.example.org/", client_id: ***, client_secret: *** } }
              |                                                                                              ^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

        "#]],
    );
}

#[test]
fn a_block_becomes_a_login() {
    let text = webhook(
        "token_url: \"http://127.0.0.1:8080/${PATH}\", client_id: \"${ID}\", client_secret: \"${SECRET}\", scope: a b, audience: kafka",
    );
    let config = valid_with(&text, &[("PATH", "token"), ("ID", "relay"), ("SECRET", "hunter2")]);
    let SinkKind::Webhook(webhook) = &config.sinks[0].kind else { panic!("no webhook") };
    let Some(WebhookAuth::OAuth2(oauth2)) = &webhook.auth else { panic!("no oauth2") };
    assert_eq!(oauth2.token_url.reveal().unwrap(), "http://127.0.0.1:8080/token");
    assert_eq!(oauth2.client_id.reveal().unwrap(), "relay");
    let ClientAuthentication::Secret(secret) = &oauth2.client else { panic!("no secret") };
    assert_eq!(secret.reveal().unwrap(), "hunter2");
    assert_eq!((oauth2.scope.as_deref(), oauth2.audience.as_deref()), (Some("a b"), Some("kafka")));
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.sinks[0].secret_masks().apply("a hunter2"), "a ***");
}
