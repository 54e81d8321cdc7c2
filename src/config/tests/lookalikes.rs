//! Characters that look like a space or a quote but are not.

use expect_test::expect;

use super::{check_errors, check_warnings, routes, sink};

#[test]
fn a_character_that_looks_like_a_space_is_named() {
    check_errors(
        &routes("- name: r\n\u{a0} when: { tenant: esa }\n  to: [a, b]"),
        expect![[r#"
        error[yaml-syntax]: this character, a no-break space (U+00A0), is not white space here
         --> routes.yaml:6:5
          |
        6 |       when: { tenant: esa }
          |     ^
          |
          = help: delete it and type a space: copied text often contains such characters

    "#]],
    );
    check_errors(
        &routes("- name: r\n  when:\u{a0}{ tenant: esa }\n  to: [a, b]"),
        expect![[r#"
        error[unknown-key]: unknown key `when:\u{a0}{ tenant`
         --> routes.yaml:6:7
          |
        6 |       when: { tenant: esa }
          |       ^^^^^^^^^^^^^^ there is no space after `when:`
          |
          = help: write `when: …`

        warning[odd-character]: this character, a no-break space (U+00A0), is a part of the text
         --> routes.yaml:6:12
          |
        6 |       when: { tenant: esa }
          |            ^
          |
          = help: delete it and type a space: copied text often contains such characters

    "#]],
    );
    check_warnings(
        &routes("- name: r\n  when: { tenant: \u{a0}esa }\n  to: [a, b]"),
        expect![[r#"
        warning[odd-character]: this character, a no-break space (U+00A0), is a part of the text
         --> routes.yaml:6:23
          |
        6 |       when: { tenant:  esa }
          |                       ^
          |
          = help: delete it and type a space: copied text often contains such characters

    "#]],
    );
}

#[test]
fn curly_quotes_are_named() {
    check_warnings(
        &routes("- name: r\n  when: { tenant: \u{201c}esa\u{201d} }\n  to: [a, b]"),
        expect![[r#"
        warning[odd-character]: this character, a left double quotation mark (U+201C), is a part of the text
         --> routes.yaml:6:23
          |
        6 |       when: { tenant: “esa” }
          |                       ^
          |
          = help: type `"` or `'` instead; to keep this character, put the whole text into `'…'`

    "#]],
    );
    check_errors(
        &routes("- name: r\n  when: { tenant: esa }\n  to: \u{2018}a\u{2019}"),
        expect![[r#"
        warning[odd-character]: this character, a left single quotation mark (U+2018), is a part of the text
         --> routes.yaml:7:11
          |
        7 |       to: ‘a’
          |           ^
          |
          = help: type `"` or `'` instead; to keep this character, put the whole text into `'…'`

        error[unknown-sink]: there is no sink `‘a’`
         --> routes.yaml:7:11
          |
        7 |       to: ‘a’
          |           ^^^
          |
          = help: write one of `a`, `b`

    "#]],
    );
    check_errors(
        &routes("- name: r\n  when: { if: \"message == \u{201c}quota\u{201d}\" }\n  to: [a, b]"),
        expect![[r#"
        error[expression]: this character, a left double quotation mark (U+201C), is not a quote here
         --> routes.yaml:6:31
          |
        6 |       when: { if: "message == “quota”" }
          |                               ^
          |
          = help: type `"` or `'` instead; to keep this character, put the whole text into `'…'`

    "#]],
    );
    check_errors(
        &sink("kafka: { brokers: h, topic: 't.{{ session | default(\u{201c}x\u{201d}) }}' }"),
        expect![[r#"
        error[template]: this character, a left double quotation mark (U+201C), is not a quote here
         --> routes.yaml:5:57
          |
        5 |     kafka: { brokers: h, topic: 't.{{ session | default(“x”) }}' }
          |                                                         ^
          |
          = help: type `"` or `'` instead; to keep this character, put the whole text into `'…'`

    "#]],
    );
}

#[test]
fn lookalikes_in_strings_are_not_reported_as_the_mistake() {
    for text in [
        routes("- name: r\n  when: { if: \"message == 'a\u{a0}b' && nowhere\" }\n  to: [a, b]"),
        sink("stdout: {}\nbody: 'Erreur\u{a0}: {{ nowhere }} \u{ab}x\u{bb} {{ message | default(\"\u{201c}\") }}'"),
    ] {
        let diagnostics = super::parse(&text, super::Strictness::Run, &[]).unwrap_err().to_string();
        assert!(diagnostics.contains("nowhere") && !diagnostics.contains("U+"), "{diagnostics}");
    }
}

#[test]
fn lookalikes_in_quoted_texts_are_accepted() {
    super::valid(&sink("stdout: {}\nbody: \"\u{201c}{{ message }}\u{201d} : \u{a0}\""));
    super::valid(&sink("stdout: {}\nbody: Erreur\u{a0}- \u{ab}\u{a0}{{ message }}\u{a0}\u{bb}"));
}
