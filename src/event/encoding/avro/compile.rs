//! Compiles an Avro schema, its references included.

use std::collections::HashMap;

use apache_avro::schema::{InnerDecimalSchema, Name, NamespaceRef, RecordSchema, UuidSchema};

use super::encode::Encoder;
use super::{AvroSchema, Default, Field, Type, TypeId, Unit, UuidForm};
use crate::event::encoding::number::MAX_DIGITS;
use crate::event::encoding::{SchemaError, SchemaText};
use crate::event::json_value;

/// The largest number of types in a schema, those of its references included.
const MAX_TYPES: usize = 20_000;

pub(in crate::event::encoding) fn compile(text: &SchemaText) -> Result<AvroSchema, SchemaError> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text.text) {
        return Err(SchemaError::of_json(&error));
    }
    for reference in &text.references {
        check_named(&reference.text).map_err(|error| SchemaError { file: Some(reference.name.clone()), ..error })?;
    }
    let references = text.references.iter().map(|reference| &reference.text);
    let (schema, references) = apache_avro::Schema::parse_str_with_list(&text.text, references)
        .map_err(|error| SchemaError::of(error.to_string()))?;
    let mut compiler = Compiler { types: Vec::new(), names: HashMap::new() };
    for reference in &references {
        compiler.add(reference, None)?;
    }
    let root = compiler.add(&schema, None)?;
    let Compiler { types, names } = compiler;
    if let Some((name, _)) = names.iter().find(|(_, named)| !named.defined) {
        return Err(SchemaError::of(format!("the type {name} is not defined")));
    }
    let types: Option<Vec<Type>> = types.into_iter().collect();
    let types = types.ok_or_else(|| SchemaError::of("a type is not defined".to_owned()))?;
    encode_defaults(AvroSchema { types, root })
}

