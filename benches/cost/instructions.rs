//! Counts instructions with valgrind's callgrind in a separate process.

use std::process::Command;

use super::pieces::Piece;

/// The environment variable with the piece and its repetitions.
const PIECE: &str = "COST_OF";
const TIMES: &str = "COST_TIMES";

/// The piece and repetitions of this process, if another one counts its instructions.
pub fn asked_for() -> Option<(Piece, u64)> {
    let name = std::env::var(PIECE).ok()?;
    let piece = Piece::ALL.into_iter().find(|piece| piece.name() == name).expect("a piece");
    Some((piece, std::env::var(TIMES).ok()?.parse().expect("a number")))
}

/// Instructions of a process that repeats the piece, including its start and end.
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
