//! Instructions and allocations of one event. They are equal in every run and depend little on the machine, so that a change that
//! makes the relay slower is noticed before it is released.
//!
//! They are compared with `figures.txt`; more is a failure. `UPDATE_EXPECT=1` rewrites the file.

// A benchmark that panics has failed.
#![allow(clippy::expect_used, clippy::panic)]

mod figures;
mod instructions;
mod pieces;
mod typical;

use figures::{Figure, Figures};
use pieces::Piece;

/// Repetitions of a piece. Work that is done once is in both counts and cancels out in their difference.
const FEW: u64 = 1_000;
const MANY: u64 = 3_000;

fn main() {
    if let Some((piece, times)) = instructions::asked_for() {
        return piece.run(times);
    }
    // `cargo test --benches` only builds; `cargo bench` passes `--bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let counted = Figures(Piece::ALL.map(|piece| (piece.name().to_owned(), count(piece))).into());
    println!("{counted}");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        counted.write();
    } else if let Err(problems) = counted.compare(&Figures::read()) {
        eprintln!("{problems}");
        std::process::exit(1);
    }
}

fn count(piece: Piece) -> Figure {
    let allocations = |times| allocation_counter::measure(|| piece.run(times)).count_total;
    let of_one = |count: fn(Piece, u64) -> u64| (count(piece, MANY) - count(piece, FEW)) / (MANY - FEW);
    // Rounded: a table that grows now and then counts as a fraction of an allocation.
    let allocations = (allocations(MANY) - allocations(FEW) + (MANY - FEW) / 2) / (MANY - FEW);
    Figure { instructions: of_one(instructions::count), allocations }
}
