//! What all rounds came to, with the ratios that count: figures of one run only, since machines differ.

use std::collections::BTreeMap;

use super::case::Case;
use super::run::Figures;

type Figure = (&'static str, fn(&Figures) -> f64);

const FIGURES: [Figure; 4] = [
    ("events/s", |figures| figures.rate),
    ("CPU µs an event", |figures| figures.cpu),
    ("RabbitMQ's CPU µs an event", |figures| figures.rabbit),
    ("peak RSS MiB", |figures| figures.memory),
];

/// Prints minimum, median and maximum of each figure, and the ratio of the medians to those of the case's base.
pub fn print(measured: &BTreeMap<Case, Vec<Figures>>, events: u64) {
    println!("\n{events} events a run; minimum / median / maximum, and the median's ratio to that of another case\n");
    println!("{:<16} {:<28} {:>32} {:>24}", "case", "figure", "min / median / max", "ratio");
    for (case, runs) in measured {
        for (name, figure) in FIGURES {
            let [least, median, most] = spread(runs, figure);
            let base = case.base();
            let ratio = match measured.get(&base) {
                Some(of) if base != *case => format!("{:.3} × {}", median / spread(of, figure)[1], base.name()),
                _ => String::new(),
            };
            println!(
                "{:<16} {name:<28} {:>32} {ratio:>24}",
                case.name(),
                format!("{least:.1} / {median:.1} / {most:.1}")
            );
        }
    }
}

fn spread(runs: &[Figures], figure: fn(&Figures) -> f64) -> [f64; 3] {
    let mut all: Vec<f64> = runs.iter().map(figure).collect();
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    let median = if all.len().is_multiple_of(2) { f64::midpoint(all[middle - 1], all[middle]) } else { all[middle] };
    [all[0], median, all[all.len() - 1]]
}
