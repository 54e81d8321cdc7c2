use expect_test::expect;
use proptest::prelude::*;

use super::types::{FUNCTIONS, METHODS};
use super::*;
use crate::event::fixtures::{with_body, with_event};

fn compile(source: &str) -> CompiledExpression {
    Expression::condition(source).unwrap_or_else(|errors| panic!("{source}: {errors:?}"))
}

fn holds(source: &str) -> Result<bool, ExpressionError> {
    with_event(|view| compile(source).expression.is_true(view))
}

/// The findings of each expression.
fn findings(sources: &[&str]) -> String {
    let mut out = String::new();
    for source in sources {
        out.push_str(source);
        let found = match Expression::condition(source) {
            Ok(checked) if checked.warnings.is_empty() => {
                out.push_str("\n  fine\n");
                continue;
            }
            Ok(checked) => checked.warnings,
            Err(errors) => errors,
        };
        for Finding { message, help, .. } in found {
            out.extend(["\n  ", &message, "\n    = ", &help]);
        }
        out.push('\n');
    }
    out
}

#[test]
fn conditions_see_the_fields_of_the_event() {
    for source in [
        "true",
        "tenant == 'cnes-a' && status == 'ERROR' && outcome == \"failed\"",
        "id.size() == 36 && type.endsWith('.response') && source == 'regards'",
        "correlationId == 'c/1 é' && productId.contains('\"1\"')",
        "session == null && expires == null && time == '2023-04-14T08:46:17Z'",
        "message != null && message.startsWith('a\\n')",
        "status in ['ERROR', 'DENIED'] && !(tenant in ['esa'])",
        "session in ['a', null] && !(session in ['a'])",
        "extra.n == 12 && extra.n > 11 && extra.f == 1.5 && extra.yes && extra.huge == '1e999'",
        "extra.no == null && extra.unheard_of == null && !has(extra.no) && has(extra.n)",
        "'n' in extra && !('no' in extra) && !('unheard_of' in extra)",
        "has(extra.deep.list) && !has(extra.deep.unheard_of) && extra.deep.list[0] == 1 && extra.deep.list[2].x == 'y'",
        "extra['deep']['text'] == 't' && extra.deep.list == [1, null, extra.deep.list[2]]",
        "size(extra) == 6 && extra.deep.list.size() == 3 && size(headers.table) == 1",
        "headers['regards.tenant'] == tenant && headers.count == -3 && headers.sent == 1681461977",
        "headers.blob == '/wA=' && headers.list == [true, null] && headers.table['a.b'] == 'deep'",
        "properties.app_id == 'rs-lta-manager' && properties.priority == 1 && properties.type == null",
        "properties.timestamp >= 1681461977 && properties.delivery_mode == null",
        "size(warnings) == 0 && !warnings.exists(w, w.contains('x'))",
        "headers.list.exists(x, x == true) && headers.exists_one(name, name.startsWith('regards.'))",
        "headers.map(name, name.upperAscii()) == ['BLOB', 'COUNT', 'LIST', 'REGARDS.TENANT', 'SENT', 'TABLE']",
        "extra.deep.list.filter(x, x == 1) == [1] && ['a', 'b'].all(x, x < 'c')",
        "(session == null ? 'none' : session) == 'none'",
        "tenant.matches('^(cnes|esa)-[a-z]$') && !tenant.matches('^nes')",
        "extra.deep == extra.deep",
        "1 + 2 * 3 == 7 && 7 / 2 == 3 && 7 % 2 == 1 && 1.5 + 1.5 == 3 && -1 < 0 && 1u < 2u",
        "tenant + '/' + status == 'cnes-a/ERROR'",
    ] {
        assert_eq!(holds(source), Ok(true), "{source}");
        assert_eq!(holds(&format!("!({source})")), Ok(false), "{source}");
    }
}

