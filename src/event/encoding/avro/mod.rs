//! Avro schemas in the form that JSON is encoded by. apache-avro parses them; encoding is our own, because its errors have no path
//! and its rules are not those of the relay.

mod compile;
mod encode;
#[cfg(test)]
mod tests;
mod union;

pub(super) use compile::compile;

/// All types of a schema, compiled. Types refer to each other by their place, since a schema may be recursive.
#[derive(Debug)]
pub(super) struct AvroSchema {
    types: Vec<Type>,
    root: TypeId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TypeId(usize);

#[derive(Debug)]
enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record {
        name: String,
        fields: Vec<Field>,
    },
    Enum {
        name: String,
        symbols: Vec<String>,
    },
    Fixed {
        name: String,
        size: usize,
    },
    Decimal {
        precision: usize,
        scale: usize,
        /// Of a fixed; otherwise it is bytes.
        size: Option<usize>,
    },
    /// A decimal with a scale of its own.
    BigDecimal,
    Uuid(UuidForm),
    Date,
    Time(Unit),
    Timestamp(Unit),
    LocalTimestamp(Unit),
}

#[derive(Debug)]
struct Field {
    name: String,
    kind: TypeId,
    default: Option<Default>,
}

#[derive(Debug)]
struct Default {
    json: String,
    /// The encoded `json`, once all types are known.
    encoded: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
enum UuidForm {
    Text,
    Bytes,
    Fixed,
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    const fn nanos(self) -> i128 {
        match self {
            Self::Millis => 1_000_000,
            Self::Micros => 1_000,
            Self::Nanos => 1,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Millis => "millis",
            Self::Micros => "micros",
            Self::Nanos => "nanos",
        }
    }
}

impl AvroSchema {
    fn get(&self, id: TypeId) -> &Type {
        self.types.get(id.0).unwrap_or(&Type::Null)
    }

    /// The type as an error names it.
    fn describe(&self, id: TypeId) -> String {
        /// The number of branches of a union, or of symbols, that are listed.
        const MOST: usize = 8;
        let list = |names: Vec<String>| {
            let more = if names.len() > MOST { format!(" or {} more", names.len() - MOST) } else { String::new() };
            names.into_iter().take(MOST).collect::<Vec<_>>().join(" or ") + &more
        };
        match self.get(id) {
            Type::Null => "null".to_owned(),
            Type::Boolean => "boolean".to_owned(),
            Type::Int => "int".to_owned(),
            Type::Long => "long".to_owned(),
            Type::Float => "float".to_owned(),
            Type::Double => "double".to_owned(),
            Type::Bytes => "bytes".to_owned(),
            Type::String => "string".to_owned(),
            Type::Array(_) => "array".to_owned(),
            Type::Map(_) => "map".to_owned(),
            Type::Union(branches) => list(branches.iter().map(|branch| self.describe(*branch)).collect()),
            Type::Record { name, .. } => format!("record {name}"),
            Type::Enum { name, symbols } => format!("enum {name} ({})", list(symbols.clone())),
            Type::Fixed { name, size } => format!("fixed {name} of {size} bytes"),
            Type::Decimal { precision, scale, .. } => format!("decimal({precision}, {scale})"),
            Type::BigDecimal => "big-decimal".to_owned(),
            Type::Uuid(_) => "uuid".to_owned(),
            Type::Date => "date".to_owned(),
            Type::Time(unit) => format!("time-{}", unit.as_str()),
            Type::Timestamp(unit) => format!("timestamp-{}", unit.as_str()),
            Type::LocalTimestamp(unit) => format!("local-timestamp-{}", unit.as_str()),
        }
    }
}
