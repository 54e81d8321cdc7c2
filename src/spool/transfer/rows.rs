//! Rows between a file and a database.

use super::Table;
use super::table::{DEAD_LETTERS, DELIVERIES, HEADS};
use crate::spool::reader::DEAD_LETTERS_OF_SHARD;

#[derive(Debug, Clone, PartialEq)]
pub(in crate::spool) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The values of all columns of a table.
pub(in crate::spool) type Row = Vec<Value>;

/// Gives deliveries new ids in the same order, from 1: they are before all that a relay adds to a database later. Dead letters keep their
/// numbers, unless these are those of a shard.
#[derive(Debug, Default)]
pub(super) struct Renumber {
    /// Those of the deliveries, in order.
    deliveries: Vec<i64>,
    last_dead_letter: i64,
}

impl Renumber {
    pub(super) fn apply(&mut self, table: &Table, rows: &mut [Row]) {
        for row in rows {
            if std::ptr::eq(table, &raw const DELIVERIES) {
                if let [Value::Integer(id), digest, ..] = row.as_mut_slice() {
                    self.deliveries.push(*id);
                    *id = self.place(*id);
                    if let Value::Integer(first) = digest {
                        *first = self.place(*first);
                    }
                }
            } else if std::ptr::eq(table, &raw const HEADS) {
                if let Some(Value::Integer(id)) = row.first_mut() {
                    *id = self.place(*id);
                }
            } else if std::ptr::eq(table, &raw const DEAD_LETTERS)
                && let Some(Value::Integer(number)) = row.first_mut()
            {
                if *number > DEAD_LETTERS_OF_SHARD {
                    *number = self.last_dead_letter + 1;
                }
                self.last_dead_letter = *number;
            }
        }
    }

    /// The new id of a delivery. One that is gone has the place where it was.
    fn place(&self, id: i64) -> i64 {
        i64::try_from(self.deliveries.partition_point(|known| *known < id) + 1).unwrap_or(i64::MAX)
    }

    /// The highest number of a dead letter that was copied.
    pub(super) fn last_dead_letter(&self) -> i64 {
        self.last_dead_letter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(table: &Table, rows: &[(i64, Value)], renumber: &mut Renumber) -> Vec<(Value, Value)> {
        let mut rows: Vec<Row> = rows.iter().map(|(id, other)| vec![Value::Integer(*id), other.clone()]).collect();
        renumber.apply(table, &mut rows);
        rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
    }

    #[test]
    fn ids_stay_in_order_and_references_follow() {
        let mut renumber = Renumber::default();
        let (integer, none) = (Value::Integer, || Value::Null);
        let deliveries = [(7, none()), (1 << 41, integer(7)), ((1 << 41) + 5, integer(1 << 41))];
        assert_eq!(
            numbers(&DELIVERIES, &deliveries, &mut renumber),
            [(integer(1), none()), (integer(2), integer(1)), (integer(3), integer(2))]
        );
        assert_eq!(numbers(&HEADS, &[(1 << 41, none())], &mut renumber), [(integer(2), none())]);
        let letters = [(3, none()), (2_000_000_001, none()), (2_000_000_007, none())];
        assert_eq!(
            numbers(&DEAD_LETTERS, &letters, &mut renumber),
            [(integer(3), none()), (integer(4), none()), (integer(5), none())]
        );
        assert_eq!(renumber.last_dead_letter(), 5);
    }
}
