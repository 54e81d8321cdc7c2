//! No file makes the relay slow, use much memory, or panic.

use std::fmt::Write;

use expect_test::expect;
use proptest::prelude::*;

use super::{Strictness, check_errors, parse, routes};

#[test]
fn aliases_are_counted_where_they_are_used() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let last = level - 1;
        let aliases = vec![format!("*a{last}"); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    check_errors(
        &text,
        expect![[r#"
        error[too-many-values]: more than 500000 values, aliases counted where they are used
         --> routes.yaml:6:25
          |
        6 | a5: &a5 [*a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4]
          |                         ^^^
          |
          = help: split the file, or write patterns instead of one route for each name

    "#]],
    );
}

#[test]
fn the_depth_is_bounded_with_and_without_aliases() {
    check_errors(
        &"[".repeat(100_000),
        expect![[r#"
        error[too-deep]: more than 32 nested levels
        --> routes.yaml:1:33
         = help: no configuration needs that many: look for a wrong indentation

    "#]],
    );
    let mut text = "a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n".to_owned();
    for level in 1..9 {
        let last = level - 1;
        writeln!(text, "a{level}: &a{level} [[[[[[[[[[*a{last}]]]]]]]]]]").unwrap();
    }
    check_errors(
        &text,
        expect![[r#"
        error[too-deep]: more than 32 nested levels
         --> routes.yaml:4:19
          |
        4 | a3: &a3 [[[[[[[[[[*a2]]]]]]]]]]
          |                   ^^^
          |
          = help: no configuration needs that many: look for a wrong indentation

    "#]],
    );
    check_errors(
        "a: &a [*a]\n",
        expect![[r#"
        error[yaml-alias]: an alias refers to the value that it is a part of
         --> routes.yaml:1:8
          |
        1 | a: &a [*a]
          |        ^^
          |
          = help: write the value out

    "#]],
    );
}

#[test]
fn an_alias_repeats_a_value() {
    let text = routes(
        "- { name: one, when: &esa { tenant: esa }, to: a, final: true }\n- { name: two, when: { not: *esa }, to: b }",
    );
    let (config, warnings) = parse(&text, Strictness::Run, &[]).unwrap();
    assert_eq!(warnings.to_string(), "");
    assert_eq!(config.rules.routes()[1].when.not[0].fields, config.rules.routes()[0].when.fields);
}

#[test]
fn the_number_of_mistakes_shown_is_bounded() {
    let text = routes(&"- { name: one, to: nowhere }\n".repeat(3000));
    let errors = parse(&text, Strictness::Run, &[]).unwrap_err();
    assert_eq!(errors.errors(), 1000);
    let shown = errors.to_string();
    assert_eq!(shown.matches("\n --> ").count() + shown.matches("\n  --> ").count(), 100, "{shown}");
    assert!(shown.ends_with("note: 900 more like these are not shown\n\n"), "{shown}");
}

#[test]
fn ten_thousand_routes_load() {
    let mut all = String::new();
    for tenant in 0..10_000 {
        writeln!(all, "- {{ name: r{tenant}, when: {{ tenant: t{tenant} }}, to: [a, b] }}").unwrap();
    }
    let (config, warnings) = parse(&routes(&all), Strictness::Run, &[]).unwrap();
    assert_eq!(config.rules.routes().len(), 10_000);
    assert_eq!(warnings.to_string(), "");
}

#[test]
fn the_number_of_sources_is_bounded() {
    let tenants: Vec<String> = (0..1_001).map(|number| format!("t{number}")).collect();
    check_errors(
        &format!(
            "version: 1
sources:
  each: {{ amqp: {{ url: amqp://localhost, queue: q, vhost: 'regards.{{tenant}}' }}, tenants: [{}] }}
sinks: {{ a: {{ stdout: {{}} }} }}
routes: [{{ name: all, to: a }}]
unrouted: drop
",
            tenants.join(", ")
        ),
        expect![[r#"
            error[too-many]: with a source for each tenant there are more than 1000
             --> routes.yaml:2:1
              |
            2 | sources:
              | ^^^^^^^
              |
              = help: split the tenants between several relays

        "#]],
    );
}

#[test]
fn a_very_long_line_is_not_shown() {
    let text = format!("version: 1\nname: {}\nunknown: 1\n", "x".repeat(1_000_000));
    let errors = parse(&text, Strictness::Run, &[]).unwrap_err().to_string();
    assert!(errors.len() < 10_000, "{}", errors.len());
}

#[test]
fn control_characters_of_the_file_are_escaped() {
    let text = "version: 1\n\"a\\e[2J\": x\nb: \"\u{202e}x\"\n";
    let errors = parse(text, Strictness::Run, &[]).unwrap_err().to_string();
    assert!(!errors.contains(['\u{1b}', '\u{202e}']), "{errors:?}");
}

proptest! {
    #[test]
    fn no_text_makes_the_check_panic(text in "\\PC{0,200}") {
        let _ = parse(&text, Strictness::Offline, &[]).map_err(|errors| errors.to_string());
    }

    /// A valid file with pieces cut out, doubled and swapped reaches more code than random text.
    #[test]
    fn no_damaged_file_makes_the_check_panic(cuts in prop::collection::vec((0_usize..4000, 0_usize..40, 0_usize..4000), 1..6)) {
        let mut text = include_str!("../../../routes.yaml").to_owned();
        for (from, length, to) in cuts {
            let boundary = |mut at: usize| { at = at.min(text.len()); while !text.is_char_boundary(at) { at -= 1; } at };
            let (start, end) = (boundary(from), boundary(from + length));
            let piece = text[start..end].to_owned();
            let to = boundary(to);
            text.insert_str(to, &piece);
            let (start, end) = (start.min(text.len()), end.min(text.len()));
            if text.is_char_boundary(start) && text.is_char_boundary(end) {
                text.replace_range(start..end, "");
            }
        }
        let diagnostics = parse(&text, Strictness::Offline, &[]).map_or_else(|errors| errors.to_string(), |(_, warnings)| warnings.to_string());
        // Each place in the diagnostics is in the file.
        for line in diagnostics.lines().filter_map(|line| line.trim().strip_prefix("--> routes.yaml:")) {
            let number: usize = line.split(':').next().unwrap().parse().unwrap();
            prop_assert!(number <= text.lines().count() + 1);
        }
    }
}
