//! Nothing is stuck: from every state a way leads on which everything is delivered, without a further fault.
//!
//! This is less than liveness: the way exists, and the relay may still choose another one for ever.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use stateright::Model;

use crate::promises::is_done;
use crate::protocol::Protocol;
use crate::state::State;

pub struct Progress {
    /// States that have a next owner within the bounds.
    pub states: usize,
    /// Of these, no way leads from so many to the end of the work.
    pub stuck: usize,
    pub example: Option<State>,
}

pub fn check(protocol: &Protocol) -> Progress {
    let Graph { states, edges } = explore(protocol);
    let mut reaches: Vec<bool> = states.iter().map(|state| is_done(protocol, state)).collect();
    let mut before = vec![Vec::new(); states.len()];
    for (from, to) in edges {
        before[to].push(from);
    }
    let mut pending: Vec<usize> = (0..states.len()).filter(|at| reaches[*at]).collect();
    while let Some(at) = pending.pop() {
        for from in std::mem::take(&mut before[at]) {
            if !reaches[from] {
                reaches[from] = true;
                pending.push(from);
            }
        }
    }
    let in_bounds = || states.iter().zip(&reaches).filter(|(state, _)| state.database.epoch < protocol.epochs);
    let stuck = || in_bounds().filter(|(_, reaches)| !**reaches).map(|(state, _)| state);
    Progress { states: in_bounds().count(), stuck: stuck().count(), example: stuck().next().cloned() }
}

struct Graph {
    states: Vec<State>,
    /// The steps that are no fault.
    edges: Vec<(usize, usize)>,
}

fn explore(protocol: &Protocol) -> Graph {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut known = HashMap::new();
    let mut graph = Graph { states: Vec::new(), edges: Vec::new() };
    let mut pending = VecDeque::new();
    let mut steps = Vec::new();
    let mut place = |state: State, states: &mut Vec<State>, pending: &mut VecDeque<usize>| {
        *known.entry(hasher.hash_one(&state)).or_insert_with(|| {
            states.push(state);
            pending.push_back(states.len() - 1);
            states.len() - 1
        })
    };
    for state in protocol.init_states() {
        place(state, &mut graph.states, &mut pending);
    }
    while let Some(at) = pending.pop_front() {
        protocol.actions(&graph.states[at], &mut steps);
        for step in steps.drain(..) {
            let Some(next) = protocol.next_state(&graph.states[at], step) else { continue };
            let is_event = next.events_left < graph.states[at].events_left;
            let to = place(next, &mut graph.states, &mut pending);
            if !is_event {
                graph.edges.push((at, to));
            }
        }
    }
    graph
}
