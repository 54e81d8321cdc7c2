//! Sinks to webhooks.

use expect_test::expect;

use super::{check_errors, check_warnings, sink};

#[test]
fn a_wrong_webhook_url_is_reported() {
    for (url, expected) in [
        (
            "pager.example.org",
            expect![[r#"
                error[url]: this URL has no scheme
                 --> routes.yaml:5:21
                  |
                5 |     webhook: { url: pager.example.org }
                  |                     ^^^^^^^^^^^^^^^^^
                  |
                  = help: write `https://HOST/PATH`

            "#]],
        ),
        (
            "ftp://example.org/",
            expect![[r#"
                error[url]: the URL of a webhook begins with `https://` or `http://`
                 --> routes.yaml:5:21
                  |
                5 |     webhook: { url: ftp://example.org/ }
                  |                     ^^^^^^^^^^^^^^^^^^
                  |
                  = help: write `https://HOST/PATH`

            "#]],
        ),
        (
            "\"https://{{ tenant }}.example.org/\"",
            expect![[r#"
            error[templated-host]: scheme and host of a URL can't be templates
             --> routes.yaml:5:21
              |
            5 |     webhook: { url: "https://{{ tenant }}.example.org/" }
              |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write them without templates: the content of a message must not choose the receiver

        "#]],
        ),
        (
            "\"https://example.org:{{ tenant }}/\"",
            expect![[r#"
            error[templated-host]: scheme and host of a URL can't be templates
             --> routes.yaml:5:21
              |
            5 |     webhook: { url: "https://example.org:{{ tenant }}/" }
              |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write them without templates: the content of a message must not choose the receiver

        "#]],
        ),
        (
            "http://169.254.169.254/latest",
            expect![[r#"
            error[forbidden-host]: the relay never sends to this host: it is link-local, where clouds keep their metadata service
             --> routes.yaml:5:21
              |
            5 |     webhook: { url: http://169.254.169.254/latest }
              |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write the address of the receiver

        "#]],
        ),
        (
            "\"http://[fe80::1]/\"",
            expect![[r#"
            error[forbidden-host]: the relay never sends to this host: it is link-local
             --> routes.yaml:5:21
              |
            5 |     webhook: { url: "http://[fe80::1]/" }
              |                     ^^^^^^^^^^^^^^^^^^^
              |
              = help: write the address of the receiver

        "#]],
        ),
        (
            "\"https://me:hunter2@example.org/{{ tenant }}\"",
            expect![[r#"
            error[url-password]: a URL with a template can't hold a user or password
             --> routes.yaml:5:21
              |
            5 |     webhook: { url: "https://me:***@example.org/{{ tenant }}" }
              |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write them as `auth: { basic: { username: …, password: … } }`

        "#]],
        ),
    ] {
        check_errors(&sink(&format!("webhook: {{ url: {url} }}")), expected);
    }
    check_warnings(
        &sink("webhook: { url: \"http://example.org/\" }"),
        expect![[r#"
        warning[unencrypted]: `http://` sends events and credentials without encryption
         --> routes.yaml:5:21
          |
        5 |     webhook: { url: "http://example.org/" }
          |                     ^^^^^^^^^^^^^^^^^^^^^
          |
          = help: write `https://` if the receiver has it

    "#]],
    );
}

#[test]
fn a_wrong_webhook_setting_is_reported() {
    check_errors(
        &sink(
            "webhook:
  url: https://example.org/
  secret: [whsec_hunter2, \"\"]
  headers: { Content-Length: 5, webhook-id: x, \"a b\": c, X-A: \"1\", x-a: \"2\", X-B: \"a\\nb\", X-Api-Key: hunter2 }
  auth: { bearer: hunter2, basic: { username: me } }
  rate: 50
  proxy: socks5://proxy",
        ),
        expect![[r#"
            error[webhook-secret]: the secret is not base64
             --> routes.yaml:7:16
              |
            7 |       secret: [***, ""]
              |                ^^^
              |
              = help: `echo whsec_$(openssl rand -base64 32)` makes one; sender and receiver share it

            warning[secret-in-clear]: the secret is written in the file itself
             --> routes.yaml:7:16
              |
            7 |       secret: [***, ""]
              |                ^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

            error[webhook-secret]: the secret is empty
             --> routes.yaml:7:31
              |
            7 |       secret: [***, ""]
              |                     ^^
              |
              = help: `echo whsec_$(openssl rand -base64 32)` makes one; sender and receiver share it

            error[header-name]: the header `content-length` can't be set here: HTTP itself sets it
             --> routes.yaml:8:18
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                  ^^^^^^^^^^^^^^
              |
              = help: remove it

            error[header-name]: the header `webhook-id` can't be set here: Standard Webhooks sets it
             --> routes.yaml:8:37
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                                     ^^^^^^^^^^
              |
              = help: remove it

            error[header-name]: `a b` can't be the name of a header
             --> routes.yaml:8:52
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                                                    ^^^^^
              |
              = help: HTTP takes letters, digits and `-`

            error[duplicate-key]: the header `x-a` is given twice
             --> routes.yaml:8:72
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                                                                        ^^^
              |
              = help: keep one of the two: the names of headers are not case-sensitive

            error[header-value]: this can't be the value of a header
             --> routes.yaml:8:87
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                                                                                       ^^^^^^
              |
              = help: HTTP takes one line of text without control characters

            warning[secret-in-clear]: the value of this header is written in the file itself
             --> routes.yaml:8:106
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                                                                                                          ^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

            error[missing-key]: `password` is missing
             --> routes.yaml:9:39
              |
            9 |       auth: { bearer: ***, basic: { username: *** } }
              |                                   ^^^^^^^^^^^^^^^^^ needs `password`
              |
              = help: add `password:`, the password for basic authentication

            error[wrong-value]: `50` is not a rate
              --> routes.yaml:10:13
               |
            10 |       rate: 50
               |             ^^
               |
               = help: write a number and a unit of time, as in `50/s`, `10/m`, `100/h`

            error[url]: the URL of a proxy begins with `https://` or `http://`
              --> routes.yaml:11:14
               |
            11 |       proxy: socks5://proxy
               |              ^^^^^^^^^^^^^^
               |
               = help: write `https://HOST/PATH`

        "#]],
    );
}

#[test]
fn an_empty_or_second_auth_is_an_error() {
    let auth = |auth: &str| sink(&format!("webhook: {{ url: \"https://example.org\", auth: {auth} }}"));
    check_errors(
        &auth("{}"),
        expect![[r#"
            error[auth]: `auth` is empty
             --> routes.yaml:5:50
              |
            5 |     webhook: { url: "https://example.org", auth: {} }
              |                                                  ^^
              |
              = help: write `bearer: TOKEN`, `basic: { username: …, password: … }` or `oauth2: { token_url: …, client_id: … }`

        "#]],
    );
    check_errors(
        &auth("{ bearer: \"${T:-x}\", basic: { username: u, password: \"${P:-x}\" } }"),
        expect![[r#"
            error[auth]: `auth` is given twice
             --> routes.yaml:5:50
              |
            5 |     webhook: { url: "https://example.org", auth: { bearer: "${T:-***}", basic: { username: ***, password: "${P:-***}" } } }
              |                                                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `bearer: TOKEN`, `basic: { username: …, password: … }` or `oauth2: { token_url: …, client_id: … }`

        "#]],
    );
}

#[test]
fn wrong_responses_are_an_error() {
    check_errors(
        &sink(
            "webhook: { url: \"https://h/\", responses: { refuse: [409, 200], retry: [409], pause: 600 } }\nretry: { refuse_after: 0 }",
        ),
        expect![[r#"
            error[out-of-range]: `200` is not a status that can be listed here
             --> routes.yaml:5:62
              |
            5 |     webhook: { url: "https://h/", responses: { refuse: [409, 200], retry: [409], pause: 600 } }
              |                                                              ^^^
              |
              = help: write statuses from 300 to 599; with 2xx a receiver confirms the event

            error[two-meanings]: 409 is listed twice
             --> routes.yaml:5:76
              |
            5 |     webhook: { url: "https://h/", responses: { refuse: [409, 200], retry: [409], pause: 600 } }
              |                                                         --- the other one  ^^^
              |
              = help: keep it in one list

            error[out-of-range]: `600` is not a status that can be listed here
             --> routes.yaml:5:89
              |
            5 |     webhook: { url: "https://h/", responses: { refuse: [409, 200], retry: [409], pause: 600 } }
              |                                                                                         ^^^
              |
              = help: write statuses from 300 to 599; with 2xx a receiver confirms the event

            error[out-of-range]: `0` is out of range
             --> routes.yaml:6:28
              |
            6 |     retry: { refuse_after: 0 }
              |                            ^
              |
              = help: write something between `1` and `1000`

        "#]],
    );
}