#[test]
fn every_function_that_the_check_accepts_exists() {
    let known: Vec<&str> = FUNCTIONS.iter().chain(&METHODS).map(|function| function.name).collect();
    let used = [
        "size('é') == 1",
        "string(12) == '12' && string(true) == 'true' && string(1.5) == '1.5'",
        "int('12') == 12 && int(1.9) == 1",
        "uint('12') == 12u",
        "double('1.5') == 1.5",
        "bool('true')",
        "'quota exceeded'.contains('quota')",
        "'quota'.startsWith('qu')",
        "'quota'.endsWith('ta')",
        "'É-A'.lowerAscii() == 'É-a'",
        "'é-a'.upperAscii() == 'é-A'",
        "' a '.trim() == 'a'",
        "'a/b/a'.indexOf('/') == 1 && 'a/b/a'.indexOf('a', 1) == 4 && 'a'.indexOf('b') == -1",
        "'cnes-a'.substring(5) == 'a' && 'cnes-a'.substring(0, 4) == 'cnes'",
    ];
    for name in known {
        assert!(used.iter().any(|source| source.contains(&format!("{name}("))), "{name}");
    }
    for source in used {
        assert_eq!(holds(source), Ok(true), "{source}");
    }
}

#[test]
fn unknown_names_and_functions_are_errors() {
    expect![[r#"
        tennant == 'esa'
          there is no `tennant`
            = did you mean tenant?
        correlation_id == 'x'
          there is no `correlation_id`
            = did you mean correlationId?
        headers.x == null
          fine
        properties.correlationId == 'x'
          there is no `properties.correlationId`
            = did you mean correlation_id?
        properties.headers == null
          `headers` is not in `properties`
            = write `headers["…"]`
        tenant.name == 'x'
          `tenant` is text and has no member `name`
            = remove the part after it
        status == ERROR
          there is no `ERROR`
            = if this is text, write it in quotes: `'ERROR'`; there are correlationId, expires, extra, headers, id, message, outcome, productId, properties, session, source, status, tenant, time, type, warnings
        warnings['x'] == ''
          a list index must be a number, and this is text
            = write a number
        extra[1] == ''
          the name of a member must be text, and this is a whole number
            = write it in quotes
        tenant[0] == 'c'
          `tenant` is text and has no member
            = remove the part after it
        tenant.upper() == 'X'
          there is no function `upper`
            = did you mean upperAscii?
        startsWith(tenant, 'c')
          `startsWith` is a method of text
            = write `x.startsWith(…)`
        sizeof(tenant) == 1
          there is no function `sizeof`
            = did you mean size?
        now() > 1
          there is no function `now`
            = there are bool, double, has, int, size, string, uint
        timestamp('2023-04-14T08:46:17Z') > timestamp(time)
          there is no function `timestamp`
            = there are bool, double, has, int, size, string, uint
    "#]].assert_eq(&findings(&[
        "tennant == 'esa'",
        "correlation_id == 'x'",
        "headers.x == null",
        "properties.correlationId == 'x'",
        "properties.headers == null",
        "tenant.name == 'x'",
        "status == ERROR",
        "warnings['x'] == ''",
        "extra[1] == ''",
        "tenant[0] == 'c'",
        "tenant.upper() == 'X'",
        "startsWith(tenant, 'c')",
        "sizeof(tenant) == 1",
        "now() > 1",
        "timestamp('2023-04-14T08:46:17Z') > timestamp(time)",
    ]));
}

