//! Transforms: changes to what the format and the templates of a sink see of an event.
//!
//! Nothing else changes: the id, our headers, lanes and metrics are the untransformed event's, and that is also what the
//! expressions of `set` see.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::expression::Expression;
use super::parsed::{Parsed, parse};
use super::vocabulary::{Fields, Holds, Scope, Shape, Vocabulary};

/// The steps of one route's transform, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transform(Vec<Step>);

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// That field has that value.
    Set(String, Set),
    /// There is no such field.
    Remove(String),
    /// The one field has the name of the other.
    Rename(String, String),
}

/// What a field is set to.
#[derive(Debug, Clone, PartialEq)]
pub enum Set {
    /// That JSON, whose numbers have all the digits that were written.
    Literal(String),
    /// What the expression gives for the event.
    Computed(Expression),
}

/// Why a step can't be meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misnamed {
    /// There is no such field at that step.
    Missing,
    /// There is one of the new name already.
    Taken,
}

/// An event that can't be transformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TransformError(String);

/// A transformed event: its fields in their order, as JSON.
#[derive(Debug, Default)]
pub struct Transformed(Vec<(String, Box<RawValue>)>);

impl Transform {
    /// These steps, and the fields that they leave; an error tells all steps that can't be meant, by their places.
    pub fn new(steps: Vec<Step>) -> Result<(Self, Fields), Vec<(usize, Misnamed)>> {
        let mut fields = fields_of_events();
        let changed = steps.iter().enumerate().map(|(place, step)| (place, step.change(&mut fields)));
        let misnamed: Vec<_> = changed.filter_map(|(place, change)| Some((place, change.err()?))).collect();
        if misnamed.is_empty() { Ok((Self(steps), fields)) } else { Err(misnamed) }
    }

    /// What formats and templates see of that event. Pure.
    pub fn apply(&self, scope: Scope<'_>) -> Result<Transformed, TransformError> {
        let failed = |error: &dyn fmt::Display| TransformError(error.to_string());
        let json = serde_json::to_string(scope.event).map_err(|error| failed(&error))?;
        let mut fields = serde_json::from_str::<Transformed>(&json).map_err(|error| failed(&error))?.0;
        for step in &self.0 {
            match step {
                Step::Set(name, set) => {
                    let failed = |error: &dyn fmt::Display| TransformError(format!("`set` of {name}: {error}"));
                    let value = match set {
                        Set::Literal(json) => RawValue::from_string(json.clone()),
                        Set::Computed(expression) => Ok(expression.json(scope).map_err(|error| failed(&error))?),
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
        Ok(Transformed(fields))
    }
}

impl Step {
    /// What becomes of the fields by it.
    fn change(&self, fields: &mut Fields) -> Result<(), Misnamed> {
        match self {
            Self::Set(name, set) => {
                fields.insert(name.clone(), set.shape());
            }
            Self::Remove(name) => {
                fields.remove(name).ok_or(Misnamed::Missing)?;
            }
            Self::Rename(from, to) => {
                let shape = fields.remove(from).ok_or(Misnamed::Missing)?;
                if fields.insert(to.clone(), shape).is_some() {
                    return Err(Misnamed::Taken);
                }
            }
        }
        Ok(())
    }
}

impl Set {
    fn shape(&self) -> Shape {
        match self {
            Self::Literal(json) => match parse(json) {
                Parsed::Text(_) => Shape { holds: Holds::Text, nullable: false },
                Parsed::List(_) => Shape { holds: Holds::List, nullable: false },
                value => Shape { holds: Holds::Anything, nullable: value == Parsed::Null },
            },
            Self::Computed(expression) => expression.shape(),
        }
    }
}

/// The fields of an event that nothing transforms.
#[must_use]
pub fn fields_of_events() -> Fields {
    let event = Vocabulary::Event;
    let fields = event.names().into_iter().filter(|name| !["headers", "properties"].contains(name));
    fields.filter_map(|name| Some((name.to_owned(), event.shape(name)?))).collect()
}

/// The fields of events that come by ways which leave one or another of these.
#[must_use]
pub fn fields_of_any(ways: &[Fields]) -> Fields {
    let mut all = Fields::new();
    for (name, shape) in ways.iter().flatten() {
        let everywhere = ways.iter().all(|way| way.contains_key(name));
        let known = all.entry(name.clone()).or_insert(Shape { nullable: shape.nullable || !everywhere, ..*shape });
        known.nullable |= shape.nullable;
        if known.holds != shape.holds {
            known.holds = Holds::Anything;
        }
    }
    all
}

impl Transformed {
    /// The JSON of that field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.get())
    }

    /// That field as text; none is null.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let json = self.field(name)?;
        serde_json::from_str::<Option<String>>(json).map_or(Some(json.into()), |text| text.map(Cow::Owned))
    }
}

impl Serialize for Transformed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut event = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            event.serialize_entry(name, value)?;
        }
        event.end()
    }
}

