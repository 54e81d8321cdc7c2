//! Encodes JSON by an Avro schema: fields by name, unions by the value, defaults filled in. Bytes are text whose characters are the
//! bytes (U+0000 to U+00FF), as in Avro's own JSON; dates and times are text or numbers, decimals numbers or text.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{AvroSchema, Default, Field, Type, TypeId, Unit, UuidForm};
use crate::event::encoding::misfit::Misfit;
use crate::event::encoding::number::{self, Scaled};
use crate::event::encoding::time;
use crate::event::encoding::varint::{write_length, write_signed};
use crate::event::json_value::{self, JsonValue};

/// How deep a value may be nested, its defaults included. JSON is never so deep; the default of a recursive type might be.
const MAX_DEPTH: usize = 256;
/// How many branches of unions may turn out not to fit a value of one body. A recursive union tries each of its branches, at each
/// level.
const MAX_WRONG_BRANCHES: usize = 100_000;

const OUT_OF_RANGE: &str = "a number out of range";

pub(super) struct Encoder<'s> {
    pub(super) schema: &'s AvroSchema,
    depth: usize,
    wrong_branches: usize,
}

type Members<'v> = [(Cow<'v, str>, JsonValue<'v>)];

impl AvroSchema {
    pub(in crate::event::encoding) fn encode(&self, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        Encoder::new(self).encode(self.root, value, out)
    }
}

impl<'s> Encoder<'s> {
    pub(super) fn new(schema: &'s AvroSchema) -> Self {
        Self { schema, depth: 0, wrong_branches: 0 }
    }

