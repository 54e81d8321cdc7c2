//! Files that are invalid as a whole: empty, missing, too large, not YAML, of another version.

use expect_test::expect;

use super::{Strictness, check_errors, options, parse};
use crate::config::Config;

#[test]
fn the_error_for_an_empty_file_says_how_to_start() {
    check_errors(
        "",
        expect![[r#"
        error[empty-file]: the file has nothing in it
         --> routes.yaml:1:1
          |
        1 |
          | ^
          |
          = help: start with `version: 1`, then `sources:`, `sinks:`, `routes:` and `unrouted:`

    "#]],
    );
    check_errors(
        "# nothing yet\n",
        expect![[r#"
        error[empty-file]: the file has nothing in it
         --> routes.yaml:1:1
          |
        1 | # nothing yet
          | ^
          |
          = help: start with `version: 1`, then `sources:`, `sinks:`, `routes:` and `unrouted:`

    "#]],
    );
}

#[test]
fn a_file_that_is_not_a_mapping_is_an_error() {
    check_errors(
        "- sources\n- sinks\n",
        expect![[r#"
        error[wrong-type]: expected a mapping of keys to values, found a list
         --> routes.yaml:1:3
          |
        1 | - sources
          |   ^^^^^^^
          |
          = help: write a mapping of keys to values here

    "#]],
    );
    check_errors(
        "version 1",
        expect![[r#"
        error[wrong-type]: expected a mapping of keys to values, found a single value
         --> routes.yaml:1:1
          |
        1 | version 1
          | ^^^^^^^^^
          |
          = help: write a mapping of keys to values here

    "#]],
    );
}

#[test]
fn a_syntax_error_is_shown_at_its_place() {
    check_errors(
        "version: 1\nsources: { a: b\nsinks: c\n",
        expect![[r#"
            error[yaml-syntax]: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'
             --> routes.yaml:3:6
              |
            2 | sources: { a: b
              |          - opened here
            3 | sinks: c
              |      ^
              |
              = help: separate the entries by commas and close the bracket; quote a value that holds `{`, `}`, `[`, `]` or `,`

        "#]],
    );
    check_errors(
        "version: 1\n\tsources: {}\n",
        expect![[r#"
            error[yaml-syntax]: this is not YAML: while scanning a plain scalar, found a tab
             --> routes.yaml:2:1
              |
            2 |     sources: {}
              | ^^^^
              |
              = help: indent with spaces: YAML takes no tabs there

        "#]],
    );
    check_errors(
        "version: 1\nname: one: two\n",
        expect![[r#"
        error[yaml-syntax]: this is not YAML: mapping values are not allowed in this context
         --> routes.yaml:2:10
          |
        2 | name: one: two
          |          ^
          |
          = help: a value that has `: ` in it needs quotes; a key has to stand on a line of its own

    "#]],
    );
    check_errors(
        "version: 1\nname: 'open\n",
        expect![[r#"
        error[yaml-syntax]: this is not YAML: unclosed quote
         --> routes.yaml:2:7
          |
        2 | name: 'open
          |       ^
          |
          = help: close the quote that was opened before

    "#]],
    );
    check_errors(
        "version: 1\nname: *other\n",
        expect![[r#"
            error[yaml-syntax]: a value that begins with `*` is an alias for YAML, and there is no anchor of that name
             --> routes.yaml:2:7
              |
            2 | name: *other
              |       ^
              |
              = help: put the value into quotes, as in `"*"` or `"*-test"`

        "#]],
    );
    check_errors(
        "version: 1\nname: !secret x\n",
        expect![[r#"
            error[yaml-tag]: YAML tags (`!…`) are not supported
             --> routes.yaml:2:7
              |
            2 | name: !secret x
              |       ^^^^^^^
              |
              = help: remove the tag; quote the value if it has to start with `!`

        "#]],
    );
    check_errors(
        "version: 1\n---\nversion: 1\n",
        expect![[r#"
        error[several-documents]: the file holds more than one YAML document
         --> routes.yaml:2:1
          |
        2 | ---
          | ^^^
          |
          = help: keep one document: remove this `---` and what belongs to the other one

    "#]],
    );
    check_errors(
        "version: 1\n? [a, b]\n: c\n",
        expect![[r#"
        error[yaml-key]: a key has to be a single word or text
         --> routes.yaml:2:3
          |
        2 | ? [a, b]
          |   ^^^^^^
          |
          = help: write `key: value`; a value that starts with `{` or `[` needs quotes

    "#]],
    );
}

#[test]
fn an_unsupported_version_is_the_only_error() {
    check_errors(
        "version: 2\nsauces: {}\n",
        expect![[r#"
            error[version]: version 2 is not supported
             --> routes.yaml:1:10
              |
            1 | version: 2
              |          ^
              |
              = help: write `version: 1`, or use a regards-relay that supports it

        "#]],
    );
}

#[test]
fn a_missing_file_or_one_that_is_not_utf8_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    let errors = Config::load(&path, &options(Strictness::Run, &[])).unwrap_err().to_string();
    assert!(errors.starts_with("error[unreadable]: the configuration can't be read: No such file"), "{errors}");
    std::fs::write(&path, b"version: 1\nname: \xff\n").unwrap();
    let errors = Config::load(&path, &options(Strictness::Run, &[])).unwrap_err().to_string();
    assert!(errors.starts_with("error[not-utf8]: the file is not UTF-8: line 2 is the first that isn't"), "{errors}");
}

#[test]
fn a_file_that_is_too_large_is_not_parsed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("routes.yaml");
    // It is neither YAML nor, at its end, UTF-8; only its size is reported.
    let mut bytes = vec![b'['; 10_000_000];
    bytes.extend([0xff]);
    std::fs::write(&path, bytes).unwrap();
    let diagnostics =
        crate::config::Config::load(&path, &super::options(Strictness::Run, &[])).unwrap_err().to_string();
    let diagnostics = diagnostics.replace(&directory.path().display().to_string(), "HERE");
    expect![[r#"
        error[too-large]: the file is longer than 8 MiB, and is not read
        --> HERE/routes.yaml
         = help: check that this is the configuration; write patterns instead of one route for each name

    "#]]
    .assert_eq(&diagnostics);
    let diagnostics = parse(&"#".repeat(9 << 20), Strictness::Run, &[]).unwrap_err();
    assert_eq!(diagnostics.iter().next().map(super::super::Diagnostic::code), Some("too-large"));
}