impl<'de> Deserialize<'de> for Transformed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Transformed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Transformed, A::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(16));
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Transformed(fields))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event::fixtures::{with_body, with_event};
    use crate::event::{Carrier, Format, Template};

    fn set(name: &str, value: &Value) -> Step {
        Step::Set(name.to_owned(), Set::Literal(value.to_string()))
    }

    fn computed(name: &str, source: &str) -> Step {
        let checked = Expression::computed(source).unwrap_or_else(|errors| panic!("{source}: {errors:?}"));
        Step::Set(name.to_owned(), Set::Computed(checked.expression))
    }

    fn remove(name: &str) -> Step {
        Step::Remove(name.to_owned())
    }

    fn rename(from: &str, to: &str) -> Step {
        Step::Rename(from.to_owned(), to.to_owned())
    }

    fn made(steps: Vec<Step>) -> String {
        let (transform, _) = Transform::new(steps).expect("steps that can be meant");
        with_event(|scope| {
            let transformed = transform.apply(scope).expect("an event that can be transformed");
            let scope = Scope { transformed: Some(&transformed), ..scope };
            let body = Format::Normalized.encode(scope, Carrier::Kafka).expect("it can be written").body;
            String::from_utf8(body.to_vec()).expect("UTF-8")
        })
    }

    #[test]
    fn without_steps_it_is_the_event() {
        let plain = with_event(|scope| Format::Normalized.encode(scope, Carrier::Kafka).expect("JSON").body);
        assert_eq!(made(Vec::new()).as_bytes(), &*plain);
    }

    #[test]
    fn steps_are_taken_in_their_order_and_fields_keep_theirs() {
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
    fn what_is_not_touched_stays_as_it_was_written() {
        assert!(made(vec![remove("session")]).contains(r#""huge":1e999"#));
    }

    #[test]
    fn expressions_give_every_type_that_json_has() {
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
            with_event(|scope| transform.apply(scope)).expect_err("it can't be computed").to_string()
        };
        assert_eq!(fails("1.0 / 0.0"), "`set` of x: inf is no number in JSON");
        assert!(fails("session.trim()").starts_with("`set` of x: found no matching overload"));
    }

    #[test]
    fn what_a_field_is_set_to_is_bounded() {
        let body = format!(r#"{{"correlationId":"c","responseStatus":"ERROR","text":"{}"}}"#, "x".repeat(60_000));
        let length = |times: usize| {
            let source = vec!["string(extra.text)"; times].join(" + ");
            let (transform, _) = Transform::new(vec![computed("x", &source)]).expect("steps");
            let transformed = with_body(&body, |scope| transform.apply(scope)).map_err(|error| error.to_string())?;
            Ok(transformed.field("x").map(str::len))
        };
        assert_eq!(length(17), Ok(Some(17 * 60_000 + 2)));
        assert_eq!(length(18), Err("`set` of x: it gives more than 1048576 bytes".to_owned()));
    }

    #[test]
    fn what_steps_leave_is_known_before_there_is_an_event() {
        let wrong = |steps: Vec<Step>| Transform::new(steps).expect_err("it can't be meant");
        assert_eq!(wrong(vec![set("x", &json!(1)), remove("y")]), [(1, Misnamed::Missing)]);
        assert_eq!(
            wrong(vec![remove("session"), rename("session", "x"), remove("y")]),
            [(1, Misnamed::Missing), (2, Misnamed::Missing)]
        );
        assert_eq!(wrong(vec![rename("session", "message")]), [(0, Misnamed::Taken)]);
        assert_eq!(wrong(vec![remove("headers")]), [(0, Misnamed::Missing)], "it is no field");

        let fields = |steps| Transform::new(steps).expect("steps").1;
        let one = fields(vec![remove("session"), set("team", &json!("storage")), computed("n", "extra.n")]);
        let other = fields(vec![set("team", &json!(7)), set("session", &json!("none"))]);
        let all = fields_of_any(&[one, other]);
        let shape = |name: &str| all.get(name).map(|shape| (shape.holds, shape.nullable));
        assert_eq!(shape("session"), Some((Holds::Text, true)), "one removes it");
        assert_eq!(shape("team"), Some((Holds::Anything, false)));
        assert_eq!(shape("n"), Some((Holds::Anything, true)));
        assert_eq!(shape("status"), Some((Holds::Text, false)));
        assert_eq!(shape("headers"), None);
    }

    #[test]
    fn templates_see_what_is_left_and_no_other_names() {
        let (transform, fields) = Transform::new(vec![
            set("team", &json!("storage")),
            set("count", &json!(3)),
            set("labels", &json!({"site": "T"})),
            remove("session"),
            rename("productId", "granuleId"),
        ])
        .expect("steps");
        let vocabulary = Vocabulary::Transformed(fields.into());
        let compile = |source: &str| Template::compile_for(source, vocabulary.clone());
        let render = |source: &str| {
            with_event(|scope| {
                let transformed = transform.apply(scope).expect("an event");
                let template = compile(source).unwrap_or_else(|error| panic!("{source}: {error}"));
                template.render_address(Scope { transformed: Some(&transformed), ..scope })
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
