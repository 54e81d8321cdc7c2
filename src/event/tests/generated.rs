//! Properties of decoding, checked with generated bodies.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn no_body_makes_decoding_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::decode(&message(body), &lta());
    }

    #[test]
    fn no_json_like_body_makes_decoding_panic(body in "[{}\\[\\],:\"\\\\ntu0-9a-e \\n]{0,60}") {
        let _ = Event::decode(&message(body), &lta());
    }

    /// Trailing commas change nothing but the id, which is a hash of the bytes.
    #[test]
    fn trailing_commas_change_no_value(value in json_value(), text in any::<String>()) {
        let body = serde_json::json!({"correlationId": "c", "responseStatus": "ERROR", "message": text, "x": value});
        let strict = body.to_string();
        let mut relaxed = String::new();
        write_with_trailing_commas(&body, &mut relaxed);
        let (mut event, mut same) = (decode(strict), decode(relaxed));
        event.id = Uuid::nil();
        same.id = Uuid::nil();
        prop_assert_eq!(json(&event), json(&same));
    }

    /// Decoding is a pure function, and an event is one line of JSON.
    #[test]
    fn the_same_message_gives_the_same_line(value in json_value(), text in any::<String>()) {
        let body = serde_json::json!({"correlationId": "c", "responseStatus": "ERROR", "message": text, "x": value});
        let body = serde_json::to_string_pretty(&body).expect("JSON");
        let line = serde_json::to_string(&decode(body.clone())).expect("JSON");
        prop_assert!(!line.contains(['\n', '\r']));
        prop_assert_eq!(&line, &serde_json::to_string(&decode(body)).expect("JSON"));
        // Decoding `extra` again changes nothing.
        let extra = &serde_json::from_str::<serde_json::Value>(&line).expect("JSON")["extra"]["x"];
        prop_assert_eq!(extra, &value);
    }
}

pub(in crate::event) fn json_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[,\\]} \"\\\\]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[,}\\] a-c\"]{0,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn write_with_trailing_commas(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Array(items) => {
            out.push('[');
            for item in items {
                write_with_trailing_commas(item, out);
                out.push(',');
            }
            out.push(']');
        }
        serde_json::Value::Object(members) => {
            out.push('{');
            for (name, member) in members {
                *out += &serde_json::to_string(name).expect("JSON");
                out.push(':');
                write_with_trailing_commas(member, out);
                out.push_str(", ");
            }
            out.push_str(" }");
        }
        other => *out += &other.to_string(),
    }
}
