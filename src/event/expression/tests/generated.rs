//! Properties of compiling and evaluation, checked with generated expressions.

use proptest::prelude::*;

use super::*;
use crate::event::fixtures::with_body;

/// Valid conditions over text fields, some of which can be null and are tested for it before.
fn any_condition() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("tenant"),
        Just("session"),
        Just("message"),
        Just("extra.deep.text"),
        Just("headers['regards.tenant']"),
        Just("properties.app_id"),
        Just("extra.nothing"),
    ];
    let text = prop_oneof![name.prop_map(str::to_owned), Just("'a'".to_owned()), Just("null".to_owned())];
    let leaf = prop_oneof![
        (text.clone(), text.clone(), prop_oneof![Just("=="), Just("!="), Just("<"), Just("+ '' ==")])
            .prop_map(|(left, right, sign)| format!("{left} {sign} {right}")),
        (text.clone(), text.clone()).prop_map(|(left, right)| format!("{left}.startsWith({right})")),
        text.clone().prop_map(|text| format!("{text} != null")),
        text.clone().prop_map(|text| format!("{text} in ['a', 'cnes-a']")),
        text.clone().prop_map(|text| format!("{text}.matches('a.*')")),
        text.prop_map(|text| format!("warnings.exists(w, w == {text})")),
        Just("has(extra.deep) && has(extra.deep.text)".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} && {right})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} || {right})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            inner.prop_map(|inner| format!("!({inner})")),
        ]
    })
}

proptest! {
    #[test]
    fn an_expression_without_findings_never_fails(source in any_condition()) {
        let Ok(checked) = Expression::condition(&source) else { return Ok(()) };
        prop_assume!(checked.warnings.is_empty());
        let bare = r#"{"correlationId":"c","responseStatus":"GRANTED"}"#;
        let rich = with_event(|view| checked.expression.is_true(view));
        let bare = with_body(bare, |view| checked.expression.is_true(view));
        prop_assert!(rich.is_ok() && bare.is_ok(), "{}: {:?}, {:?}", source, rich, bare);
    }

    #[test]
    fn no_source_makes_compiling_panic(source in "(tenant|extra|[a-z]|[ .,?:'\"\\[\\](){}<>=!&|+*/%0-9@\\\\-]|in|has|all|map|null|true){0,24}") {
        if let Ok(checked) = Expression::condition(&source) {
            let _ = with_event(|view| checked.expression.is_true(view));
        }
    }
}
