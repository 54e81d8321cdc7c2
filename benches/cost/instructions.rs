//! Instructions, counted by valgrind's callgrind, in a process of its own.

use std::process::Command;

use super::pieces::Piece;

/// Names the piece that the process is for, and how often.
const PIECE: &str = "COST_OF";
const TIMES: &str = "COST_TIMES";

/// What this process was started for, where another counts its instructions.
pub fn asked_for() -> Option<(Piece, u64)> {
    let name = std::env::var(PIECE).ok()?;
    let piece = Piece::ALL.into_iter().find(|piece| piece.name() == name).expect("a piece");
    Some((piece, std::env::var(TIMES).ok()?.parse().expect("a number")))
}

/// How many a process needs that does it so often, its start and end included.
pub fn count(piece: Piece, times: u64) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let ran = command.env(PIECE, piece.name()).env(TIMES, times.to_string()).output().expect("valgrind");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    collected.expect("a number").1.trim().parse().expect("a number")
}
