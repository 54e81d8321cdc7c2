//! Secrets are never shown, neither in diagnostics nor by `Debug`.

use expect_test::expect;

use super::{Strictness, check_errors, check_warnings, options, parse, sink, source, valid_with};
use crate::config::{Config, SinkKind, SourceKind, WebhookAuth, WebhookUrl};

#[test]
fn a_secret_in_the_file_is_a_warning_and_masked() {
    check_warnings(
        &sink(
            "webhook:
  url: https://me:hunter2@example.org/
  secret: whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==
  auth: { bearer: hunter2 }",
        ),
        expect![[r#"
            warning[secret-in-clear]: the password in this URL is written in the file itself
             --> routes.yaml:6:12
              |
            6 |       url: https://me:***@example.org/
              |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

            warning[secret-in-clear]: the secret is written in the file itself
             --> routes.yaml:7:15
              |
            7 |       secret: ***
              |               ^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

            warning[secret-in-clear]: the token is written in the file itself
             --> routes.yaml:8:23
              |
            8 |       auth: { bearer: *** }
              |                       ^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

        "#]],
    );
}

#[test]
fn a_short_secret_is_a_warning() {
    check_warnings(
        &sink("webhook: { url: \"https://example.org/\", secret: \"${S:-whsec_c2hvcnQ=}\" }"),
        expect![[r#"
            warning[short-secret]: the secret has fewer than 24 bytes
             --> routes.yaml:5:53
              |
            5 |     webhook: { url: "https://example.org/", secret: "${S:-***}" }
              |                                                     ^^^^^^^^^^^
              |
              = help: `echo whsec_$(openssl rand -base64 32)` makes one; sender and receiver share it

        "#]],
    );
}

#[test]
fn a_default_is_masked_but_no_warning() {
    check_warnings(&source("amqp: { url: amqp://localhost, queue: q, password: \"${P:-hunter2}\" }"), expect![""]);
    check_errors(
        &source("amqp: { url: amqp://localhost, queue: q, password: \"${P:-hunter2}\", prefetch: x }"),
        expect![[r#"
            error[wrong-value]: `x` is not a whole number
             --> routes.yaml:4:83
              |
            4 |     amqp: { url: amqp://localhost, queue: q, password: "${P:-***}", prefetch: x }
              |                                                                               ^
              |
              = help: write digits only, without quotes, as in `100`

        "#]],
    );
}

#[test]
fn a_mistake_beside_a_secret_does_not_show_it() {
    check_errors(
        &source(
            "amqp: { url: \"amqp://me:hunter2@localhost/a/b\", queue: q, passwrod: hunter2, pasword: \"${X:-hunter2}\", password: [hunter2] }
validation: hunter",
        ),
        expect![[r#"
            error[broker-url]: a virtual host with a slash in it has to be written with `%2F` in a URL
             --> routes.yaml:4:18
              |
            4 |     amqp: { url: "amqp://me:***@localhost/a/b", queue: q, passwrod: ***, pasword: "${X:-***}", password: [***] }
              |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `%2F`, or name it in `vhost:` as it is

            error[unknown-key]: unknown key `passwrod`
             --> routes.yaml:4:63
              |
            4 |     amqp: { url: "amqp://me:***@localhost/a/b", queue: q, passwrod: ***, pasword: "${X:-***}", password: [***] }
              |                                                           ^^^^^^^^ did you mean `password`?
              |
              = help: write `password:`

            error[unknown-key]: unknown key `pasword`
             --> routes.yaml:4:82
              |
            4 |     amqp: { url: "amqp://me:***@localhost/a/b", queue: q, passwrod: ***, pasword: "${X:-***}", password: [***] }
              |                                                                          ^^^^^^^ did you mean `password`?
              |
              = help: write `password:`

            error[wrong-type]: expected a text, found a list
             --> routes.yaml:4:118
              |
            4 |     amqp: { url: "amqp://me:***@localhost/a/b", queue: q, passwrod: ***, pasword: "${X:-***}", password: [***] }
              |                                                                                                          ^^^^^
              |
              = help: write it as in `password: "${file:/run/secrets/NAME}"`

            error[unknown-word]: `hunter` is not one of `lenient`, `strict`
             --> routes.yaml:5:17
              |
            5 |     validation: hunter
              |                 ^^^^^^
              |
              = help: write one of these

        "#]],
    );
}

#[test]
fn a_syntax_error_does_not_show_secrets() {
    check_errors(
        "sources:\n  a: { password: hunter2, url: amqp://me:hunter2@localhost\nsinks:\n",
        expect![[r#"
            error[yaml-syntax]: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'
             --> routes.yaml:3:6
              |
            2 |   a: { password: ***
              |      - opened here
            3 | sinks:
              |      ^
              |
              = help: separate the entries by commas and close the bracket; quote a value that holds `{`, `}`, `[`, `]` or `,`

        "#]],
    );
    check_errors(
        "auth:\n  - hunter2\n   - hunter2: x: y\n",
        expect![[r#"
            error[yaml-syntax]: no line above has the indentation of this line
             --> routes.yaml:3:6
              |
            2 |   - ***
              |     --- begins in column 5
            3 |    - ***
              |      ^^^ begins in column 6
              |
              = help: indent the keys of one mapping by the same number of spaces: one of these two lines is wrong

        "#]],
    );
    check_errors(
        "secret: |\n  hunter2\n hunter2: {\n",
        expect![[r#"
            error[yaml-syntax]: no line above has the indentation of this line
             --> routes.yaml:3:2
              |
            2 |   ***
              |   --- begins in column 3
            3 |  ***
              |  ^^^ begins in column 2
              |
              = help: indent the keys of one mapping by the same number of spaces: one of these two lines is wrong

        "#]],
    );
}

#[test]
fn inserted_values_are_never_shown() {
    let text = source(
        "amqp: { url: \"${URL}\", queue: q, prefetch: \"${N}\", exclusive: ${E} }\nvalidation: ${V}\nexpects: ${V}",
    );
    let variables = [("URL", "hunter2://x"), ("N", "hunter2"), ("E", "hunter2"), ("V", "hunter2")];
    let errors = parse(&text, Strictness::Run, &variables).unwrap_err();
    expect![[r#"
        error[broker-url]: the URL of a broker begins with `amqp://` or `amqps://`
         --> routes.yaml:4:18
          |
        4 |     amqp: { url: "${URL}", queue: q, prefetch: "${N}", exclusive: ${E} }
          |                  ^^^^^^^^
          |
          = help: write `amqp://HOST:PORT` or `amqps://HOST:PORT`

        error[wrong-value]: `${N}` is not a whole number
         --> routes.yaml:4:48
          |
        4 |     amqp: { url: "${URL}", queue: q, prefetch: "${N}", exclusive: ${E} }
          |                                                ^^^^^^
          |
          = help: write digits only, without quotes, as in `100`

        error[wrong-value]: `${E}` is not `true` or `false`
         --> routes.yaml:4:67
          |
        4 |     amqp: { url: "${URL}", queue: q, prefetch: "${N}", exclusive: ${E} }
          |                                                                   ^^^^
          |
          = help: write `true` or `false`, without quotes

        error[unknown-word]: `${V}` is not one of `lenient`, `strict`
         --> routes.yaml:5:17
          |
        5 |     validation: ${V}
          |                 ^^^^
          |
          = help: write one of these

        error[unknown-family]: `${V}` is not a family of responses
         --> routes.yaml:6:14
          |
        6 |     expects: ${V}
          |              ^^^^
          |
          = help: write one of `lta`, `order`, `delivery`, `feature`, `ingest`, `worker`, `auto`

    "#]]
    .assert_eq(&errors.to_string());
}

#[test]
fn debug_shows_no_secret() {
    let text = "version: 1
sources: { regards: { amqp: { url: \"amqp://me:${S}@localhost\", username: \"${S}\", password: \"${S}\", queue: q } } }
sinks:
  kafka: { kafka: { brokers: one, topic: t, options: { ssl.key.password: \"${S}\" }, sasl: { mechanism: SCRAM-SHA-256, username: \"${S}\", password: \"${S}\" } } }
  hook: { webhook: { url: \"https://example.org/{{ tenant }}?token=${S}\", secret: \"whsec_${S}${S}${S}${S}\", headers: { X-Key: \"${S}\" }, auth: { bearer: \"${S}\" }, proxy: \"http://me:${S}@proxy\" } }
  basic: { webhook: { url: \"https://me:${S}@example.org/\", auth: { basic: { username: \"${S}\", password: \"${S}\" } } }, body: \"${S}\" }
routes: [{ name: all, to: [kafka, hook, basic] }]
unrouted: drop
";
    let config = valid_with(text, &[("S", "hunter22")]);
    let shown = format!("{config:?} {config:#?}");
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn variables_and_files_are_inserted_once_and_encoded_in_urls() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "p@ss/${A} \n").unwrap();
    let text = source(
        "amqp: { url: [\"amqp://me:${file:key}@localhost/${A}\", \"${WHOLE}\"], password: \"${file:key}\", queue: \"q-${A}-$${A}-${B:-b}-${EMPTY:-c}-${EMPTY}\" }",
    );
    let variables = [("A", "${B} %"), ("WHOLE", "amqp://other/%24%7BB%7D%20%25"), ("EMPTY", "")];
    let (config, _) =
        Config::parse(&text, &folder.path().join("routes.yaml"), &options(Strictness::Run, &variables)).unwrap();
    let SourceKind::Amqp(amqp) = &config.sources[0].kind else { panic!() };
    assert_eq!(amqp.queue, "q-${B} %-${A}-b-c-");
    assert_eq!(
        amqp.connection.urls[0].reveal().unwrap(),
        "amqp://me:p%40ss%2F%24%7BA%7D%20@localhost/%24%7BB%7D%20%25"
    );
    assert_eq!(amqp.connection.urls[1].reveal().unwrap(), "amqp://other/%24%7BB%7D%20%25");
    let password = amqp.connection.login.secrets().next().unwrap();
    assert_eq!(password.reveal().unwrap(), "p@ss/${A} ");
    // Rotated: the next connection has the new one.
    std::fs::write(folder.path().join("key"), "next").unwrap();
    assert_eq!(password.reveal().unwrap(), "next");
}

#[test]
fn an_unset_variable_is_an_error_to_run_and_a_placeholder_offline() {
    let text = sink(
        "webhook: { url: \"${URL}\", secret: \"${file:/no/such/file}\", auth: { bearer: \"${TOKEN}\" }, timeout: \"${T}\", concurrency: ${N} }
format: ${FORMAT}
keep_headers: ${K}
body: null",
    );
    expect![[r#"
        error[unset-variable]: the variable `URL` is not set
         --> routes.yaml:5:21
          |
        5 |     webhook: { url: "${URL}", secret: "${file:/no/such/file}", auth: { bearer: "${TOKEN}" }, timeout: "${T}", concurrency: ${N} }
          |                     ^^^^^^^^
          |
          = help: set it, or give it a default: `${URL:-default}`

        error[unreadable-file]: the file `/no/such/file` can't be read: No such file or directory (os error 2)
         --> routes.yaml:5:39
          |
        5 |     webhook: { url: "${URL}", secret: "${file:/no/such/file}", auth: { bearer: "${TOKEN}" }, timeout: "${T}", concurrency: ${N} }
          |                                       ^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: relative paths begin at the directory of this file; the relay's user needs the right to read it

        error[unset-variable]: the variable `TOKEN` is not set
         --> routes.yaml:5:80
          |
        5 |     webhook: { url: "${URL}", secret: "${file:/no/such/file}", auth: { bearer: "${TOKEN}" }, timeout: "${T}", concurrency: ${N} }
          |                                                                                ^^^^^^^^^^
          |
          = help: set it, or give it a default: `${TOKEN:-default}`

        error[unset-variable]: the variable `T` is not set
         --> routes.yaml:5:103
          |
        5 |     webhook: { url: "${URL}", secret: "${file:/no/such/file}", auth: { bearer: "${TOKEN}" }, timeout: "${T}", concurrency: ${N} }
          |                                                                                                       ^^^^^^
          |
          = help: set it, or give it a default: `${T:-default}`

        error[unset-variable]: the variable `N` is not set
         --> routes.yaml:5:124
          |
        5 |     webhook: { url: "${URL}", secret: "${file:/no/such/file}", auth: { bearer: "${TOKEN}" }, timeout: "${T}", concurrency: ${N} }
          |                                                                                                                            ^^^^
          |
          = help: set it, or give it a default: `${N:-default}`

        error[unset-variable]: the variable `FORMAT` is not set
         --> routes.yaml:6:13
          |
        6 |     format: ${FORMAT}
          |             ^^^^^^^^^
          |
          = help: set it, or give it a default: `${FORMAT:-default}`

        error[unset-variable]: the variable `K` is not set
         --> routes.yaml:7:19
          |
        7 |     keep_headers: ${K}
          |                   ^^^^
          |
          = help: set it, or give it a default: `${K:-default}`

    "#]].assert_eq(&parse(&text, Strictness::Run, &[]).unwrap_err().to_string());
    let (config, warnings) = parse(&text, Strictness::Offline, &[]).unwrap();
    assert_eq!((warnings.errors(), warnings.warnings()), (0, 7));
    let SinkKind::Webhook(webhook) = &config.sinks[0].kind else { panic!() };
    assert!(matches!(&webhook.url, WebhookUrl::Fixed { url, .. } if url.reveal().unwrap() == "https://unset.invalid/"));
    assert!(matches!(&webhook.auth, Some(WebhookAuth::Bearer(token)) if token.reveal().unwrap() == "unset-TOKEN"));
    assert_eq!((webhook.timeout.as_secs(), webhook.concurrency), (10, 8));
}

#[test]
fn an_invalid_reference_is_an_error() {
    check_errors(
        &source("amqp: { url: \"amqp://${HOST\", queue: \"${1}\", vhost: \"a ${file:}\" }"),
        expect![[r#"
            error[interpolation]: this `${` is never closed
             --> routes.yaml:4:26
              |
            4 |     amqp: { url: "amqp://${HOST", queue: "${1}", vhost: "a ${file:}" }
              |                          ^^^^^^
              |
              = help: write `${VAR}`, `${VAR:-default}` or `${file:PATH}`, and `$$` for a dollar

            error[interpolation]: a variable's name has letters, digits and `_`, and does not begin with a digit
             --> routes.yaml:4:43
              |
            4 |     amqp: { url: "amqp://${HOST", queue: "${1}", vhost: "a ${file:}" }
              |                                           ^^^^
              |
              = help: write `${VAR}`, `${VAR:-default}` or `${file:PATH}`, and `$$` for a dollar

            error[interpolation]: `${file:}` names no file
             --> routes.yaml:4:60
              |
            4 |     amqp: { url: "amqp://${HOST", queue: "${1}", vhost: "a ${file:}" }
              |                                                            ^^^^^^^^
              |
              = help: write `${VAR}`, `${VAR:-default}` or `${file:PATH}`, and `$$` for a dollar

        "#]],
    );
}

#[test]
fn a_pipe_is_an_error_and_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.display();
    for amqp in [
        format!("amqp: {{ url: amqps://localhost, queue: q, tls: {{ ca: {pipe} }} }}"),
        format!("amqp: {{ url: amqp://localhost, queue: q, password: \"${{file:{pipe}}}\" }}"),
    ] {
        let errors = parse(&source(&amqp), Strictness::Run, &[]).unwrap_err().to_string();
        assert!(errors.contains("can't be read: it is no regular file"), "{errors}");
        let (_, warnings) = parse(&source(&amqp), Strictness::Offline, &[]).unwrap();
        assert_eq!(warnings.warnings(), 1, "{warnings}");
    }
}

#[test]
fn an_inserted_value_in_an_expression_is_an_error() {
    let text = format!(
        "{}\n    transform: [{{ set: {{ a: {{ cel: \"'${{X}}'\" }}, b: \"${{X}}\" }} }}]\n",
        super::sink("stdout: {}\nbody: '{{ ${X} }}'").replace(
            "routes: [{ name: all, to: out }]\nunrouted: drop\n",
            "unrouted: drop\nroutes:\n  - name: all\n    to: out\n    when: { tenant: \"${X}\", if: \"status == '${X}'\" }"
        )
    );
    let diagnostics = |strictness| parse(&text, strictness, &[("X", "status")]).unwrap_err().to_string();
    assert_eq!(diagnostics(Strictness::Offline), diagnostics(Strictness::Run));
    expect![[r#"
        error[template]: this is not a template: the value of `${…}` is text, not an expression: within an expression write it in quotes, as in {{ default("${VAR}") }}
         --> routes.yaml:6:11
          |
        6 |     body: '{{ ${X} }}'
          |           ^^^^^^^^^^^^
          |
          = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

        error[expression]: `${…}` inserts a text, which is not allowed in an expression
          --> routes.yaml:12:33
           |
        12 |     when: { tenant: "${X}", if: "status == '${X}'" }
           |                                 ^^^^^^^^^^^^^^^^^^
           |
           = help: write the value itself; a field of `when:` may have one, as in `tenant: ${TENANT}`

        error[expression]: `${…}` inserts a text, which is not allowed in an expression
          --> routes.yaml:13:36
           |
        13 |     transform: [{ set: { a: { cel: "'${X}'" }, b: "${X}" } }]
           |                                    ^^^^^^^^
           |
           = help: write the value itself; a field of `when:` may have one, as in `tenant: ${TENANT}`

    "#]].assert_eq(&diagnostics(Strictness::Run));
}

#[test]
fn a_url_with_a_missing_or_denied_host_is_an_error() {
    let of = |webhook: &str| super::sink(webhook);
    for (webhook, code) in [
        ("webhook: { url: 'https:///hooks' }", "error[url]: this is not a URL: there is no host in it"),
        ("webhook: { url: 'https://${HOST}/hooks' }", "error[url]: this is not a URL: there is no host in it"),
        ("webhook: { url: 'https://10.1.2.3/', deny: [10.0.0.0/8] }", "`deny` of its sink contains it"),
        ("webhook: { url: 'https://host/', deny: 10.0.0.1/8 }", "error[network]"),
    ] {
        let diagnostics = super::parse(&of(webhook), super::Strictness::Run, &[("HOST", "")]).unwrap_err().to_string();
        assert!(diagnostics.contains(code), "{diagnostics}");
    }
}
