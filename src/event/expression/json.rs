//! What an expression gave, as JSON.

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::{Map, Number, Value};

use super::values::{LongList, Members};

/// The value as JSON, of at most so many bytes. It is as deep as the message and the expression are.
pub(super) fn of(value: &dyn Val, most: usize) -> Result<Value, String> {
    let mut left = most;
    convert(value, &mut left).map_err(|problem| match problem {
        Problem::Large => format!("it gives more than {most} bytes"),
        Problem::Other(problem) => problem,
    })
}

enum Problem {
    Large,
    Other(String),
}

fn convert(value: &dyn Val, left: &mut usize) -> Result<Value, Problem> {
    let mut spend = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or(Problem::Large)?;
        Ok(())
    };
    // What stands between values, and a number.
    spend(8)?;
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        spend(text.inner().len())?;
        return Ok(Value::String(text.inner().to_owned()));
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok(Value::Null);
    }
    if let Some(value) = value.downcast_ref::<CelBool>() {
        return Ok(Value::Bool(*value.inner()));
    }
    if let Some(value) = value.downcast_ref::<CelInt>() {
        return Ok((*value.inner()).into());
    }
    if let Some(value) = value.downcast_ref::<CelUInt>() {
        return Ok((*value.inner()).into());
    }
    if let Some(value) = value.downcast_ref::<CelDouble>() {
        let number = Number::from_f64(*value.inner());
        return number
            .map(Value::Number)
            .ok_or_else(|| Problem::Other(format!("{} is no number in JSON", value.inner())));
    }
    let list = value.downcast_ref::<LongList>().map(|list| &*list.0);
    if let Some(list) = list {
        return list.inner().iter().map(|value| convert(&**value, left)).collect();
    }
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        return list.inner().iter().map(|value| convert(&**value, left)).collect();
    }
    if let Some(members) = value.downcast_ref::<Members>() {
        return members
            .iter()
            .map(|(name, value)| member(name, value, left))
            .collect::<Result<Map<_, _>, _>>()
            .map(Value::Object);
    }
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let members = map.inner().iter().map(|(name, value)| {
            let name = name.inner();
            let name = name.downcast_ref::<CelString<'_>>();
            let name = name.ok_or_else(|| Problem::Other("a name of a member is not text".to_owned()))?;
            member(name.inner(), &**value, left)
        });
        return members.collect::<Result<Map<_, _>, _>>().map(Value::Object);
    }
    Err(Problem::Other(format!("{} is nothing that JSON has", value.get_type().name())))
}

fn member(name: &str, value: &dyn Val, left: &mut usize) -> Result<(String, Value), Problem> {
    *left = left.checked_sub(name.len()).ok_or(Problem::Large)?;
    Ok((name.to_owned(), convert(value, left)?))
}