#[test]
fn incompatible_types_are_errors() {
    expect![[r"
        tenant == 1
          text and a whole number are never equal
            = compare values of the same type
        tenant == null
          `tenant` is never null
            = remove the comparison
        has(extra.a) && extra.a != null
          fine
        status in 'ERROR'
          `in` needs a list or a map, and this is text
            = write `[…]` around it, or use `contains`
        status in [1, 2]
          text is never in a list of a whole number
            = list values of the same type
        tenant
          a condition must be true or false, and this is text
            = compare it with something
        'yes'
          a condition must be true or false, and this is text
            = compare it with something
        !tenant
          a condition must be true or false, and this is text
            = compare it with something
        tenant && true
          a condition must be true or false, and this is text
            = compare it with something
        tenant < 3
          text and a whole number can't be ordered
            = compare two numbers, or two texts
        session < null
          null can only be compared with `==` and `!=`
            = remove it here
        warnings > 1
          a list and a whole number can't be ordered
            = compare two numbers, or two texts
        warnings == warnings || extra == extra
          maps can't be compared
            = compare their members
        tenant + 1 == 'x'
          text and a whole number can't be joined
            = convert it with `string(…)`
        warnings + warnings == []
          lists can't be joined
            = write one list
        tenant - 'a' == ''
          text and text can't be combined in a calculation
            = use two numbers of the same type; `int(…)` and `double(…)` convert them
        -tenant == ''
          text can't be negated
            = remove the `-`
        tenant.startsWith()
          `startsWith` is called with no argument
            = it takes text
        tenant.startsWith(1)
          `startsWith` takes text, and this is a whole number
            = write text
        warnings.startsWith('a')
          `startsWith` is a method of text, and this is a list
            = call it on text
    "]]
    .assert_eq(&findings(&[
        "tenant == 1",
        "tenant == null",
        "has(extra.a) && extra.a != null",
        "status in 'ERROR'",
        "status in [1, 2]",
        "tenant",
        "'yes'",
        "!tenant",
        "tenant && true",
        "tenant < 3",
        "session < null",
        "warnings > 1",
        "warnings == warnings || extra == extra",
        "tenant + 1 == 'x'",
        "warnings + warnings == []",
        "tenant - 'a' == ''",
        "-tenant == ''",
        "tenant.startsWith()",
        "tenant.startsWith(1)",
        "warnings.startsWith('a')",
    ]));
}

#[test]
fn unsupported_syntax_is_an_error() {
    expect![[r#"
        status = 'ERROR'
          syntax error at character 8 of the expression: mismatched input '=' expecting the end
            = write `==` for '='
        status == 'ERROR' and tenant == 'esa'
          syntax error at character 19 of the expression: mismatched input 'and' expecting the end
            = write `&&` for 'and'
        tenant.matches('(')
          `(` is not a regular expression: unclosed group
            = the syntax is that of RE2, without look-around
        tenant.matches(status)
          `matches` takes one regular expression as a literal text
            = write it in quotes
        warnings.exists(w, warnings.exists(v, v == w))
          loops can't be nested
            = split it into two conditions
        warnings.exists(tenant, true)
          `tenant` is already a name of the event
            = give the element another name
        tenant.exists(c, c == 'a')
          this is text and has no elements
            = use a list or a map
        warnings.map(w, tenant) == []
          `tenant` can't be used in the elements that `map` produces
            = build the value from the whole list in a template instead
        {1: 2} == {}
          the name of a member must be text, and this is a whole number
            = write it in quotes
          maps can't be compared
            = compare their members
        b'x' == b'x'
          bytes literals are not supported
            = write text, without the `b`
        Message{a: 1} == null
          message literals are not supported
            = write a map: `{"name": value}`
        extra.?a == null
          syntax error at character 6 of the expression: unsupported syntax '.?'
            = write it as in `message != null && message.contains('quota')`

          syntax error at character 1 of the expression: mismatched input the end expecting expression
            = write it as in `message != null && message.contains('quota')`
    "#]]
    .assert_eq(&findings(&[
        "status = 'ERROR'",
        "status == 'ERROR' and tenant == 'esa'",
        "tenant.matches('(')",
        "tenant.matches(status)",
        "warnings.exists(w, warnings.exists(v, v == w))",
        "warnings.exists(tenant, true)",
        "tenant.exists(c, c == 'a')",
        "warnings.map(w, tenant) == []",
        "{1: 2} == {}",
        "b'x' == b'x'",
        "Message{a: 1} == null",
        "extra.?a == null",
        "",
    ]));
}

#[test]
fn values_that_can_be_null_are_warned_of_unless_tested_before() {
    expect![[r"
        session.startsWith('test-')
          `session` can be null: the expression fails for such an event
            = write `session != null && …` before it, or `session == null ? … : …` around it
        session != null && session.startsWith('test-')
          fine
        !(session == null) && session.startsWith('test-')
          fine
        session == null || session.startsWith('test-')
          fine
        session != null || session.startsWith('test-')
          `session` can be null: the expression fails for such an event
            = write `session != null && …` before it, or `session == null ? … : …` around it
        session == null ? false : session.startsWith('test-')
          fine
        session == 'x' && session.size() == 1
          fine
        session != 'x' && session.size() == 1
          `session` can be null: the expression fails for such an event
            = write `session != null && …` before it, or `session == null ? … : …` around it
        session == 'x' || session in ['y', null]
          fine
        session < 'x'
          `session` can be null: the expression fails for such an event
            = write `session != null && …` before it, or `session == null ? … : …` around it
        extra.count > 3
          `extra.count` can be null: the expression fails for such an event
            = write `extra.count != null && …` before it, or `extra.count == null ? … : …` around it
        extra.count != null && extra.count > 3
          fine
        has(extra.count) && extra.count > 3
          fine
        'count' in extra && extra['count'] > 3
          fine
        extra.a.b == 1
          `extra.a` can be null: the expression fails for such an event
            = write `extra.a != null && …` before it, or `extra.a == null ? … : …` around it
        has(extra.a) && extra.a.b == 1
          fine
        headers['x-y'] != null && headers['x-y'].startsWith('a')
          fine
        extra.flag
          `extra.flag` can be null: the expression fails for such an event
            = write `extra.flag != null && …` before it, or `extra.flag == null ? … : …` around it
        extra.flag == true
          fine
        properties.priority > 3
          `properties.priority` can be null: the expression fails for such an event
            = write `properties.priority != null && …` before it, or `properties.priority == null ? … : …` around it
        extra.list.exists(x, x.startsWith('a'))
          `extra.list` can be null: the expression fails for such an event
            = write `extra.list != null && …` before it, or `extra.list == null ? … : …` around it
          `x` can be null: the expression fails for such an event
            = write `x != null && …` before it, or `x == null ? … : …` around it
        extra.list != null && extra.list.exists(x, x != null && x.startsWith('a'))
          fine
        message.contains(session) && message.contains(session)
          `message` can be null: the expression fails for such an event
            = write `message != null && …` before it, or `message == null ? … : …` around it
          `session` can be null: the expression fails for such an event
            = write `session != null && …` before it, or `session == null ? … : …` around it
        (session == null ? 'none' : session).size() == 4
          fine
        (session == 'x' ? null : session).size() == 4
          a value can be null: the expression fails for such an event
            = write `… != null && …` before it
        (productId + '-') == 'x'
          `productId` can be null: the expression fails for such an event
            = write `productId != null && …` before it, or `productId == null ? … : …` around it
    "]]
    .assert_eq(&findings(&[
        "session.startsWith('test-')",
        "session != null && session.startsWith('test-')",
        "!(session == null) && session.startsWith('test-')",
        "session == null || session.startsWith('test-')",
        "session != null || session.startsWith('test-')",
        "session == null ? false : session.startsWith('test-')",
        "session == 'x' && session.size() == 1",
        "session != 'x' && session.size() == 1",
        "session == 'x' || session in ['y', null]",
        "session < 'x'",
        "extra.count > 3",
        "extra.count != null && extra.count > 3",
        "has(extra.count) && extra.count > 3",
        "'count' in extra && extra['count'] > 3",
        "extra.a.b == 1",
        "has(extra.a) && extra.a.b == 1",
        "headers['x-y'] != null && headers['x-y'].startsWith('a')",
        "extra.flag",
        "extra.flag == true",
        "properties.priority > 3",
        "extra.list.exists(x, x.startsWith('a'))",
        "extra.list != null && extra.list.exists(x, x != null && x.startsWith('a'))",
        "message.contains(session) && message.contains(session)",
        "(session == null ? 'none' : session).size() == 4",
        "(session == 'x' ? null : session).size() == 4",
        "(productId + '-') == 'x'",
    ]));
}

#[test]
fn a_failed_evaluation_says_why() {
    let failed = |source: &str| holds(source).expect_err(source).to_string();
    let failures: Vec<String> = [
        "session.startsWith('a')",
        "extra.n.startsWith('a')",
        "extra.n",
        "extra.deep.list[7] == 1",
        "extra.deep.n.m == 1",
        "9223372036854775807 + extra.n > 0",
        "extra.n / 0 == 1",
        "int(correlationId) == 1",
        "tenant.substring(9) == ''",
        "extra.n.matches('1')",
    ]
    .into_iter()
    .map(|source| format!("{source}\n  {}\n", failed(source)))
    .collect();
    expect![[r"
        session.startsWith('a')
          found no matching overload for 'startsWith' applied to 'null_type.(string)'
        extra.n.startsWith('a')
          found no matching overload for 'startsWith' applied to 'int.(string)'
        extra.n
          the result is int, not true or false
        extra.deep.list[7] == 1
          Index out of bounds: Int(7)
        extra.deep.n.m == 1
          found no matching overload for '_._' applied to '(null_type, string)'
        9223372036854775807 + extra.n > 0
          Overflow from binary operator 'add': Int(9223372036854775807), Int(12)
        extra.n / 0 == 1
          Division by zero of Int(12)
        int(correlationId) == 1
          Error executing function 'int': string parse error: invalid digit found in string
        tenant.substring(9) == ''
          Error executing function 'substring': index out of range: 9
        extra.n.matches('1')
          found no matching overload for '@in' applied to '(int, pattern)'
    "]]
    .assert_eq(&failures.concat());
}

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
    fn what_is_checked_without_a_word_never_fails(source in any_condition()) {
        let Ok(checked) = Expression::condition(&source) else { return Ok(()) };
        prop_assume!(checked.warnings.is_empty());
        let bare = r#"{"correlationId":"c","responseStatus":"GRANTED"}"#;
        let rich = with_event(|view| checked.expression.is_true(view));
        let bare = with_body(bare, |view| checked.expression.is_true(view));
        prop_assert!(rich.is_ok() && bare.is_ok(), "{}: {:?}, {:?}", source, rich, bare);
    }

    #[test]
    fn no_text_makes_it_panic(source in "(tenant|extra|[a-z]|[ .,?:'\"\\[\\](){}<>=!&|+*/%0-9@\\\\-]|in|has|all|map|null|true){0,24}") {
        if let Ok(checked) = Expression::condition(&source) {
            let _ = with_event(|view| checked.expression.is_true(view));
        }
    }
}

#[test]
fn comparisons_with_literal_texts_are_listed() {
    let compared = compile("status == 'SUCCES' || tenant in ['a', 'b'] && !('x' != outcome)").comparisons;
    let compared: Vec<_> = compared.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(compared, [("status", "SUCCES"), ("tenant", "a"), ("tenant", "b"), ("outcome", "x")]);
}

/// Numbers that no double holds, and half a surrogate pair.
const EXACT: &str = r#"{"correlationId":"c","responseStatus":"ERROR","o":{"bad":"\ud800","big":123456789012345678901234567890,
    "long":0.1234567890123456789,"negative":-1e999,"list":[98765432109876543210, 1.10],"n":3}}"#;

#[test]
fn surrogate_halves_keep_their_neighbours_and_numbers_their_digits() {
    use crate::event::fixtures::with_body;

    for condition in [
        "extra.o.n == 3 && extra.o.bad != null",
        "extra.o.big > 5 && 5 < extra.o.big && !(extra.o.big < 5.0) && extra.o.big == extra.o.big",
        "extra.o.long > 0.123 && 0.124 > extra.o.long && extra.o.long != 0.12345678901234568",
        "extra.o.negative < 0 && extra.o.negative == '-1e999'",
        "extra.o.long * 2.0 > 0.2 && extra.o.big + extra.o.big > 5.0",
        "extra.o.list[0] == 98765432109876543210.0 || extra.o.list[0] > 9223372036854775807",
    ] {
        let checked = Expression::condition(condition).unwrap_or_else(|errors| panic!("{condition}: {errors:?}"));
        assert_eq!(with_body(EXACT, |view| checked.expression.is_true(view)), Ok(true), "{condition}");
    }
    let json = |source: &str| {
        let checked = Expression::computed(source).unwrap_or_else(|errors| panic!("{source}: {errors:?}"));
        with_body(EXACT, |view| checked.expression.json(view).map(|json| json.get().to_owned()))
            .map_err(|error| error.0)
    };
    let object = r#"{"bad":"\u{fffd}","big":123456789012345678901234567890,"list":[98765432109876543210,1.1],"long":0.1234567890123456789,"n":3,"negative":-1e999}"#;
    assert_eq!(json("extra.o"), Ok(object.replace("\\u{fffd}", "\u{fffd}")));
    assert_eq!(
        json("{'b': [extra.o.big], 'a': -extra.o.long}").as_deref(),
        Ok(r#"{"a":-0.1234567890123456789,"b":[123456789012345678901234567890]}"#)
    );
    assert_eq!(json("double(extra.o.long)").as_deref(), Ok("0.12345678901234568"));
    assert_eq!(json("double(extra.o.long) + 2.0 > 2.1 && 2.0 * double(extra.o.big) > 1.0").as_deref(), Ok("true"));
    assert_eq!(json("int(extra.o.long)").as_deref(), Ok("0"));
    assert!(json("int(extra.o.big)").is_err());
    assert_eq!(json("string(extra.o.n)").as_deref(), Ok("\"3\""));
}
