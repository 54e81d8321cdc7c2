//! Encodes JSON as a message, by Protobuf's own rules of JSON (<https://protobuf.dev/programming-guides/json/>): members by their name in
//! JSON or in the .proto file, 64-bit integers also as text, bytes in base64, enums by word or number, null for an absent field.
//! Unlike there, members without a field are left out.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Enum, Field, Kind, Message, ProtoSchema, Scalar, Shape};
use crate::event::encoding::misfit::{Misfit, kind_of};
use crate::event::encoding::number;
use crate::event::encoding::varint::{write_signed, write_unsigned};
use crate::event::json_value::JsonValue;

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const GROUP_START: u32 = 3;
const GROUP_END: u32 = 4;
const FIXED_32: u32 = 5;

const OUT_OF_RANGE: &str = "a number out of range";

type Members<'v> = [(Cow<'v, str>, JsonValue<'v>)];

impl ProtoSchema {
    pub(in crate::event::encoding) fn encode(&self, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        self.message(self.root, value, out)
    }

    /// The content of a message, without its length.
    pub(super) fn message(&self, place: usize, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let Some(message) = self.messages.get(place) else { return Ok(()) };
        match (message.well_known, value) {
            (Some(well_known), value) => well_known.encode(value, out),
            (None, JsonValue::Map(members)) => self.members(message, members, out),
            (None, value) => Err(Misfit::of(value, format!("message {}", message.name))),
        }
    }

    fn members(&self, message: &Message, members: &Members<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let mut values: Vec<Option<&JsonValue<'_>>> = vec![None; message.fields.len()];
        for (name, value) in members {
            if let Some(slot) = message.by_name.get(name.as_ref()).and_then(|place| values.get_mut(*place)) {
                *slot = Some(value);
            }
        }
        let mut taken: Vec<&str> = Vec::new();
        for (field, value) in message.fields.iter().zip(values) {
            let value = value.filter(|value| **value != JsonValue::Null || self.takes_null(field));
            if let (Some(oneof), Some(_)) = (&field.oneof, value) {
                if taken.contains(&oneof.as_str()) {
                    let misfit = Misfit::new("a second member", format!("one of the oneof {oneof}"));
                    return Err(misfit.in_member(&field.name));
                }
                taken.push(oneof);
            }
            self.field(field, value, out).map_err(|misfit| misfit.in_member(&field.name))?;
        }
        Ok(())
    }

    /// Whether null is a value of the field: of `google.protobuf.Value` and of its enum.
    fn takes_null(&self, field: &Field) -> bool {
        match field.shape {
            Shape::One { kind: Kind::Message(place), .. } => {
                self.messages.get(place).is_some_and(|message| message.name == "google.protobuf.Value")
            }
            Shape::One { kind: Kind::Enum(place), presence, .. } => {
                presence && self.enums.get(place).is_some_and(|known| known.name == NULL_VALUE)
            }
            _ => false,
        }
    }

    fn field(&self, field: &Field, value: Option<&JsonValue<'_>>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let number = field.number;
        match (field.shape, value) {
            (Shape::One { kind, required: true, .. }, None) => Err(Misfit::new("nothing", self.describe(kind))),
            (_, None) => Ok(()),
            (Shape::One { kind, presence, .. }, Some(value)) => self.one(number, kind, presence, value, out),
            (Shape::List { kind, packed }, Some(JsonValue::List(values))) => {
                self.list(number, kind, packed, values, out)
            }
            (Shape::Map { key, value }, Some(JsonValue::Map(members))) => self.map(number, key, value, members, out),
            (Shape::List { kind, .. }, Some(value)) => {
                Err(Misfit::of(value, format!("an array of {}", self.describe(kind))))
            }
            (Shape::Map { .. }, Some(value)) => Err(Misfit::of(value, "a map")),
        }
    }

