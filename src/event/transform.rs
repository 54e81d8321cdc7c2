//! Transforms: changes to the fields that the format and the templates of a sink see.
//!
//! Nothing else changes: the id, the relay's headers, lanes and metrics come from the untransformed event. The expressions
//! of `set` see the untransformed event too.

use std::fmt;

use serde_json::value::RawValue;

use super::expression::Expression;
use super::json::ObjectMembers;
use super::json_value::{JsonValue, parse};
use super::schema::{EventSchema, FieldKind, FieldType, Fields};
use super::{EventView, TransformedEvent};

/// The transform of one route.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transform(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Adds the field, or replaces its value.
    Set(String, FieldValue),
    Remove(String),
    /// From the first name to the second.
    Rename(String, String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// JSON, whose numbers keep all their digits.
    Literal(String),
    Computed(Expression),
}

/// Why a step can never work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepError {
    /// The event has no such field at this step.
    NoSuchField,
    /// The event already has a field of the new name.
    NameTaken,
}

/// The event can't be transformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TransformError(String);

impl Transform {
    /// The transform and the fields that it leaves, or the index of each wrong step and what is wrong with it.
    pub fn new(steps: Vec<Step>) -> Result<(Self, Fields), Vec<(usize, StepError)>> {
        let mut fields = event_fields();
        let results = steps.iter().enumerate().map(|(index, step)| (index, step.apply_to_fields(&mut fields)));
        let errors: Vec<_> = results.filter_map(|(index, result)| Some((index, result.err()?))).collect();
        if errors.is_empty() { Ok((Self(steps), fields)) } else { Err(errors) }
    }

    /// The fields that it leaves.
    #[must_use]
    pub fn fields(&self) -> Fields {
        let mut fields = event_fields();
        for step in &self.0 {
            // A transform has no wrong steps.
            let _ = step.apply_to_fields(&mut fields);
        }
        fields
    }

    pub fn apply(&self, view: EventView<'_>) -> Result<TransformedEvent, TransformError> {
        let failed = |error: &dyn fmt::Display| TransformError(error.to_string());
        let json = serde_json::to_string(view.event).map_err(|error| failed(&error))?;
        let ObjectMembers(members) = serde_json::from_str(&json).map_err(|error| failed(&error))?;
        let mut fields: Vec<(String, Box<RawValue>)> =
            members.into_iter().map(|(name, value)| (name.into_owned(), value.to_owned())).collect();
        for step in &self.0 {
            match step {
                Step::Set(name, set) => {
                    let failed = |error: &dyn fmt::Display| TransformError(format!("`set` of {name}: {error}"));
                    let value = match set {
                        FieldValue::Literal(json) => RawValue::from_string(json.clone()),
                        FieldValue::Computed(expression) => {
                            Ok(expression.json(view).map_err(|error| failed(&error))?)
                        }
                    };
                    let value = value.map_err(|error| failed(&error))?;
                    match fields.iter_mut().find(|(known, _)| known == name) {
                        Some((_, old)) => *old = value,
                        None => fields.push((name.clone(), value)),
                    }
                }
                Step::Remove(name) => fields.retain(|(known, _)| known != name),
                Step::Rename(from, to) => {
                    if let Some((name, _)) = fields.iter_mut().find(|(known, _)| known == from) {
                        name.clone_from(to);
                    }
                }
            }
        }
        Ok(TransformedEvent(fields))
    }
}

impl Step {
    fn apply_to_fields(&self, fields: &mut Fields) -> Result<(), StepError> {
        match self {
            Self::Set(name, set) => {
                fields.insert(name.clone(), set.field_type());
            }
            Self::Remove(name) => {
                fields.remove(name).ok_or(StepError::NoSuchField)?;
            }
            Self::Rename(from, to) => {
                let field_type = fields.remove(from).ok_or(StepError::NoSuchField)?;
                if fields.insert(to.clone(), field_type).is_some() {
                    return Err(StepError::NameTaken);
                }
            }
        }
        Ok(())
    }
}

impl FieldValue {
    fn field_type(&self) -> FieldType {
        match self {
            Self::Literal(json) => match parse(json) {
                JsonValue::Text(_) => FieldType { kind: FieldKind::Text, nullable: false },
                JsonValue::List(_) => FieldType { kind: FieldKind::List, nullable: false },
                value => FieldType { kind: FieldKind::Any, nullable: value == JsonValue::Null },
            },
            Self::Computed(expression) => expression.field_type(),
        }
    }
}

