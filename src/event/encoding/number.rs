//! Numbers of JSON with all their digits: integers, and decimals of a fixed number of digits.

/// The largest number of digits of a decimal: those of 64 words of 64 bits. It also limits exponents.
pub(super) const MAX_DIGITS: usize = 1_233;

/// The integer that the digits are, also if it is written as `3.0` or `1e3`. None: it isn't one, or it is out of range.
pub(super) fn integer(raw: &str) -> Option<i128> {
    if let Ok(integer) = raw.parse() {
        return Some(integer);
    }
    let Scaled::Exact { negative, digits } = scaled(raw, 0)? else { return None };
    let digits = if digits.is_empty() { "0" } else { &digits };
    format!("{}{digits}", if negative { "-" } else { "" }).parse().ok()
}

/// A decimal times ten to the power of its scale.
pub(super) enum Scaled {
    /// An integer; its digits have no leading zeros, and there are none for zero.
    Exact { negative: bool, digits: String },
    /// It has more digits than its scale.
    TooFine,
}

/// `raw` times ten to the power of `scale`. None: it is no number, or has too many digits.
pub(super) fn scaled(raw: &str, scale: usize) -> Option<Scaled> {
    let (mantissa, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let mut digits = format!("{whole}{fraction}");
    // The number of zeros to add at the end, or of digits to remove there.
    let shift = i64::from(exponent) - i64::try_from(fraction.len()).ok()? + i64::try_from(scale).ok()?;
    if digits.bytes().all(|digit| digit == b'0') {
        return Some(Scaled::Exact { negative: false, digits: String::new() });
    }
    if shift < 0 {
        for _ in 0..shift.unsigned_abs() {
            if digits.pop() != Some('0') {
                return Some(Scaled::TooFine);
            }
        }
    } else {
        let zeros = usize::try_from(shift).ok().filter(|zeros| *zeros <= MAX_DIGITS)?;
        digits.extend(std::iter::repeat_n('0', zeros));
    }
    let digits = digits.trim_start_matches('0').to_owned();
    (digits.len() <= MAX_DIGITS).then_some(Scaled::Exact { negative, digits })
}

/// The integer in two's complement, big-endian, in as few bytes as possible. `digits` has at most [`MAX_DIGITS`].
pub(super) fn twos_complement(negative: bool, digits: &str) -> Vec<u8> {
    // The lowest byte first.
    let mut bytes: Vec<u8> = Vec::new();
    for digit in digits.bytes() {
        let mut carry = u16::from(digit.wrapping_sub(b'0'));
        for byte in &mut bytes {
            let [low, high] = (u16::from(*byte) * 10 + carry).to_le_bytes();
            (*byte, carry) = (low, high.into());
        }
        if carry > 0 {
            bytes.push(carry.to_le_bytes()[0]);
        }
    }
    if negative {
        let mut carry = true;
        for byte in &mut bytes {
            (*byte, carry) = (!*byte).overflowing_add(carry.into());
        }
    }
    let sign = if negative { 0xff } else { 0 };
    if bytes.last().is_none_or(|highest| (highest & 0x80 != 0) != negative) {
        bytes.push(sign);
    }
    bytes.reverse();
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_are_recognized_however_they_are_written() {
        for (raw, expected) in [
            ("0", Some(0)),
            ("-0.0", Some(0)),
            ("3.0", Some(3)),
            ("1e3", Some(1000)),
            ("-12.50e1", Some(-125)),
            ("100e-2", Some(1)),
            ("1.5", None),
            ("1e-1", None),
            ("1e99999", None),
            ("170141183460469231731687303715884105728", None),
        ] {
            assert_eq!(integer(raw), expected, "{raw}");
        }
    }

    #[test]
    fn decimals_are_scaled_without_loss() {
        let digits = |raw, scale| match scaled(raw, scale) {
            Some(Scaled::Exact { negative, digits }) => format!("{}{digits}", if negative { "-" } else { "" }),
            Some(Scaled::TooFine) => "too fine".to_owned(),
            None => "none".to_owned(),
        };
        for (raw, scale, expected) in [
            ("12.34", 2, "1234"),
            ("12.340", 2, "1234"),
            ("-0.05", 2, "-5"),
            ("12.345", 2, "too fine"),
            ("1e-3", 2, "too fine"),
            ("5", 3, "5000"),
            ("0.000", 0, ""),
            ("1e1300", 0, "none"),
            ("1_0", 0, "none"),
            ("", 0, "none"),
            ("--1", 0, "none"),
            ("NaN", 0, "none"),
        ] {
            assert_eq!(digits(raw, scale), expected, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn twos_complement_is_that_of_the_machine(value in any::<i128>(), shift in 0_u32..127) {
            let value = value >> shift;
            let bytes = twos_complement(value < 0, &value.unsigned_abs().to_string());
            let mut wide = [if value < 0 { 0xff } else { 0 }; 16];
            let start = 16 - bytes.len().min(16);
            wide[start..].copy_from_slice(&bytes[bytes.len() - (16 - start)..]);
            prop_assert_eq!(i128::from_be_bytes(wide), value);
            // One byte less would be another number.
            let needed = (129 - if value < 0 { value.leading_ones() } else { value.leading_zeros() }).div_ceil(8);
            prop_assert_eq!(bytes.len(), usize::try_from(needed.max(1)).unwrap());
        }
    }
}