/// Another schema can only refer to a named type. apache-avro panics at references that are none.
fn check_named(text: &str) -> Result<(), SchemaError> {
    #[derive(serde::Deserialize)]
    struct Named {
        r#type: String,
        #[serde(rename = "name")]
        _name: String,
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| SchemaError::of_json(&error))?;
    match serde_json::from_str::<Named>(text) {
        Ok(Named { r#type, .. }) if ["record", "error", "enum", "fixed"].contains(&&*r#type) => Ok(()),
        _ => Err(SchemaError::of("it is referred to, and is no record, enum or fixed".to_owned())),
    }
}

struct Compiler {
    /// None: referred to and not defined yet.
    types: Vec<Option<Type>>,
    names: HashMap<String, Named>,
}

struct Named {
    id: TypeId,
    defined: bool,
}

impl Compiler {
    fn add(&mut self, schema: &apache_avro::Schema, namespace: NamespaceRef<'_>) -> Result<TypeId, SchemaError> {
        use apache_avro::Schema as S;
        let unnamed = match schema {
            S::Ref { name } => return Ok(self.reference(name, namespace)?.0),
            S::Record(record) => return self.record(record, namespace),
            S::Enum(schema) => {
                let kind = |name| Type::Enum { name, symbols: schema.symbols.clone() };
                return self.define(&schema.name, namespace, kind);
            }
            S::Fixed(fixed) | S::Duration(fixed) => {
                return self.define(&fixed.name, namespace, |name| Type::Fixed { name, size: fixed.size });
            }
            S::Decimal(decimal) => {
                let (precision, scale) = (decimal.precision, decimal.scale);
                if precision > MAX_DIGITS {
                    let message =
                        format!("a decimal has at most {MAX_DIGITS} digits here, and this one has {precision}");
                    return Err(SchemaError::of(message));
                }
                match &decimal.inner {
                    InnerDecimalSchema::Bytes => Type::Decimal { precision, scale, size: None },
                    InnerDecimalSchema::Fixed(fixed) => {
                        let kind = |_| Type::Decimal { precision, scale, size: Some(fixed.size) };
                        return self.define(&fixed.name, namespace, kind);
                    }
                }
            }
            S::Uuid(UuidSchema::Fixed(fixed)) => {
                return self.define(&fixed.name, namespace, |_| Type::Uuid(UuidForm::Fixed));
            }
            S::Array(array) => Type::Array(self.add(&array.items, namespace)?),
            S::Map(map) => Type::Map(self.add(&map.types, namespace)?),
            S::Union(union) => {
                let branches = union.variants().iter().map(|branch| self.add(branch, namespace));
                Type::Union(branches.collect::<Result<_, _>>()?)
            }
            S::Null => Type::Null,
            S::Boolean => Type::Boolean,
            S::Int => Type::Int,
            S::Long => Type::Long,
            S::Float => Type::Float,
            S::Double => Type::Double,
            S::Bytes => Type::Bytes,
            S::String => Type::String,
            S::BigDecimal => Type::BigDecimal,
            S::Uuid(UuidSchema::String) => Type::Uuid(UuidForm::Text),
            S::Uuid(UuidSchema::Bytes) => Type::Uuid(UuidForm::Bytes),
            S::Date => Type::Date,
            S::TimeMillis => Type::Time(Unit::Millis),
            S::TimeMicros => Type::Time(Unit::Micros),
            S::TimestampMillis => Type::Timestamp(Unit::Millis),
            S::TimestampMicros => Type::Timestamp(Unit::Micros),
            S::TimestampNanos => Type::Timestamp(Unit::Nanos),
            S::LocalTimestampMillis => Type::LocalTimestamp(Unit::Millis),
            S::LocalTimestampMicros => Type::LocalTimestamp(Unit::Micros),
            S::LocalTimestampNanos => Type::LocalTimestamp(Unit::Nanos),
        };
        self.push(Some(unnamed))
    }

    fn record(&mut self, record: &RecordSchema, namespace: NamespaceRef<'_>) -> Result<TypeId, SchemaError> {
        let full = record.name.fully_qualified_name(namespace).into_owned();
        // Known before its fields, which may refer to it.
        let (id, name) = self.reference(&record.name, namespace)?;
        self.mark_as_defined(&name)?;
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let default = field.default.as_ref();
            let default = default.map(|value| Default { json: value.to_string(), encoded: None });
            fields.push(Field { name: field.name.clone(), kind: self.add(&field.schema, full.namespace())?, default });
        }
        self.set(id, Type::Record { name, fields });
        Ok(id)
    }

    fn define(
        &mut self,
        name: &Name,
        namespace: NamespaceRef<'_>,
        kind: impl FnOnce(String) -> Type,
    ) -> Result<TypeId, SchemaError> {
        let (id, name) = self.reference(name, namespace)?;
        self.mark_as_defined(&name)?;
        self.set(id, kind(name));
        Ok(id)
    }

    fn mark_as_defined(&mut self, name: &str) -> Result<(), SchemaError> {
        match self.names.get_mut(name) {
            Some(named) if named.defined => Err(SchemaError::of(format!("the type {name} is defined twice"))),
            Some(named) => {
                named.defined = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The place of a named type, and its full name.
    fn reference(&mut self, name: &Name, namespace: NamespaceRef<'_>) -> Result<(TypeId, String), SchemaError> {
        let full = name.fullname(namespace);
        if let Some(named) = self.names.get(&full) {
            return Ok((named.id, full));
        }
        let id = self.push(None)?;
        self.names.insert(full.clone(), Named { id, defined: false });
        Ok((id, full))
    }

    fn push(&mut self, kind: Option<Type>) -> Result<TypeId, SchemaError> {
        if self.types.len() >= MAX_TYPES {
            return Err(SchemaError::of(format!("the schema has more than {MAX_TYPES} types")));
        }
        self.types.push(kind);
        Ok(TypeId(self.types.len() - 1))
    }

    fn set(&mut self, id: TypeId, kind: Type) {
        if let Some(place) = self.types.get_mut(id.0) {
            *place = Some(kind);
        }
    }
}

/// Encodes the defaults of all fields, so that no event has to.
fn encode_defaults(mut schema: AvroSchema) -> Result<AvroSchema, SchemaError> {
    let mut all = Vec::new();
    for (place, kind) in schema.types.iter().enumerate() {
        let Type::Record { name, fields } = kind else { continue };
        for (index, field) in fields.iter().enumerate() {
            let Some(default) = &field.default else { continue };
            let mut encoded = Vec::new();
            let value = json_value::parse(&default.json);
            Encoder::new(&schema).encode(field.kind, &value, &mut encoded).map_err(|misfit| {
                SchemaError::of(format!("the default of {name}.{} does not fit: {misfit}", field.name))
            })?;
            all.push((place, index, encoded));
        }
    }
    for (place, index, encoded) in all {
        if let Some(Type::Record { fields, .. }) = schema.types.get_mut(place)
            && let Some(default) = fields.get_mut(index).and_then(|field| field.default.as_mut())
        {
            default.encoded = Some(encoded);
        }
    }
    Ok(schema)
}