/// The fields of an untransformed event.
#[must_use]
pub fn event_fields() -> Fields {
    fields_of(&EventSchema::Event)
}

/// The fields of an event that is not transformed, or of an alert.
#[must_use]
pub fn alert_fields() -> Fields {
    fields_of(&EventSchema::EventOrAlert)
}

fn fields_of(event: &EventSchema) -> Fields {
    let fields = event.names().into_iter().filter(|name| !["headers", "properties"].contains(name));
    fields.filter_map(|name| Some((name.to_owned(), event.field_type(name)?))).collect()
}

/// The fields that an event can have after one of several transforms.
#[must_use]
pub fn merge_fields(ways: &[Fields]) -> Fields {
    let mut all = Fields::new();
    for (name, shape) in ways.iter().flatten() {
        let everywhere = ways.iter().all(|way| way.contains_key(name));
        let known = all.entry(name.clone()).or_insert(FieldType { nullable: shape.nullable || !everywhere, ..*shape });
        known.nullable |= shape.nullable;
        if known.kind != shape.kind {
            known.kind = FieldKind::Any;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event::fixtures::{with_body, with_event};
    use crate::event::{Carrier, Format, Template};

    fn set(name: &str, value: &Value) -> Step {
        Step::Set(name.to_owned(), FieldValue::Literal(value.to_string()))
    }

    fn computed(name: &str, source: &str) -> Step {
        let checked = Expression::computed(source).unwrap_or_else(|errors| panic!("{source}: {errors:?}"));
        Step::Set(name.to_owned(), FieldValue::Computed(checked.expression))
    }

    fn remove(name: &str) -> Step {
        Step::Remove(name.to_owned())
    }

    fn rename(from: &str, to: &str) -> Step {
        Step::Rename(from.to_owned(), to.to_owned())
    }

    fn made(steps: Vec<Step>) -> String {
        let (transform, _) = Transform::new(steps).expect("valid steps");
        with_event(|view| {
            let transformed = transform.apply(view).expect("an event that can be transformed");
            let view = EventView { transformed: Some(&transformed), ..view };
            let body = Format::Normalized.encode(view, Carrier::Kafka).expect("it can be written").body;
            String::from_utf8(body.to_vec()).expect("UTF-8")
        })
    }

    #[test]
    fn a_transform_without_steps_changes_nothing() {
        let plain = with_event(|view| Format::Normalized.encode(view, Carrier::Kafka).expect("JSON").body);
        assert_eq!(made(Vec::new()).as_bytes(), &*plain);
    }

    #[test]
    fn steps_are_applied_in_order_and_fields_keep_their_order() {
        let json = made(vec![
            rename("productId", "granuleId"),
            set("granuleId", &json!("none")),
            remove("message"),
            rename("session", "message"),
            set("tenant", &json!({"b": 1, "a": [null, 1.5]})),
            computed("subject", "tenant + '/' + status"),
            remove("extra"),
        ]);
        let names: Vec<&str> = json.split('"').filter(|part| json.contains(&format!("\"{part}\":"))).collect();
        let expected = [
            "id",
            "type",
            "source",
            "tenant",
            "a",
            "b",
            "status",
            "outcome",
            "correlationId",
            "granuleId",
            "message",
            "expires",
            "time",
            "warnings",
            "subject",
        ];
        assert_eq!(names, expected);
        let event: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(event["granuleId"], "none");
        assert_eq!(event["message"], Value::Null, "the session");
        assert_eq!(event["tenant"], json!({"b": 1, "a": [null, 1.5]}));
        assert_eq!(event["subject"], "cnes-a/ERROR", "expressions see the untransformed event");
    }

    #[test]
    fn untouched_fields_keep_their_json() {
        assert!(made(vec![remove("session")]).contains(r#""huge":1e999"#));
    }

    #[test]
    fn expressions_can_have_every_json_type() {
        let json = made(vec![
            computed("all", "[null, true, 1, 18446744073709551615u, 1.5, 'a', [tenant], {'b': {'a': extra.n}}]"),
            computed("deep", "extra.deep"),
            computed("list", "headers.list"),
            computed("names", "headers.map(name, name.upperAscii())"),
        ]);
        let event: Value = serde_json::from_str(&json.replace("1e999", "0")).expect("JSON");
        let all = json!([null, true, 1, u64::MAX, 1.5, "a", ["cnes-a"], {"b": {"a": 12}}]);
        assert_eq!(event["all"], all);
        assert_eq!(event["deep"], event["extra"]["deep"]);
        assert_eq!(event["list"], json!([true, null]));
        assert_eq!(event["names"][0], "BLOB");
        let fails = |source: &str| {
            let (transform, _) = Transform::new(vec![computed("x", source)]).expect("steps");
            with_event(|view| transform.apply(view)).expect_err("it can't be computed").to_string()
        };
        assert_eq!(fails("1.0 / 0.0"), "`set` of x: inf is not a JSON number");
        assert!(fails("session.trim()").starts_with("`set` of x: found no matching overload"));
    }

    #[test]
    fn the_size_of_a_computed_value_is_bounded() {
        let body = format!(r#"{{"correlationId":"c","responseStatus":"ERROR","text":"{}"}}"#, "x".repeat(60_000));
        let length = |times: usize| {
            let source = vec!["string(extra.text)"; times].join(" + ");
            let (transform, _) = Transform::new(vec![computed("x", &source)]).expect("steps");
            let transformed = with_body(&body, |view| transform.apply(view)).map_err(|error| error.to_string())?;
            Ok(transformed.field("x").map(str::len))
        };
        assert_eq!(length(17), Ok(Some(17 * 60_000 + 2)));
        assert_eq!(length(18), Err("`set` of x: the result has more than 1048576 bytes".to_owned()));
    }

    #[test]
    fn the_remaining_fields_are_known_before_there_is_an_event() {
        let wrong = |steps: Vec<Step>| Transform::new(steps).expect_err("an invalid transform");
        assert_eq!(wrong(vec![set("x", &json!(1)), remove("y")]), [(1, StepError::NoSuchField)]);
        assert_eq!(
            wrong(vec![remove("session"), rename("session", "x"), remove("y")]),
            [(1, StepError::NoSuchField), (2, StepError::NoSuchField)]
        );
        assert_eq!(wrong(vec![rename("session", "message")]), [(0, StepError::NameTaken)]);
        assert_eq!(wrong(vec![remove("headers")]), [(0, StepError::NoSuchField)], "`headers` is not a field");

        let fields = |steps| Transform::new(steps).expect("steps").1;
        let one = fields(vec![remove("session"), set("team", &json!("storage")), computed("n", "extra.n")]);
        let other = fields(vec![set("team", &json!(7)), set("session", &json!("none"))]);
        let all = merge_fields(&[one, other]);
        let shape = |name: &str| all.get(name).map(|shape| (shape.kind, shape.nullable));
        assert_eq!(shape("session"), Some((FieldKind::Text, true)), "one transform removes it");
        assert_eq!(shape("team"), Some((FieldKind::Any, false)));
        assert_eq!(shape("n"), Some((FieldKind::Any, true)));
        assert_eq!(shape("status"), Some((FieldKind::Text, false)));
        assert_eq!(shape("headers"), None);
    }

    #[test]
    fn templates_see_only_the_remaining_fields() {
        let (transform, fields) = Transform::new(vec![
            set("team", &json!("storage")),
            set("count", &json!(3)),
            set("labels", &json!({"site": "T"})),
            remove("session"),
            rename("productId", "granuleId"),
        ])
        .expect("steps");
        let schema = EventSchema::Transformed(fields.into());
        let compile = |source: &str| Template::compile_for(source, schema.clone());
        let render = |source: &str| {
            with_event(|view| {
                let transformed = transform.apply(view).expect("an event");
                let template = compile(source).unwrap_or_else(|error| panic!("{source}: {error}"));
                template.render_address(EventView { transformed: Some(&transformed), ..view })
            })
        };
        for (source, expected) in [
            ("{{ team }}.{{ tenant }}.{{ count + 1 }}", "storage.cnes-a.4"),
            ("{{ labels.site }}{{ labels.none | default('-') }}", "T-"),
            ("{{ granuleId | lower }}/{{ headers['regards.tenant'] }}", "p \"1\"/cnes-a"),
            ("{{ extra.n }}{{ properties.priority }}", "121"),
        ] {
            assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
        }
        assert!(render("{{ labels.none }}").is_err_and(|error| error.to_string().contains("is null")));
        for (source, error) in [
            ("{{ session }}", "there is no session"),
            ("{{ productId }}", "there is no productId"),
            ("{{ team.x }}", "team is text and has no member x"),
        ] {
            let found = compile(source).expect_err(source).to_string();
            assert!(found.starts_with(error), "{found}");
        }
        assert_eq!(
            compile("{{ team }}{{ granuleId }}{{ labels.x }}").expect("a template").nullable(),
            ["granuleId", "labels.x"]
        );
    }
}
