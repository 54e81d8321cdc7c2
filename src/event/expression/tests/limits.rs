//! Limits that keep the cost of an expression small.

use super::*;
use crate::event::fixtures::with_body;

#[test]
fn loops_over_long_lists_fail() {
    let of = |elements: usize| {
        let list = vec!["1"; elements].join(",");
        let members: Vec<String> = (0..elements).map(|n| format!("\"m{n}\":1")).collect();
        let body = format!(
            r#"{{"correlationId":"c","responseStatus":"ERROR","list":[{list}],"map":{{{}}}}}"#,
            members.join(",")
        );
        ["list", "map"].map(|name| {
            let holds = |source: String| with_body(&body, |view| compile(&source).expression.is_true(view));
            assert_eq!(holds(format!("size(extra.{name}) == {elements}")), Ok(true), "`size` works");
            holds(format!("extra.{name}.all(x, x != null)"))
        })
    };
    assert_eq!(of(values::MAX_ELEMENTS), [Ok(true), Ok(true)]);
    assert!(of(values::MAX_ELEMENTS + 1).iter().all(Result::is_err));
    let refused = |source: &str| Expression::condition(source).expect_err("it is refused")[0].message.clone();
    assert!(refused(&format!("tenant == '{}'", "x".repeat(MAX_SOURCE))).contains("at most 4096"));
    assert!(refused(&format!("'' == {}", ["''"; 70].join("+"))).contains("nested deeper"));
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    for [open, end] in [
        ["(", ")"],
        ["[", "]"],
        ["{'a':", "}"],
        ["!", ""],
        ["-", ""],
        ["a[", "]"],
        ["size(", ")"],
        ["a.b(", ")"],
        ["", ".b"],
        ["", "[0]"],
        ["", ".trim()"],
        ["true ? ", " : 1"],
        ["true ? 1 : ", ""],
        ["1 + ", ""],
        ["", " + 1"],
        ["true && ", ""],
        ["true || (", ")"],
        ["1 in ", ""],
        ["[1].all(x, ", ")"],
    ] {
        let times = MAX_SOURCE / (open.len() + end.len()) - 2;
        for source in [format!("{}a{}", open.repeat(times), end.repeat(times)), open.repeat(times), end.repeat(times)] {
            let _ = Expression::condition(&source);
        }
    }
}
