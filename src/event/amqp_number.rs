//! AMQP numbers of other types than 64 bits: a header keeps its type, width, scale and sign from broker to broker.

use std::fmt;

/// A number in a header of another type than `l` and `d`. The letters are the type tags of AMQP 0.9.1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AmqpNumber {
    ShortShortInt(i8),  // b
    ShortShortUInt(u8), // B
    ShortInt(i16),      // s
    ShortUInt(u16),     // u
    LongInt(i32),       // I
    LongUInt(u32),      // i
    Float(f32),         // f
    /// `D`: `value` divided by ten to the power of `scale`. Signed, as Java's and Python's clients write it (AMQP 0.9.1, 4.2.5.5
    /// leaves that open).
    Decimal {
        value: i32,
        scale: u8,
    },
}

// The tags in JSON.
const INT8: &str = "$int8";
const UINT8: &str = "$uint8";
const INT16: &str = "$int16";
const UINT16: &str = "$uint16";
const INT32: &str = "$int32";
const UINT32: &str = "$uint32";
const FLOAT32: &str = "$float32";
const DECIMAL: &str = "$decimal";

impl AmqpNumber {
    /// The value, if the type is an integer.
    #[must_use]
    pub fn integer(self) -> Option<i64> {
        match self {
            Self::ShortShortInt(value) => Some(value.into()),
            Self::ShortShortUInt(value) => Some(value.into()),
            Self::ShortInt(value) => Some(value.into()),
            Self::ShortUInt(value) => Some(value.into()),
            Self::LongInt(value) => Some(value.into()),
            Self::LongUInt(value) => Some(value.into()),
            Self::Float(_) | Self::Decimal { .. } => None,
        }
    }

    /// The tag of the type in JSON.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::ShortShortInt(_) => INT8,
            Self::ShortShortUInt(_) => UINT8,
            Self::ShortInt(_) => INT16,
            Self::ShortUInt(_) => UINT16,
            Self::LongInt(_) => INT32,
            Self::LongUInt(_) => UINT32,
            Self::Float(_) => FLOAT32,
            Self::Decimal { .. } => DECIMAL,
        }
    }

    /// The number after its tag, where that is text; integers are JSON numbers there.
    pub(super) fn tagged_text(self) -> String {
        match self {
            // The shortest digits that give this float; a double of the same value has more.
            Self::Float(value) => value.to_string(),
            other => other.to_string(),
        }
    }

    /// The number of that tag and text; none if the tag is unknown. The error says what is expected.
    pub(super) fn tagged(tag: &str, text: &str) -> Option<Result<Self, &'static str>> {
        Some(match tag {
            INT8 => text.parse().map(Self::ShortShortInt).map_err(|_| "a number from -128 to 127"),
            UINT8 => text.parse().map(Self::ShortShortUInt).map_err(|_| "a number from 0 to 255"),
            INT16 => text.parse().map(Self::ShortInt).map_err(|_| "a number of 16 bits"),
            UINT16 => text.parse().map(Self::ShortUInt).map_err(|_| "a number of 16 bits without a sign"),
            INT32 => text.parse().map(Self::LongInt).map_err(|_| "a number of 32 bits"),
            UINT32 => text.parse().map(Self::LongUInt).map_err(|_| "a number of 32 bits without a sign"),
            FLOAT32 => text.parse().map(Self::Float).map_err(|_| "a number"),
            DECIMAL => decimal(text).ok_or("a decimal of 32 bits, such as \"1.50\""),
            _ => return None,
        })
    }
}

/// All digits; those of a float are the digits of the double of the same value.
impl fmt::Display for AmqpNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Float(value) => f64::from(value).fmt(f),
            Self::Decimal { value, scale } => {
                let sign = if value < 0 { "-" } else { "" };
                let scale = usize::from(scale);
                let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
                match digits.split_at_checked(digits.len() - scale) {
                    Some((whole, fraction)) if scale > 0 => write!(f, "{sign}{whole}.{fraction}"),
                    _ => write!(f, "{sign}{digits}"),
                }
            }
            whole => whole.integer().unwrap_or_default().fmt(f),
        }
    }
}

fn decimal(text: &str) -> Option<AmqpNumber> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = u8::try_from(fraction.len()).ok()?;
    let value = format!("{whole}{fraction}").parse().ok()?;
    Some(AmqpNumber::Decimal { value, scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_keeps_its_sign_and_scale() {
        for (value, scale, text) in [
            (150, 2, "1.50"),
            (-15, 1, "-1.5"),
            (-5, 1, "-0.5"),
            (7, 0, "7"),
            (-7, 3, "-0.007"),
            (0, 2, "0.00"),
            (i32::MIN, 2, "-21474836.48"),
        ] {
            let decimal = AmqpNumber::Decimal { value, scale };
            assert_eq!(decimal.to_string(), text);
            assert_eq!(AmqpNumber::tagged(DECIMAL, text), Some(Ok(decimal)));
        }
        let smallest = AmqpNumber::Decimal { value: 1, scale: 255 };
        assert_eq!(AmqpNumber::tagged(DECIMAL, &smallest.to_string()), Some(Ok(smallest)));
        for text in ["", "-", "1.-5", "1,5", "21474836.48", "1e3"] {
            assert!(AmqpNumber::tagged(DECIMAL, text).is_some_and(|read| read.is_err()), "{text}");
        }
    }
}
