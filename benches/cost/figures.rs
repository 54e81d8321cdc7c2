//! Compares the counted figures with the recorded ones.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cost/figures.txt");
/// Tolerance in percent of the instructions: another compiler or libc changes them slightly.
const TOLERANCE: u64 = 10;

#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub instructions: u64,
    pub allocations: u64,
}

/// Figures by name of the piece; displayed in the format of the file.
pub struct Figures(pub BTreeMap<String, Figure>);

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<8} {:>12} {:>12}", "", "instructions", "allocations")?;
        for (name, Figure { instructions, allocations }) in &self.0 {
            writeln!(f, "{name:<8} {instructions:>12} {allocations:>12}")?;
        }
        Ok(())
    }
}

impl Figures {
    pub fn read() -> Self {
        let text = fs::read_to_string(FILE).unwrap_or_default();
        let figure = |line: &str| {
            let mut words = line.split_whitespace();
            let name = words.next().expect("a name").to_owned();
            let mut number = || words.next().expect("a number").parse().expect("a number");
            (name, Figure { instructions: number(), allocations: number() })
        };
        Self(text.lines().skip(1).map(figure).collect())
    }

    pub fn write(&self) {
        fs::write(FILE, self.to_string()).expect("written");
    }

    /// The figures that exceed the recorded ones.
    pub fn compare(&self, known: &Self) -> Result<(), String> {
        let mut problems = String::new();
        for (name, now) in &self.0 {
            let Some(before) = known.0.get(name) else {
                let _ = writeln!(problems, "{name}: {FILE} doesn't say what it was");
                continue;
            };
            let figures = [
                ("instructions", now.instructions, before.instructions * (100 + TOLERANCE) / 100),
                ("allocations", now.allocations, before.allocations),
            ];
            for (what, now, most) in figures {
                if now > most {
                    let _ = writeln!(problems, "{name}: {now} {what} an event; at most {most} are expected");
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}