    fn list(
        &self,
        number: u32,
        kind: Kind,
        packed: bool,
        values: &[JsonValue<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Misfit> {
        let mut together = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let written = if packed {
                self.payload(kind, value, &mut together).map(|_| ())
            } else {
                self.one(number, kind, true, value, out)
            };
            written.map_err(|misfit| misfit.in_item(index))?;
        }
        if !together.is_empty() {
            write_delimited(number, &together, out);
        }
        Ok(())
    }

    fn map(
        &self,
        number: u32,
        key: Scalar,
        kind: Kind,
        members: &Members<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Misfit> {
        for (name, value) in members {
            let mut entry = Vec::new();
            // A key is text in JSON, whatever its type.
            let text = JsonValue::Text(Cow::Borrowed(name.as_ref()));
            let word = match name.as_ref() {
                "true" if key == Scalar::Bool => JsonValue::Bool(true),
                "false" if key == Scalar::Bool => JsonValue::Bool(false),
                _ => text,
            };
            let written = self.one(1, Kind::Scalar(key), true, &word, &mut entry);
            let written = written.and_then(|()| self.one(2, kind, true, value, &mut entry));
            written.map_err(|misfit| misfit.in_member(name))?;
            write_delimited(number, &entry, out);
        }
        Ok(())
    }

    /// One value after its tag. Without `presence`, the default of its type is left out.
    fn one(
        &self,
        number: u32,
        kind: Kind,
        presence: bool,
        value: &JsonValue<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Misfit> {
        if let Kind::Group(place) = kind {
            write_tag(number, GROUP_START, out);
            self.message(place, value, out)?;
            write_tag(number, GROUP_END, out);
            return Ok(());
        }
        let mut payload = Vec::new();
        let wire = self.payload(kind, value, &mut payload)?;
        if presence || !is_default(wire, &payload) {
            write_payload(number, wire, &payload, out);
        }
        Ok(())
    }

    /// A value without its tag and length, and its wire type.
    fn payload(&self, kind: Kind, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<u32, Misfit> {
        match kind {
            Kind::Scalar(scalar) => {
                write_scalar(scalar, value, out).map_err(|found| Misfit::new(found, scalar.as_str()))
            }
            Kind::Message(place) | Kind::Group(place) => {
                self.message(place, value, out)?;
                Ok(LENGTH_DELIMITED)
            }
            Kind::Enum(place) => {
                let Some(known) = self.enums.get(place) else { return Ok(VARINT) };
                let number = enum_number(known, value).map_err(|found| Misfit::new(found, self.describe(kind)))?;
                write_unsigned(i64::from(number).cast_unsigned(), out);
                Ok(VARINT)
            }
        }
    }

    /// The type as an error names it.
    fn describe(&self, kind: Kind) -> String {
        /// The number of words of an enum that are listed.
        const MOST: usize = 8;
        match kind {
            Kind::Scalar(scalar) => scalar.as_str().to_owned(),
            Kind::Message(place) | Kind::Group(place) => {
                let name = self.messages.get(place).map_or("", |message| message.name.as_str());
                format!("message {name}")
            }
            Kind::Enum(place) => {
                let Some(Enum { name, values, .. }) = self.enums.get(place) else { return "enum".to_owned() };
                let mut words: Vec<_> = values.iter().map(|(word, number)| (*number, word.as_str())).collect();
                words.sort_unstable();
                let more = if words.len() > MOST { " or more" } else { "" };
                let words: Vec<&str> = words.into_iter().take(MOST).map(|(_, word)| word).collect();
                format!("enum {name} ({}{more})", words.join(" or "))
            }
        }
    }
}

const NULL_VALUE: &str = "google.protobuf.NullValue";

fn enum_number(known: &Enum, value: &JsonValue<'_>) -> Result<i32, &'static str> {
    match value {
        JsonValue::Text(word) => known.values.get(word.as_ref()).copied().ok_or("another word"),
        JsonValue::Null if known.name == NULL_VALUE => Ok(0),
        JsonValue::Number(raw) => {
            let number = number::integer(raw).and_then(|number| i32::try_from(number).ok()).ok_or(OUT_OF_RANGE)?;
            let is_known = known.is_open || known.values.values().any(|value| *value == number);
            is_known.then_some(number).ok_or("another number")
        }
        value => Err(kind_of(value)),
    }
}

pub(super) fn write_tag(number: u32, wire: u32, out: &mut Vec<u8>) {
    write_unsigned(u64::from(number) << 3 | u64::from(wire), out);
}

pub(super) fn write_delimited(number: u32, content: &[u8], out: &mut Vec<u8>) {
    write_tag(number, LENGTH_DELIMITED, out);
    write_unsigned(u64::try_from(content.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(content);
}

/// Whether it is the default value of its type, which is not written unless the field has presence.
pub(super) fn is_default(wire: u32, payload: &[u8]) -> bool {
    payload.is_empty() || (wire != LENGTH_DELIMITED && payload.iter().all(|byte| *byte == 0))
}

/// Writes a value of that wire type after its tag, and its length where it has one.
pub(super) fn write_payload(number: u32, wire: u32, payload: &[u8], out: &mut Vec<u8>) {
    if wire == LENGTH_DELIMITED {
        write_delimited(number, payload, out);
    } else {
        write_tag(number, wire, out);
        out.extend_from_slice(payload);
    }
}

/// Writes a value without its tag and length. Returns its wire type; the error says what was found.
pub(super) fn write_scalar(scalar: Scalar, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<u32, &'static str> {
    match scalar {
        Scalar::Bool => {
            let JsonValue::Bool(value) = value else { return Err(kind_of(value)) };
            out.push(u8::from(*value));
            Ok(VARINT)
        }
        Scalar::String => {
            let JsonValue::Text(text) = value else { return Err(kind_of(value)) };
            out.extend_from_slice(text.as_bytes());
            Ok(LENGTH_DELIMITED)
        }
        Scalar::Bytes => {
            let JsonValue::Text(text) = value else { return Err(kind_of(value)) };
            out.extend(base64(text).ok_or("text that is not base64")?);
            Ok(LENGTH_DELIMITED)
        }
        Scalar::Float => {
            out.extend(
                float::<f32>(value, f32::is_finite, [f32::NAN, f32::INFINITY, f32::NEG_INFINITY])?.to_le_bytes(),
            );
            Ok(FIXED_32)
        }
        Scalar::Double => {
            out.extend(
                float::<f64>(value, f64::is_finite, [f64::NAN, f64::INFINITY, f64::NEG_INFINITY])?.to_le_bytes(),
            );
            Ok(FIXED_64)
        }
        _ => write_integer(scalar, value, out),
    }
}

fn write_integer(scalar: Scalar, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<u32, &'static str> {
    let integer = match value {
        JsonValue::Number(raw) => number::integer(raw).ok_or("a number that is no integer, or out of range")?,
        JsonValue::Text(text) => number::integer(text).ok_or("text")?,
        value => return Err(kind_of(value)),
    };
    let i32 = || i32::try_from(integer).map_err(|_| OUT_OF_RANGE);
    let i64 = || i64::try_from(integer).map_err(|_| OUT_OF_RANGE);
    let u32 = || u32::try_from(integer).map_err(|_| OUT_OF_RANGE);
    let u64 = || u64::try_from(integer).map_err(|_| OUT_OF_RANGE);
    match scalar {
        // Negative ones have ten bytes, as if they were of 64 bits.
        Scalar::Int32 => write_unsigned(i64::from(i32()?).cast_unsigned(), out),
        Scalar::Int64 => write_unsigned(i64()?.cast_unsigned(), out),
        Scalar::Uint32 => write_unsigned(u32()?.into(), out),
        Scalar::Uint64 => write_unsigned(u64()?, out),
        Scalar::Sint32 => write_signed(i32()?.into(), out),
        Scalar::Sint64 => write_signed(i64()?, out),
        Scalar::Fixed32 => out.extend(u32()?.to_le_bytes()),
        Scalar::Sfixed32 => out.extend(i32()?.to_le_bytes()),
        Scalar::Fixed64 => out.extend(u64()?.to_le_bytes()),
        Scalar::Sfixed64 => out.extend(i64()?.to_le_bytes()),
        _ => return Err(kind_of(value)),
    }
    Ok(match scalar {
        Scalar::Fixed32 | Scalar::Sfixed32 => FIXED_32,
        Scalar::Fixed64 | Scalar::Sfixed64 => FIXED_64,
        _ => VARINT,
    })
}

fn float<T: std::str::FromStr + Copy>(
    value: &JsonValue<'_>,
    is_finite: fn(T) -> bool,
    [nan, infinity, negative]: [T; 3],
) -> Result<T, &'static str> {
    let parse = |raw: &str| raw.parse().ok().filter(|float| is_finite(*float));
    match value {
        JsonValue::Number(raw) => parse(raw).ok_or(OUT_OF_RANGE),
        JsonValue::Text(text) => match text.as_ref() {
            "NaN" => Ok(nan),
            "Infinity" => Ok(infinity),
            "-Infinity" => Ok(negative),
            raw if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => parse(raw).ok_or("text"),
            _ => Err("text"),
        },
        value => Err(kind_of(value)),
    }
}

/// Base64 in either alphabet, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let is_url_safe = text.contains(['-', '_']);
    let alphabet = if is_url_safe { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode(text).ok()
}
