//! Numbers that CEL's integers and doubles can't hold exactly. They are compared and returned with all their digits; calculations
//! use the nearest double, as for JSON numbers with a point.

use std::any::Any;
use std::cmp::Ordering;
use std::sync::Arc;

use cel::ExecutionError;
use cel::common::traits::{Adder, Comparer, Divider, Indexer, Multiplier, Negator, Subtractor};
use cel::common::types::{CelBool, CelDouble, CelInt, CelString, CelUInt, DOUBLE_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};

use super::types::unexpected;
use crate::event::json_value::compare;

#[derive(Debug, Clone)]
pub(super) struct ExactNumber(pub(super) Arc<str>); // the digits as written

impl ExactNumber {
    fn double(&self) -> CelDouble {
        // Too large numbers are infinite.
        CelDouble::from(self.0.parse().unwrap_or(f64::NAN))
    }

    fn compare_with(&self, other: &dyn Val) -> Option<Ordering> {
        if let Some(Self(other)) = other.downcast_ref() {
            return compare(&self.0, other);
        }
        let other = if let Some(int) = other.downcast_ref::<CelInt>() {
            int.inner().to_string()
        } else if let Some(uint) = other.downcast_ref::<CelUInt>() {
            uint.inner().to_string()
        } else {
            let double = *other.downcast_ref::<CelDouble>()?.inner();
            if !double.is_finite() {
                return self.double().inner().partial_cmp(&double);
            }
            format!("{double:e}")
        };
        compare(&self.0, &other)
    }
}

impl Val for ExactNumber {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &DOUBLE_TYPE
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_subtractor<'b, 'v>(&'b self) -> Option<&'b (dyn Subtractor + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_multiplier<'b, 'v>(&'b self) -> Option<&'b (dyn Multiplier + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_divider<'b, 'v>(&'b self) -> Option<&'b (dyn Divider + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_negator<'b, 'v>(&'b self) -> Option<&'b (dyn Negator + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        match other.downcast_ref::<CelString<'_>>() {
            // A condition compares all digits with a text: CEL has no number literal that could hold them.
            Some(text) => *text.inner() == *self.0,
            None => self.compare_with(other) == Some(Ordering::Equal),
        }
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for ExactNumber {}

impl Comparer for ExactNumber {
    fn compare(&self, other: &dyn Val) -> Result<Ordering, ExecutionError> {
        self.compare_with(other).ok_or_else(|| unexpected(other, "a number"))
    }
}

macro_rules! as_double {
    ($($operation:ident $method:ident),*) => {$(
        impl $operation for ExactNumber {
            fn $method<'b, 'v>(&'b self, other: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
            where
                Self: 'v,
            {
                let double = self.double();
                let of_other = other.downcast_ref::<Self>().map(Self::double);
                let result = match &of_other {
                    Some(other) => $operation::$method(&double, other)?.into_owned(),
                    None => $operation::$method(&double, other)?.into_owned(),
                };
                Ok(CowVal::Owned(result))
            }
        }
    )*};
}

as_double!(Adder add, Subtractor sub, Multiplier mul, Divider div);

impl Negator for ExactNumber {
    fn negate<'v>(&self) -> Result<Box<dyn Val + 'v>, ExecutionError> {
        let negative = self.0.strip_prefix('-').map_or_else(|| format!("-{}", self.0), str::to_owned);
        Ok(Box::new(Self(negative.into())))
    }
}

/// The variable that is [`NumberConverter`]. Users can't write this name.
pub(super) const CONVERTER: &str = "@number";

/// Converts the argument of a conversion: `double(x)` is evaluated as `double(@number[x])`. cel's functions take cel's numbers only,
/// so an [`ExactNumber`] becomes the nearest double (infinite if it is too large). Other values stay the same.
#[derive(Debug, Clone)]
pub(super) struct NumberConverter;

static CONVERTER_TYPE: Type = Type::new_unspecified_type("convertible");

impl Val for NumberConverter {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &CONVERTER_TYPE
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for NumberConverter {}

impl Indexer for NumberConverter {
    fn get<'b, 'v>(&'b self, value: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError> {
        Ok(if let Some(exact) = value.downcast_ref::<ExactNumber>() {
            CowVal::owned(exact.double())
        } else if let Some(text) = value.downcast_ref::<CelString<'_>>() {
            CowVal::owned(CelString::from(text.inner().to_owned()))
        } else if let Some(int) = value.downcast_ref::<CelInt>() {
            CowVal::owned(*int)
        } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
            CowVal::owned(*uint)
        } else if let Some(double) = value.downcast_ref::<CelDouble>() {
            CowVal::owned(*double)
        } else if let Some(bool) = value.downcast_ref::<CelBool>() {
            CowVal::owned(*bool)
        } else {
            return Err(unexpected(value, "text or a number"));
        })
    }

    fn steal<'v>(self: Box<Self>, value: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError> {
        Ok(self.get(value)?.into_owned())
    }
}
