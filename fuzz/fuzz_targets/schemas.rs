//! Any schema is refused or compiled, and any JSON is then encoded by it or doesn't fit. The input is a letter for the kind, the schema,
//! a zero byte, and the JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regards_relay::event::{Schema, SchemaKind, SchemaText};

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let kind = match kind {
        b'a' => SchemaKind::Avro,
        b'j' => SchemaKind::JsonSchema,
        b'p' => SchemaKind::Protobuf,
        _ => return,
    };
    let Some(end) = rest.iter().position(|byte| *byte == 0) else { return };
    let (text, json) = (&rest[..end], &rest[end + 1..]);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let text = SchemaText { kind, text: text.to_owned(), references: Vec::new() };
    let Ok(schema) = Schema::compile(text, None) else { return };
    let encode = || {
        let mut out = Vec::new();
        schema.encode_json(json, &mut out).map(|()| out)
    };
    // Encoding is a pure function.
    assert_eq!(encode().ok(), encode().ok());
});
