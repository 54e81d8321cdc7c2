//! The result of an expression as JSON.

use std::collections::BTreeMap;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::exact_number::ExactNumber;
use super::values::{EventMap, LongList};

/// The value as JSON of at most `max` bytes. Recurses as deep as the message and the expression are nested.
pub(super) fn of(value: &dyn Val, max: usize) -> Result<Box<RawValue>, String> {
    let mut json = Json { text: String::new(), left: max };
    let written = json.write(value).and_then(|()| {
        RawValue::from_string(json.text).map_err(|error| JsonError::Other(format!("the result is not JSON: {error}")))
    });
    written.map_err(|error| match error {
        JsonError::TooLarge => format!("the result has more than {max} bytes"),
        JsonError::Other(error) => error,
    })
}

enum JsonError {
    TooLarge,
    Other(String),
}

struct Json {
    text: String,
    /// How many bytes may still be written, estimated.
    left: usize,
}

impl Json {
    fn spend(&mut self, bytes: usize) -> Result<(), JsonError> {
        self.left = self.left.checked_sub(bytes).ok_or(JsonError::TooLarge)?;
        Ok(())
    }

    fn scalar(&mut self, value: &Value) {
        self.text.push_str(&value.to_string());
    }

    fn write(&mut self, value: &dyn Val) -> Result<(), JsonError> {
        // For a number, and the characters between values.
        self.spend(8)?;
        if let Some(text) = value.downcast_ref::<CelString<'_>>() {
            self.spend(text.inner().len())?;
            self.scalar(&Value::from(text.inner()));
        } else if value.downcast_ref::<CelNull>().is_some() {
            self.scalar(&Value::Null);
        } else if let Some(value) = value.downcast_ref::<CelBool>() {
            self.scalar(&Value::Bool(*value.inner()));
        } else if let Some(value) = value.downcast_ref::<CelInt>() {
            self.scalar(&(*value.inner()).into());
        } else if let Some(value) = value.downcast_ref::<CelUInt>() {
            self.scalar(&(*value.inner()).into());
        } else if let Some(ExactNumber(raw)) = value.downcast_ref() {
            self.spend(raw.len())?;
            self.text.push_str(raw);
        } else if let Some(value) = value.downcast_ref::<CelDouble>() {
            let not_json = || JsonError::Other(format!("{} is not a JSON number", value.inner()));
            self.scalar(&Value::Number(Number::from_f64(*value.inner()).ok_or_else(not_json)?));
        } else if let Some(LongList(list)) = value.downcast_ref() {
            self.list(list)?;
        } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
            self.list(list)?;
        } else if let Some(members) = value.downcast_ref::<EventMap>() {
            self.map(members.iter())?;
        } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
            let members = map.inner().iter().map(|(name, value)| {
                let name = name.inner().downcast_ref::<CelString<'_>>();
                Some((name?.inner(), &**value))
            });
            let members: Option<BTreeMap<_, _>> = members.collect();
            let members = members.ok_or_else(|| JsonError::Other("the name of a member is not text".to_owned()))?;
            self.map(members.into_iter())?;
        } else {
            return Err(JsonError::Other(format!("JSON has no {}", value.get_type().name())));
        }
        Ok(())
    }

    fn list(&mut self, list: &CelList<'_>) -> Result<(), JsonError> {
        self.text.push('[');
        for (at, value) in list.inner().iter().enumerate() {
            if at > 0 {
                self.text.push(',');
            }
            self.write(&**value)?;
        }
        self.text.push(']');
        Ok(())
    }

    fn map<'m>(&mut self, members: impl Iterator<Item = (&'m str, &'m dyn Val)>) -> Result<(), JsonError> {
        self.text.push('{');
        for (at, (name, value)) in members.enumerate() {
            if at > 0 {
                self.text.push(',');
            }
            self.spend(name.len())?;
            self.scalar(&Value::from(name));
            self.text.push(':');
            self.write(value)?;
        }
        self.text.push('}');
        Ok(())
    }
}
