//! What one event costs in instructions and in allocations, which are the same on every run and hardly depend on the machine: so that
//! a change that makes the relay slower is seen before it is in use.
//!
//! Counted beside what `figures.txt` says; more than that is a failure. `UPDATE_EXPECT=1` writes the file anew.

// A figure that can't be had has failed, which says enough.
#![allow(clippy::expect_used, clippy::panic)]

mod figures;
mod instructions;
mod pieces;
mod typical;

use figures::{Figure, Figures};
use pieces::Piece;

/// How often a piece is done. What is done only once is in both, and so in the difference of neither.
const FEW: u64 = 1_000;
const MANY: u64 = 3_000;

fn main() {
    if let Some((piece, times)) = instructions::asked_for() {
        return piece.run(times);
    }
    // `cargo test --benches` only wants to know that it builds; `cargo bench` says so.
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
    // Rounded: a table that grows, now and then, is a part of an allocation.
    let allocations = (allocations(MANY) - allocations(FEW) + (MANY - FEW) / 2) / (MANY - FEW);
    Figure { instructions: of_one(instructions::count), allocations }
}
