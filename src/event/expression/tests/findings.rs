//! Errors and warnings that compiling finds.

use expect_test::expect;

use super::*;

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
