//! Valid names of Kafka topics, as `Topic.validate` of Apache Kafka has them.

/// `Topic.MAX_NAME_LENGTH` of Apache Kafka, in bytes.
pub(super) const MAX_LENGTH: usize = 249;

/// Whether the name of a topic may contain this byte.
pub(super) fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Checks the name of a topic. The error says what is wrong with it.
pub fn check_topic(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it is empty".to_owned());
    }
    if name.len() > MAX_LENGTH {
        return Err(format!("it is {} bytes long; a topic's name has at most {MAX_LENGTH}", name.len()));
    }
    if name == "." || name == ".." {
        return Err(format!("{name:?} is not a topic's name"));
    }
    match name.chars().find(|char| !u8::try_from(*char).is_ok_and(is_legal)) {
        Some(other) => Err(format!("{name:?} has {other:?} in it; a topic's name has letters, digits, '.', '_', '-'")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_checked_as_by_kafka() {
        for topic in ["a", "regards.cnes-a_1", "...", &"x".repeat(249)] {
            assert_eq!(check_topic(topic), Ok(()));
        }
        for topic in ["", ".", "..", "a b", "é", "a/b", "a\n", "a\0", &"x".repeat(250)] {
            assert!(check_topic(topic).is_err(), "{topic:?}");
        }
    }
}
