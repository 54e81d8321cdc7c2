//! Passwords, tokens and secrets that are certainly wrong.

use expect_test::expect;

use super::{Strictness, check_warnings, parse, sink, source};

#[test]
fn the_secret_of_an_example_is_a_warning() {
    check_warnings(
        &sink(
            "webhook: { url: 'https://h/x', secret: '${UNSET_WEBHOOK_SECRET:-whsec_dGhpcyBpcyBhIHNlY3JldCB0aGF0IGV2ZXJ5Ym9keSBrbm93cw==}' }",
        ),
        expect![[r#"
            warning[known-secret]: this is the secret of an example: everybody can sign with it
             --> routes.yaml:5:44
              |
            5 |     webhook: { url: 'https://h/x', secret: '${UNSET_WEBHOOK_SECRET:-***}' }
              |                                            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: `echo whsec_$(openssl rand -base64 32)` makes one; sender and receiver share it

        "#]],
    );
}

#[test]
fn every_secret_of_the_examples_is_known() {
    for text in [include_str!("../../../examples/webhook-on-error.yaml"), include_str!("../../cli/demo/mod.rs")] {
        let secrets = text.split("whsec_").skip(1).map(|after| after.split(['}', '"']).next().unwrap_or_default());
        for secret in secrets {
            let file = sink(&format!("webhook: {{ url: 'https://h/x', secret: whsec_{secret} }}"));
            let (_, warnings) = parse(&file, Strictness::Run, &[]).unwrap();
            assert!(warnings.iter().any(|warning| warning.code() == "known-secret"), "{secret}: {warnings}");
        }
    }
}

#[test]
fn an_empty_credential_or_one_with_a_byte_order_mark_is_an_error() {
    let empty = [("EMPTY", ""), ("MARKED", "\u{feff}token")];
    for (text, expected) in [
        (
            source("amqp: { url: amqp://h, queue: q, username: '${EMPTY}', password: '${EMPTY}' }"),
            expect![[r#"
            error[empty-secret]: the user's name is empty: the variable or file has no content
             --> routes.yaml:4:48
              |
            4 |     amqp: { url: amqp://h, queue: q, username: '${EMPTY}', password: '${EMPTY}' }
              |                                                ^^^^^^^^^^
              |
              = help: put the value there, or remove the key

            error[empty-secret]: the password is empty: the variable or file has no content
             --> routes.yaml:4:70
              |
            4 |     amqp: { url: amqp://h, queue: q, username: '${EMPTY}', password: '${EMPTY}' }
              |                                                                      ^^^^^^^^^^
              |
              = help: put the value there, or remove the key

        "#]],
        ),
        (
            sink("webhook: { url: 'https://h/x', secret: '${EMPTY}', auth: { bearer: '${EMPTY}' } }"),
            expect![[r#"
            error[empty-secret]: the secret is empty: the variable or file has no content
             --> routes.yaml:5:44
              |
            5 |     webhook: { url: 'https://h/x', secret: '${EMPTY}', auth: { bearer: '${EMPTY}' } }
              |                                            ^^^^^^^^^^
              |
              = help: put the value there, or remove the key

            error[empty-secret]: the token is empty: the variable or file has no content
             --> routes.yaml:5:72
              |
            5 |     webhook: { url: 'https://h/x', secret: '${EMPTY}', auth: { bearer: '${EMPTY}' } }
              |                                                                        ^^^^^^^^^^
              |
              = help: put the value there, or remove the key

        "#]],
        ),
        (
            sink(
                "webhook: { url: 'https://h/x', secret: '${MARKED}', auth: { basic: { username: '${EMPTY}', password: '${MARKED}' } } }",
            ),
            expect![[r#"
                error[byte-order-mark]: the secret begins with a byte order mark (U+FEFF), which is sent as a part of it
                 --> routes.yaml:5:44
                  |
                5 |     webhook: { url: 'https://h/x', secret: '${MARKED}', auth: { basic: { username: '${EMPTY}', password: '${MARKED}' } } }
                  |                                            ^^^^^^^^^^^
                  |
                  = help: save the file as UTF-8 without a byte order mark: `sed -i '1s/^\xEF\xBB\xBF//' FILE` removes it

                error[empty-secret]: the user's name is empty: the variable or file has no content
                 --> routes.yaml:5:84
                  |
                5 |     webhook: { url: 'https://h/x', secret: '${MARKED}', auth: { basic: { username: '${EMPTY}', password: '${MARKED}' } } }
                  |                                                                                    ^^^^^^^^^^
                  |
                  = help: put the value there, or remove the key

                error[byte-order-mark]: the password begins with a byte order mark (U+FEFF), which is sent as a part of it
                 --> routes.yaml:5:106
                  |
                5 |     webhook: { url: 'https://h/x', secret: '${MARKED}', auth: { basic: { username: '${EMPTY}', password: '${MARKED}' } } }
                  |                                                                                                          ^^^^^^^^^^^
                  |
                  = help: save the file as UTF-8 without a byte order mark: `sed -i '1s/^\xEF\xBB\xBF//' FILE` removes it

            "#]],
        ),
        (
            sink(
                "kafka: { brokers: h, topic: t, tls: {}, sasl: { mechanism: PLAIN, username: '${EMPTY}', password: '${MARKED}' } }",
            ),
            expect![[r#"
                error[empty-secret]: the user's name is empty: the variable or file has no content
                 --> routes.yaml:5:81
                  |
                5 |     kafka: { brokers: h, topic: t, tls: {}, sasl: { mechanism: PLAIN, username: '${EMPTY}', password: '${MARKED}' } }
                  |                                                                                 ^^^^^^^^^^
                  |
                  = help: put the value there, or remove the key

                error[byte-order-mark]: the password begins with a byte order mark (U+FEFF), which is sent as a part of it
                 --> routes.yaml:5:103
                  |
                5 |     kafka: { brokers: h, topic: t, tls: {}, sasl: { mechanism: PLAIN, username: '${EMPTY}', password: '${MARKED}' } }
                  |                                                                                                       ^^^^^^^^^^^
                  |
                  = help: save the file as UTF-8 without a byte order mark: `sed -i '1s/^\xEF\xBB\xBF//' FILE` removes it

            "#]],
        ),
    ] {
        expected.assert_eq(&parse(&text, Strictness::Run, &empty).unwrap_err().to_string());
    }
    let (_, warnings) =
        parse(&source("amqp: { url: amqp://h, queue: q, password: '${EMPTY}' }"), Strictness::Offline, &empty).unwrap();
    assert!(warnings.iter().any(|warning| warning.code() == "empty-secret"), "{warnings}");
}
