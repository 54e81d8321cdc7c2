//! A table for people, with columns as wide as their content.

use std::io::{self, Write};

use crate::telemetry::printable;

/// The content of an empty cell.
const NONE: &str = "-";
/// A longer cell is cut, in characters; `--json` shows all of it.
const MAX_CELL: usize = 100;
/// The widths of the columns are computed for this many rows at a time.
const BATCH: usize = 500;

#[derive(Debug)]
pub(super) struct Table<const COLUMNS: usize> {
    heads: [&'static str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
    widths: Option<[usize; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(heads: [&'static str; COLUMNS]) -> Self {
        Self { heads, rows: Vec::new(), widths: None }
    }

    pub(super) fn row(&mut self, row: [String; COLUMNS], out: &mut impl Write) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() < BATCH { Ok(()) } else { self.finish(out) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the rows that are left.
    pub(super) fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let is_first = self.widths.is_none();
        let mut widths = self.widths.unwrap_or_else(|| self.heads.map(width));
        for row in &self.rows {
            for (width_so_far, cell) in widths.iter_mut().zip(row) {
                *width_so_far = (*width_so_far).max(width(cell));
            }
        }
        self.widths = Some(widths);
        if is_first {
            write_row(&widths, self.heads, out)?;
        }
        for row in self.rows.drain(..) {
            write_row(&widths, row.each_ref().map(String::as_str), out)?;
        }
        Ok(())
    }
}

fn write_row<const COLUMNS: usize>(
    widths: &[usize; COLUMNS],
    cells: [&str; COLUMNS],
    out: &mut impl Write,
) -> io::Result<()> {
    let mut line = String::new();
    for (cell, column) in cells.into_iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', column.saturating_sub(width(cell)) + 2));
    }
    writeln!(out, "{}", line.trim_end())
}

fn width(text: &str) -> usize {
    text.chars().count()
}

pub(super) fn cell(text: Option<&str>) -> String {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return NONE.to_owned() };
    let text = printable(text);
    match text.char_indices().nth(MAX_CELL) {
        // The cut may be inside an escape sequence; its first part is harmless text.
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "…",
        None => text.into_owned(),
    }
}
