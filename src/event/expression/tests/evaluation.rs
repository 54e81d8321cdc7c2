//! Results of expressions, and failures of their evaluation.

use expect_test::expect;

use super::*;
use crate::event::expression::types::{FUNCTIONS, METHODS};
use crate::event::fixtures::with_body;

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

/// Numbers that no double holds, and half a surrogate pair.
const EXACT: &str = r#"{"correlationId":"c","responseStatus":"ERROR","o":{"bad":"\ud800","big":123456789012345678901234567890,
    "long":0.1234567890123456789,"negative":-1e999,"list":[98765432109876543210, 1.10],"n":3}}"#;

#[test]
fn unpaired_surrogates_leave_other_members_readable_and_numbers_keep_their_digits() {
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