    pub(super) fn encode(&mut self, id: TypeId, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        if self.depth >= MAX_DEPTH {
            return Err(Misfit::new("a value that is nested too deep", format!("at most {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let encoded = self.encode_here(id, value, out);
        self.depth -= 1;
        encoded
    }

    /// A branch of a union turned out not to fit. Returns whether further ones may be tried.
    pub(super) fn count_wrong_branch(&mut self) -> bool {
        self.wrong_branches += 1;
        self.wrong_branches <= MAX_WRONG_BRANCHES
    }

    fn encode_here(&mut self, id: TypeId, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let schema = self.schema;
        match (schema.get(id), value) {
            (Type::Null, JsonValue::Null) => Ok(()),
            (Type::Boolean, JsonValue::Bool(value)) => {
                out.push(u8::from(*value));
                Ok(())
            }
            (Type::String, JsonValue::Text(text)) => {
                write_bytes(text.as_bytes(), out);
                Ok(())
            }
            (Type::Array(items), JsonValue::List(values)) => self.array(*items, values, out),
            (Type::Map(kind), JsonValue::Map(members)) => self.map(*kind, members, out),
            (Type::Union(branches), value) => self.union(id, branches, value, out),
            (Type::Record { fields, .. }, JsonValue::Map(members)) => self.record(fields, members, out),
            (kind, value) => scalar(kind, value, out).map_err(|found| Misfit::new(found, self.schema.describe(id))),
        }
    }

    fn array(&mut self, items: TypeId, values: &[JsonValue<'_>], out: &mut Vec<u8>) -> Result<(), Misfit> {
        if !values.is_empty() {
            write_length(values.len(), out);
            for (index, value) in values.iter().enumerate() {
                self.encode(items, value, out).map_err(|misfit| misfit.in_item(index))?;
            }
        }
        write_length(0, out);
        Ok(())
    }

    fn map(&mut self, kind: TypeId, members: &Members<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        if !members.is_empty() {
            write_length(members.len(), out);
            for (name, value) in members {
                write_bytes(name.as_bytes(), out);
                self.encode(kind, value, out).map_err(|misfit| misfit.in_member(name))?;
            }
        }
        write_length(0, out);
        Ok(())
    }

    /// Members without a field are left out.
    fn record(&mut self, fields: &[Field], members: &Members<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        // Of members with one name the last counts, as in most readers of JSON.
        let by_name: HashMap<&str, &JsonValue<'_>> =
            members.iter().map(|(name, value)| (name.as_ref(), value)).collect();
        for Field { name, kind, default } in fields {
            let encoded = match (by_name.get(name.as_str()), default) {
                (Some(value), _) => self.encode(*kind, value, out),
                (None, Some(Default { encoded: Some(encoded), .. })) => {
                    out.extend_from_slice(encoded);
                    Ok(())
                }
                // While the defaults are encoded: one that needs another.
                (None, Some(Default { json, encoded: None })) => self.encode(*kind, &json_value::parse(json), out),
                (None, None) => Err(Misfit::new("nothing", self.schema.describe(*kind))),
            };
            encoded.map_err(|misfit| misfit.in_member(name))?;
        }
        Ok(())
    }
}

/// Encodes a value of a type that contains no other. The error says what was found.
fn scalar(kind: &Type, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    match (kind, value) {
        (Type::Int, JsonValue::Number(raw)) => write_integer(raw, i32::MIN.into()..=i32::MAX.into(), out),
        (Type::Long, JsonValue::Number(raw)) => write_integer(raw, LONG, out),
        (Type::Float, JsonValue::Number(raw)) => {
            let float = raw.parse::<f32>().ok().filter(|float| float.is_finite()).ok_or(OUT_OF_RANGE)?;
            out.extend(float.to_le_bytes());
            Ok(())
        }
        (Type::Double, JsonValue::Number(raw)) => {
            let double = raw.parse::<f64>().ok().filter(|double| double.is_finite()).ok_or(OUT_OF_RANGE)?;
            out.extend(double.to_le_bytes());
            Ok(())
        }
        (Type::Bytes, JsonValue::Text(text)) => {
            write_bytes(&latin_1(text)?, out);
            Ok(())
        }
        (Type::Fixed { size, .. }, JsonValue::Text(text)) => {
            let bytes = latin_1(text)?;
            if bytes.len() != *size {
                return Err("text of another length");
            }
            out.extend(bytes);
            Ok(())
        }
        (Type::Enum { symbols, .. }, JsonValue::Text(text)) => {
            let index = symbols.iter().position(|symbol| symbol == text).ok_or("another word")?;
            write_length(index, out);
            Ok(())
        }
        (Type::Decimal { precision, scale, size }, JsonValue::Number(raw)) => {
            decimal(raw, *precision, *scale, *size, out)
        }
        (Type::Decimal { precision, scale, size }, JsonValue::Text(text)) => {
            decimal(text, *precision, *scale, *size, out)
        }
        (Type::BigDecimal, JsonValue::Number(raw)) => big_decimal(raw, out),
        (Type::BigDecimal, JsonValue::Text(text)) => big_decimal(text, out),
        (Type::Uuid(form), JsonValue::Text(text)) => uuid(*form, text, out),
        (kind, value) => time_of(kind, value, out),
    }
}

const LONG: std::ops::RangeInclusive<i128> = i64::MIN as i128..=i64::MAX as i128;

/// A date or a time: a number as it is counted, or text.
fn time_of(kind: &Type, value: &JsonValue<'_>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    const INT: std::ops::RangeInclusive<i128> = i32::MIN as i128..=i32::MAX as i128;
    type Parse = fn(&str) -> Option<i128>;
    let (parse, nanos, range): (Parse, i128, _) = match kind {
        Type::Date => (time::days, 1, INT),
        Type::Time(Unit::Millis) => (time::time_of_day, Unit::Millis.nanos(), INT),
        Type::Time(unit) => (time::time_of_day, unit.nanos(), LONG),
        Type::Timestamp(unit) => (time::instant, unit.nanos(), LONG),
        Type::LocalTimestamp(unit) => (time::local, unit.nanos(), LONG),
        _ => return Err(crate::event::encoding::misfit::kind_of(value)),
    };
    match value {
        JsonValue::Number(raw) => write_integer(raw, range, out),
        JsonValue::Text(text) => {
            let counted = parse(text).ok_or("text of another form")?.div_euclid(nanos);
            let counted = i64::try_from(counted).ok().filter(|counted| range.contains(&i128::from(*counted)));
            write_signed(counted.ok_or("a date out of range")?, out);
            Ok(())
        }
        value => Err(crate::event::encoding::misfit::kind_of(value)),
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn write_integer(raw: &str, range: std::ops::RangeInclusive<i128>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let integer = match number::integer(raw) {
        Some(integer) => integer,
        None if raw.contains(['.', 'e', 'E']) => return Err("a number that is no integer, or out of range"),
        None => return Err(OUT_OF_RANGE),
    };
    let integer = i64::try_from(integer).ok().filter(|_| range.contains(&integer)).ok_or(OUT_OF_RANGE)?;
    write_signed(integer, out);
    Ok(())
}

/// The characters as bytes: Avro's own rule for bytes in JSON.
fn latin_1(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes: Result<Vec<u8>, _> = text.chars().map(|char| u8::try_from(u32::from(char))).collect();
    bytes.map_err(|_| "text with characters beyond U+00FF")
}

fn decimal(
    raw: &str,
    precision: usize,
    scale: usize,
    size: Option<usize>,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let (negative, digits) = match number::scaled(raw, scale) {
        None => return Err("text that is no number, or one out of range"),
        Some(Scaled::TooFine) => return Err("a number with more digits"),
        Some(Scaled::Exact { digits, .. }) if digits.len() > precision => return Err(OUT_OF_RANGE),
        Some(Scaled::Exact { negative, digits }) => (negative, digits),
    };
    let bytes = number::twos_complement(negative, &digits);
    match size {
        None => write_bytes(&bytes, out),
        Some(size) => {
            let missing = size.checked_sub(bytes.len()).ok_or(OUT_OF_RANGE)?;
            out.extend(std::iter::repeat_n(if negative { 0xff } else { 0 }, missing));
            out.extend(bytes);
        }
    }
    Ok(())
}

/// The digits and their scale, both within bytes.
fn big_decimal(raw: &str, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let (mantissa, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let exponent: i64 = exponent.parse().map_err(|_| OUT_OF_RANGE)?;
    let scale = i64::try_from(fraction).unwrap_or(i64::MAX).saturating_sub(exponent);
    let scale = usize::try_from(scale.max(0)).ok().filter(|scale| *scale <= number::MAX_DIGITS).ok_or(OUT_OF_RANGE)?;
    let Some(Scaled::Exact { negative, digits }) = number::scaled(raw, scale) else {
        return Err("text that is no number, or one out of range");
    };
    let mut inner = Vec::new();
    write_bytes(&number::twos_complement(negative, &digits), &mut inner);
    write_length(scale, &mut inner);
    write_bytes(&inner, out);
    Ok(())
}

fn uuid(form: UuidForm, text: &str, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let uuid = uuid::Uuid::try_parse(text).map_err(|_| "text of another form")?;
    match form {
        UuidForm::Text => write_bytes(text.as_bytes(), out),
        UuidForm::Bytes => write_bytes(uuid.as_bytes(), out),
        UuidForm::Fixed => out.extend(uuid.as_bytes()),
    }
    Ok(())
}
