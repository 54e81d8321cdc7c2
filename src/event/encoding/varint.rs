//! Integers of variable length, as Avro and Protobuf have them: seven bits a byte, the lowest first.

pub(super) fn write_unsigned(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        // The lowest eight bits, of which the highest says that more follow.
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Zigzag: small negative numbers are short, too.
pub(super) fn write_signed(value: i64, out: &mut Vec<u8>) {
    write_unsigned(((value << 1) ^ (value >> 63)).cast_unsigned(), out);
}

/// The length of something in memory, as Avro writes it.
pub(super) fn write_length(length: usize, out: &mut Vec<u8>) {
    // No allocation is longer than `isize::MAX`.
    write_signed(i64::try_from(length).unwrap_or(i64::MAX), out);
}
