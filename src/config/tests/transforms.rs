//! `transform:` of routes.

use expect_test::expect;
use serde_json::json;

use super::{check_errors, check_warnings, routes, valid};
use crate::event::{FieldValue, Step, Transform};

/// A file whose sink `a` has this body, with these routes.
fn with_body(body: &str, routes: &str) -> String {
    super::routes(routes).replace("a: { stdout: {} }", &format!("a: {{ stdout: {{}}, body: {body} }}"))
}

#[test]
fn a_wrong_step_is_an_error() {
    check_errors(
        &routes(
            "- name: one
  to: [a, b]
  transform: [{ remove: sesion }, { set: { \"granule-id\": 1, headers: {} } }]
- name: two
  when: { tenant: esa }
  to: []
  transform: [{ rename: { session: message } }, { rename: { status: 1st } }]
- name: three
  when: { tenant: cnes }
  to: []
  transform: [{ remove: [session], set: { x: 1 } }, {}]
- name: four
  when: { tenant: dlr }
  to: []
  transform: [{ set: { subject: { cel: \"tennant + '/' + status\" } } }]
- name: five
  when: { tenant: jaxa }
  to: []
  transform: { remove: session }
- name: six
  when: { tenant: nasa }
  to: []
  transform: [{ rename: { session: run } }, { remove: session }]",
        ),
        expect![[r#"
            error[unknown-field]: there is no field `sesion`
             --> routes.yaml:7:29
              |
            7 |       transform: [{ remove: sesion }, { set: { "granule-id": 1, headers: {} } }]
              |                             ^^^^^^ did you mean `session`?
              |
              = help: write `session`

            error[illegal-name]: `granule-id` can't be the name of a field
             --> routes.yaml:7:48
              |
            7 |       transform: [{ remove: sesion }, { set: { "granule-id": 1, headers: {} } }]
              |                                                ^^^^^^^^^^^^
              |
              = help: write 1 to 100 letters, digits and `_`, no digit first; `headers` and `properties` are taken

            error[illegal-name]: `headers` can't be the name of a field
             --> routes.yaml:7:65
              |
            7 |       transform: [{ remove: sesion }, { set: { "granule-id": 1, headers: {} } }]
              |                                                                 ^^^^^^^
              |
              = help: write 1 to 100 letters, digits and `_`, no digit first; `headers` and `properties` are taken

            error[field-twice]: there is a field `message` already
              --> routes.yaml:11:31
               |
            11 |       transform: [{ rename: { session: message } }, { rename: { status: 1st } }]
               |                               ^^^^^^^
               |
               = help: remove that field in an earlier step, or choose another name

            error[illegal-name]: `1st` can't be the name of a field
              --> routes.yaml:11:73
               |
            11 |       transform: [{ rename: { session: message } }, { rename: { status: 1st } }]
               |                                                                         ^^^
               |
               = help: write 1 to 100 letters, digits and `_`, no digit first; `headers` and `properties` are taken

            error[transform-step]: a step makes one change
              --> routes.yaml:15:19
               |
            15 |       transform: [{ remove: [session], set: { x: 1 } }, {}]
               |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
               |
               = help: write a list of `{ set: … }`, `{ remove: … }` and `{ rename: … }`: they are applied in that order

            error[transform-step]: this step changes nothing
              --> routes.yaml:15:57
               |
            15 |       transform: [{ remove: [session], set: { x: 1 } }, {}]
               |                                                         ^^
               |
               = help: write a list of `{ set: … }`, `{ remove: … }` and `{ rename: … }`: they are applied in that order

            error[expression]: there is no `tennant`
              --> routes.yaml:19:45
               |
            19 |       transform: [{ set: { subject: { cel: "tennant + '/' + status" } } }]
               |                                             ^^^^^^^
               |
               = help: did you mean tenant?

            error[wrong-type]: expected a list, found a mapping of keys to values
              --> routes.yaml:23:18
               |
            23 |       transform: { remove: session }
               |                  ^^^^^^^^^^^^^^^^^^^
               |
               = help: write it as in `transform: [{ set: { team: storage } }, { remove: session }]`

            error[unknown-field]: there is no field `session` any more at this step
              --> routes.yaml:27:59
               |
            27 |       transform: [{ rename: { session: run } }, { remove: session }]
               |                                                           ^^^^^^^
               |
               = help: an earlier step of this route removed or renamed it

        "#]],
    );
}

#[test]
fn a_computed_value_that_can_fail_is_a_warning() {
    check_warnings(
        &routes("- { name: one, to: [a, b], transform: [{ set: { subject: { cel: session + status } } }] }"),
        expect![[r#"
            warning[nullable-operand]: `session` can be null: the expression fails for such an event
             --> routes.yaml:5:69
              |
            5 |     - { name: one, to: [a, b], transform: [{ set: { subject: { cel: session + status } } }] }
              |                                                                     ^^^^^^^
              |
              = help: write `session != null && …` before it, or `session == null ? … : …` around it

        "#]],
    );
}

#[test]
fn templates_use_only_the_fields_that_the_transforms_leave() {
    check_errors(
        &with_body(
            "'{{ team }} {{ session }} {{ productId }}'",
            "- { name: all, to: [a, b], transform: [{ remove: session }] }",
        ),
        expect![[r#"
            error[template]: this is not a template: there is no session; there are correlationId, expires, extra, headers, id, message, outcome, productId, properties, source, status, tenant, time, type, warnings
             --> routes.yaml:3:33
              |
            3 | sinks: { a: { stdout: {}, body: '{{ team }} {{ session }} {{ productId }}' }, b: { stdout: {} } }
              |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

        "#]],
    );
    valid(&with_body(
        "'{{ team }} {{ session }} {{ granuleId }} {{ productId }}'",
        "- { name: one, to: [a, b], when: { tenant: esa }, transform: [{ remove: session }, { set: { team: x } }] }
- { name: two, to: a, when: { tenant: cnes }, transform: [{ rename: { productId: granuleId } }] }",
    ));
    let path =
        |routes: &str| super::routes(routes).replace("a: { stdout: {} }", "a: { file: { path: \"{{ team }}\" } }");
    check_warnings(
        &path(
            "- { name: one, to: [a, b], when: { tenant: esa }, transform: [{ set: { team: x } }] }
- { name: two, to: a, when: { tenant: cnes } }",
        ),
        expect![[r#"
            warning[nullable-address]: `team` can be null: such an event has no address here
             --> routes.yaml:3:33
              |
            3 | sinks: { a: { file: { path: "{{ team }}" } }, b: { stdout: {} } }
              |                                 ^^^^
              |
              = help: it becomes a dead letter, `render_failed`; give it a default: `{{ team | default('none') }}`

        "#]],
    );
}

#[test]
fn every_kind_of_step_is_decoded() {
    let config = valid(&routes(
        "- name: one
  to: a
  transform:
    - set: { text: storage, whole: 12, less: -1, real: 1.5, yes: true, quoted: \"true\", nothing: null, list: [a, { b: 1 }] }
    - set: { cel: { cel: tenant }, map: { cel: x, other: 1 } }
    - remove: [session, extra]
    - rename: { productId: granuleId }
- { name: two, to: b }",
    ));
    let FieldValue::Computed(tenant) =
        FieldValue::Computed(crate::event::Expression::computed("tenant").unwrap().expression)
    else {
        panic!()
    };
    let set = |name: &str, value: serde_json::Value| Step::Set(name.to_owned(), FieldValue::Literal(value.to_string()));
    let steps = vec![
        set("text", json!("storage")),
        set("whole", json!(12)),
        set("less", json!(-1)),
        set("real", json!(1.5)),
        set("yes", json!(true)),
        set("quoted", json!("true")),
        set("nothing", json!(null)),
        set("list", json!(["a", { "b": 1 }])),
        Step::Set("cel".to_owned(), FieldValue::Computed(tenant)),
        set("map", json!({ "cel": "x", "other": 1 })),
        Step::Remove("session".to_owned()),
        Step::Remove("extra".to_owned()),
        Step::Rename("productId".to_owned(), "granuleId".to_owned()),
    ];
    let (transform, _) = Transform::new(steps).unwrap();
    let [one, two] = config.rules.routes() else { panic!() };
    assert_eq!((one.transform.as_ref(), &two.transform), (Some(&transform), &None));
}

#[test]
fn numbers_in_set_keep_their_digits() {
    let config = valid(&routes(
        "- name: one
  to: [a, b]
  transform: [{ set: { big: 123456789012345678901234567890, long: -0.1234567890123456789, huge: +1e999, short: 1.10, deep: [{ b: 18446744073709551616, a: .5 }] } }]",
    ));
    let set = |name: &str, json: &str| Step::Set(name.to_owned(), FieldValue::Literal(json.to_owned()));
    let steps = vec![
        set("big", "123456789012345678901234567890"),
        set("long", "-0.1234567890123456789"),
        set("huge", "1e999"),
        set("short", "1.1"),
        set("deep", r#"[{"a":0.5,"b":18446744073709551616}]"#),
    ];
    assert_eq!(config.rules.routes()[0].transform, Some(Transform::new(steps).unwrap().0));
}
