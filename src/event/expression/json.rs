//! What an expression gave, as JSON.

use std::collections::BTreeMap;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::exact::Exact;
use super::values::{LongList, Members};

/// The value as JSON, of at most so many bytes. It is as deep as the message and the expression are.
pub(super) fn of(value: &dyn Val, most: usize) -> Result<Box<RawValue>, String> {
    let mut json = Json { text: String::new(), left: most };
    let written = json.write(value).and_then(|()| {
        RawValue::from_string(json.text).map_err(|error| Problem::Other(format!("it gives no JSON: {error}")))
    });
    written.map_err(|problem| match problem {
        Problem::Large => format!("it gives more than {most} bytes"),
        Problem::Other(problem) => problem,
    })
}

enum Problem {
    Large,
    Other(String),
}

struct Json {
    text: String,
    /// How many bytes may still be written, as they are counted here.
    left: usize,
}

impl Json {
    fn spend(&mut self, bytes: usize) -> Result<(), Problem> {
        self.left = self.left.checked_sub(bytes).ok_or(Problem::Large)?;
        Ok(())
    }

    fn scalar(&mut self, value: &Value) {
        self.text.push_str(&value.to_string());
    }

    fn write(&mut self, value: &dyn Val) -> Result<(), Problem> {
        // What stands between values, and a number.
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
        } else if let Some(Exact(raw)) = value.downcast_ref() {
            self.spend(raw.len())?;
            self.text.push_str(raw);
        } else if let Some(value) = value.downcast_ref::<CelDouble>() {
            let no_number = || Problem::Other(format!("{} is no number in JSON", value.inner()));
            self.scalar(&Value::Number(Number::from_f64(*value.inner()).ok_or_else(no_number)?));
        } else if let Some(LongList(list)) = value.downcast_ref() {
            self.list(list)?;
        } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
            self.list(list)?;
        } else if let Some(members) = value.downcast_ref::<Members>() {
            self.map(members.iter())?;
        } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
            let members = map.inner().iter().map(|(name, value)| {
                let name = name.inner().downcast_ref::<CelString<'_>>();
                Some((name?.inner(), &**value))
            });
            let members: Option<BTreeMap<_, _>> = members.collect();
            let members = members.ok_or_else(|| Problem::Other("a name of a member is not text".to_owned()))?;
            self.map(members.into_iter())?;
        } else {
            return Err(Problem::Other(format!("{} is nothing that JSON has", value.get_type().name())));
        }
        Ok(())
    }

    fn list(&mut self, list: &CelList<'_>) -> Result<(), Problem> {
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

    fn map<'m>(&mut self, members: impl Iterator<Item = (&'m str, &'m dyn Val)>) -> Result<(), Problem> {
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
