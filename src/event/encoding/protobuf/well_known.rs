//! Google's well-known types, which have forms of their own in JSON.

use super::Scalar;
use super::encode::{is_default, write_delimited, write_payload, write_scalar, write_tag};
use crate::event::encoding::misfit::Misfit;
use crate::event::encoding::number::{self, Scaled};
use crate::event::encoding::time;
use crate::event::encoding::varint::write_unsigned;
use crate::event::json_value::JsonValue;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WellKnown {
    Any,
    Duration,
    Empty,
    FieldMask,
    ListValue,
    Struct,
    Timestamp,
    Value,
    /// `google.protobuf.StringValue` and the like: the value alone.
    Wrapper(Scalar),
}

const NANOS_OF_A_SECOND: i128 = 1_000_000_000;
/// The range of a timestamp: the years 1 to 9999.
const TIMESTAMPS: std::ops::RangeInclusive<i128> = -62_135_596_800..=253_402_300_799;
/// The range of a duration: about 10,000 years.
const DURATIONS: std::ops::RangeInclusive<i128> = -315_576_000_000..=315_576_000_000;

impl WellKnown {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("google.protobuf.")? {
            "Any" => Self::Any,
            "Duration" => Self::Duration,
            "Empty" => Self::Empty,
            "FieldMask" => Self::FieldMask,
            "ListValue" => Self::ListValue,
            "Struct" => Self::Struct,
            "Timestamp" => Self::Timestamp,
            "Value" => Self::Value,
            "DoubleValue" => Self::Wrapper(Scalar::Double),
            "FloatValue" => Self::Wrapper(Scalar::Float),
            "Int64Value" => Self::Wrapper(Scalar::Int64),
            "UInt64Value" => Self::Wrapper(Scalar::Uint64),
            "Int32Value" => Self::Wrapper(Scalar::Int32),
            "UInt32Value" => Self::Wrapper(Scalar::Uint32),
            "BoolValue" => Self::Wrapper(Scalar::Bool),
            "StringValue" => Self::Wrapper(Scalar::String),
            "BytesValue" => Self::Wrapper(Scalar::Bytes),
            _ => return None,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Any => "no google.protobuf.Any, which the relay does not encode",
            Self::Duration => "google.protobuf.Duration, as in \"1.5s\"",
            Self::Empty => "google.protobuf.Empty",
            Self::FieldMask => "google.protobuf.FieldMask",
            Self::ListValue => "google.protobuf.ListValue",
            Self::Struct => "google.protobuf.Struct",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Value => "google.protobuf.Value",
            Self::Wrapper(scalar) => scalar.as_str(),
        }
    }

    /// The content of the message, without its length.
    pub(super) fn encode(self, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let misfit = |found| Misfit::new(found, self.name());
        match (self, value) {
            (Self::Timestamp, JsonValue::Text(text)) => {
                let nanos = time::instant(text).ok_or_else(|| misfit("text of another form"))?;
                seconds_and_nanos(
                    nanos.div_euclid(NANOS_OF_A_SECOND),
                    nanos.rem_euclid(NANOS_OF_A_SECOND),
                    &TIMESTAMPS,
                    out,
                )
                .ok_or_else(|| misfit("a date out of range"))
            }
            (Self::Duration, JsonValue::Text(text)) => {
                let nanos = duration(text).ok_or_else(|| misfit("text of another form"))?;
                seconds_and_nanos(nanos / NANOS_OF_A_SECOND, nanos % NANOS_OF_A_SECOND, &DURATIONS, out)
                    .ok_or_else(|| misfit("a duration out of range"))
            }
            (Self::Empty, JsonValue::Map(_)) => Ok(()),
            (Self::FieldMask, JsonValue::Text(text)) => {
                for path in text.split(',').filter(|path| !path.is_empty()) {
                    write_delimited(1, snake_case(path).as_bytes(), out);
                }
                Ok(())
            }
            (Self::Struct, JsonValue::Map(members)) => {
                for (name, value) in members {
                    let mut entry = Vec::new();
                    write_delimited(1, name.as_bytes(), &mut entry);
                    nested(2, Self::Value, value, &mut entry).map_err(|misfit| misfit.in_member(name))?;
                    write_delimited(1, &entry, out);
                }
                Ok(())
            }
            (Self::ListValue, JsonValue::List(values)) => {
                for (index, value) in values.iter().enumerate() {
                    nested(1, Self::Value, value, out).map_err(|misfit| misfit.in_item(index))?;
                }
                Ok(())
            }
            (Self::Value, value) => dynamic(value, out),
            (Self::Wrapper(scalar), value) => {
                let mut payload = Vec::new();
                let wire = write_scalar(scalar, value, &mut payload).map_err(misfit)?;
                if !is_default(wire, &payload) {
                    write_payload(1, wire, &payload, out);
                }
                Ok(())
            }
            (_, value) => Err(Misfit::of(value, self.name())),
        }
    }
}

/// Any value of JSON as a `google.protobuf.Value`, in the field for its type.
fn dynamic(value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let of = |number, scalar, out: &mut Vec<u8>| {
        let mut payload = Vec::new();
        let wire =
            write_scalar(scalar, value, &mut payload).map_err(|found| Misfit::new(found, "google.protobuf.Value"))?;
        write_payload(number, wire, &payload, out);
        Ok(())
    };
    match value {
        JsonValue::Null => {
            write_tag(1, 0, out);
            out.push(0);
            Ok(())
        }
        JsonValue::Number(_) => of(2, Scalar::Double, out),
        JsonValue::Text(_) => of(3, Scalar::String, out),
        JsonValue::Bool(_) => of(4, Scalar::Bool, out),
        JsonValue::Map(_) => nested(5, WellKnown::Struct, value, out),
        JsonValue::List(_) => nested(6, WellKnown::ListValue, value, out),
    }
}

fn nested(number: u32, kind: WellKnown, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let mut content = Vec::new();
    kind.encode(value, &mut content)?;
    write_delimited(number, &content, out);
    Ok(())
}

/// Both fields of a timestamp or a duration; none if the seconds are out of range.
fn seconds_and_nanos(
    seconds: i128,
    nanos: i128,
    range: &std::ops::RangeInclusive<i128>,
    out: &mut Vec<u8>,
) -> Option<()> {
    if !range.contains(&seconds) {
        return None;
    }
    for (number, value) in [(1, seconds), (2, nanos)] {
        if value != 0 {
            write_tag(number, 0, out);
            write_unsigned(i64::try_from(value).ok()?.cast_unsigned(), out);
        }
    }
    Some(())
}

/// `1.5s` in nanoseconds; further digits don't exist.
fn duration(text: &str) -> Option<i128> {
    let seconds = text.strip_suffix('s')?;
    match number::scaled(seconds, 9)? {
        Scaled::Exact { negative, digits } => {
            let nanos: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
            Some(if negative { -nanos } else { nanos })
        }
        Scaled::TooFine => None,
    }
}

/// `fooBar` of JSON is `foo_bar` in a mask.
fn snake_case(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 4);
    for char in path.chars() {
        if char.is_ascii_uppercase() {
            out.push('_');
            out.push(char.to_ascii_lowercase());
        } else {
            out.push(char);
        }
    }
    out
}
