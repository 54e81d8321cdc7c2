//! The results of all rounds, with ratios within this run: absolute figures of different machines are not comparable.

use std::fmt;
use std::fs;

use serde_json::{Value, json};

/// A figure of a case, with the value of every round.
struct Row {
    case: &'static str,
    figure: &'static str,
    values: Vec<f64>,
}

/// All figures, in order of their first appearance.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds a round's figures of a case.
    pub fn add(&mut self, case: &'static str, figures: &[(&'static str, f64)]) {
        for &(figure, value) in figures {
            match self.0.iter_mut().find(|row| row.case == case && row.figure == figure) {
                Some(row) => row.values.push(value),
                None => self.0.push(Row { case, figure, values: vec![value] }),
            }
        }
    }

    /// JSON with the values of every round.
    pub fn json(&self, bases: &[(&'static str, &'static str)]) -> Value {
        let rows = self.0.iter().map(|row| {
            let [min, median, max] = row.spread();
            let ratio = self.ratio(row, bases).map(|(base, ratio)| json!({ "to": base, "ratio": ratio }));
            let Row { case, figure, values } = row;
            json!({ "case": case, "figure": figure, "min": min, "median": median, "max": max, "compared": ratio, "rounds": values })
        });
        json!({ "machine": machine(), "figures": rows.collect::<Vec<_>>() })
    }

    /// Text: minimum, median and maximum of each figure, and the ratio of its median to that of the base case in `bases`.
    pub fn text(&self, bases: &[(&'static str, &'static str)]) -> String {
        let mut lines = vec![
            machine(),
            String::new(),
            format!("{:<16} {:<28} {:>32}   ratio of the medians", "case", "figure", "min / median / max"),
        ];
        for row in &self.0 {
            let [min, median, max] = row.spread().map(|value| format!("{value:.1}"));
            let ratio = self.ratio(row, bases).map(|(base, ratio)| format!("   {ratio:.2} × {base}"));
            let spread = format!("{min} / {median} / {max}");
            lines.push(format!("{:<16} {:<28} {spread:>32}{}", row.case, row.figure, ratio.unwrap_or_default()));
        }
        lines.join("\n")
    }

    /// The base case of a row, and the ratio of the medians.
    fn ratio(&self, row: &Row, bases: &[(&'static str, &'static str)]) -> Option<(&'static str, f64)> {
        let (_, base) = bases.iter().find(|(case, _)| *case == row.case)?;
        let of = self.0.iter().find(|of| of.case == *base && of.figure == row.figure)?;
        Some((base, row.spread()[1] / of.spread()[1]))
    }
}

impl Row {
    fn spread(&self) -> [f64; 3] {
        let mut all = self.values.clone();
        all.sort_by(f64::total_cmp);
        let middle = all.len() / 2;
        let median =
            if all.len().is_multiple_of(2) { f64::midpoint(all[middle - 1], all[middle]) } else { all[middle] };
        [all[0], median, all[all.len() - 1]]
    }
}

/// The machine, in one line.
fn machine() -> String {
    let file = |path| fs::read_to_string(path).unwrap_or_default();
    let of = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim_start_matches([' ', '\t', ':']).to_owned()
    };
    let processor = of(&file("/proc/cpuinfo"), "model name");
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let (memory, kernel) = (of(&file("/proc/meminfo"), "MemTotal"), file("/proc/sys/kernel/osrelease"));
    format!("{processors} × {processor}, {memory} of memory, Linux {}", kernel.trim())
}

/// A round's figures in one line.
pub struct Line<'a>(pub &'a [(&'static str, f64)]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (figure, value)) in self.0.iter().enumerate() {
            write!(f, "{}{figure} {value:.1}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
