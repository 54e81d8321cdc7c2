//! Checks the protocol of the lease and the fence: as designed it keeps every promise, and each mistake is found.

mod delivery;
mod faults;
mod lease;
mod progress;
mod promises;
mod protocol;
mod state;
mod variants;
mod writes;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use stateright::{Checker, Model};

use protocol::{Protocol, Step};
use variants::Mutant;

const USAGE: &str = "usage: regards-relay-model [deep | trace MUTANT]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let is_passed = match arguments.as_slice() {
        [] => {
            let is_kept = check_designed(&variants::designed());
            let is_free = check_progress();
            check_mutants(variants::mutants()) && is_kept && is_free
        }
        ["deep"] => {
            let is_kept = check_designed(&variants::deep());
            check_mutants(variants::deep_mutants()) && is_kept
        }
        ["trace", name] => show_trace(name),
        _ => {
            eprintln!("{USAGE}");
            false
        }
    };
    if is_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every promise holds in every state, and every situation is reached.
fn check_designed(bounds: &[(&str, Protocol)]) -> bool {
    println!("{:28} {:>9} {:>8}", "protocol as designed", "states", "seconds");
    let mut states = 0;
    let mut found = BTreeSet::new();
    for &(name, protocol) in bounds {
        let begun = Instant::now();
        let checker = protocol.checker().threads(2).spawn_bfs().join();
        let (count, seconds) = (checker.unique_state_count(), begun.elapsed().as_secs_f64());
        println!("{name:28} {count:>9} {seconds:>8.1}");
        states += count;
        found.extend(checker.discoveries().into_keys());
    }
    let mut is_passed = true;
    println!("\n{:34} in {states} states", "promise");
    for promise in promises::promises() {
        let is_broken = found.contains(promise.name);
        println!("{:34} {}", promise.name, if is_broken { "BROKEN" } else { "holds" });
        for &(name, protocol) in bounds.iter().filter(|_| is_broken) {
            if let Some(steps) = shortest(protocol, promise.name) {
                println!("  within the bounds of {name}: {steps:?}");
            }
        }
        is_passed &= !is_broken;
    }
    println!("\nsituation");
    for situation in promises::situations() {
        let is_reached = found.contains(situation.name);
        println!("{:34} {}", situation.name, if is_reached { "reached" } else { "NOT REACHED" });
        is_passed &= is_reached;
    }
    is_passed
}

fn check_progress() -> bool {
    let mut is_passed = true;
    println!("\n{:28} {:>9} {:>6}", "way to the end", "states", "stuck");
    for (name, protocol) in variants::designed().into_iter().filter(|(_, protocol)| protocol.messages > 0) {
        let progress = progress::check(&protocol);
        println!("{name:28} {:>9} {:>6}", progress.states, progress.stuck);
        if let Some(state) = progress.example {
            println!("{state:#?}");
            is_passed = false;
        }
    }
    is_passed
}

/// Each mutant breaks the promise that it is meant to break.
fn check_mutants(mutants: Vec<Mutant>) -> bool {
    let mut is_passed = true;
    println!("\n{:34} {:>9}  broken promises (steps of the shortest trace)", "mutant", "states");
    for Mutant { name, caught_by, protocol } in mutants {
        let checker = Protocol { is_symmetric: true, ..protocol }.checker().threads(2).spawn_bfs().join();
        let broken = checker.discoveries().into_keys();
        let mut broken: Vec<_> =
            broken.filter_map(|promise| Some((promise, shortest(protocol, promise)?.len()))).collect();
        broken.sort_by_key(|(promise, steps)| (*promise != caught_by, *steps));
        let is_found = broken.first().is_some_and(|(promise, _)| *promise == caught_by);
        let broken: Vec<_> = broken.iter().map(|(promise, steps)| format!("{promise} ({steps})")).collect();
        let verdict = if is_found { String::new() } else { format!("NOT FOUND by `{caught_by}` ") };
        println!("{name:34} {:>9}  {verdict}{}", checker.unique_state_count(), broken.join(", "));
        is_passed &= is_found;
    }
    is_passed
}

/// The shortest trace on which this promise is broken.
fn shortest(protocol: Protocol, promise: &'static str) -> Option<Vec<Step>> {
    let only = Protocol { promise: Some(promise), is_symmetric: false, ..protocol };
    let checker = only.checker().spawn_bfs().join();
    Some(checker.discovery(promise)?.into_actions())
}

fn show_trace(name: &str) -> bool {
    let mutants = variants::mutants();
    let Some(mutant) = mutants.iter().find(|mutant| mutant.name == name) else {
        let names: Vec<_> = mutants.iter().map(|mutant| mutant.name).collect();
        eprintln!("there is no mutant {name}; there are: {}", names.join(", "));
        return false;
    };
    let Some(steps) = shortest(mutant.protocol, mutant.caught_by) else { return false };
    println!("{name} breaks the promise \"{}\":", mutant.caught_by);
    for step in steps {
        println!("  {step:?}");
    }
    true
}
