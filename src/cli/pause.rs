//! `pause` and `resume`: for a maintenance window, in a running relay or, without one, for its next run.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;

use super::Global;
use super::ask::{Asked, Spool, ask, unexpected};
use super::place::Place;
use crate::admin::control::{Answer, Request};
use crate::delivery::State;
use crate::spool::Subject;

/// What is paused or resumed.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Arguments {
    /// A sink: nothing more goes to it, and what is for it waits in the spool
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// A source: nothing more is taken from it, and its messages wait in their queue
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Pauses it, or resumes it.
pub fn run(global: &Global, arguments: &Arguments, pause: bool) -> anyhow::Result<ExitCode> {
    let (of, what) = match (&arguments.sink, &arguments.source) {
        (Some(sink), _) => (Subject::Sink(sink.clone()), format!("sink {sink}")),
        (None, Some(source)) => (Subject::Source(source.clone()), format!("source {source}")),
        (None, None) => return Err(anyhow!("name a sink or a source")),
    };
    let place = Place::of(global)?;
    place.has_spool()?;
    place.knows(&of)?;
    let request = |spool| {
        if pause { Request::Pause { spool, of: of.clone() } } else { Request::Resume { spool, of: of.clone() } }
    };
    let when = match ask(&place, request)? {
        Asked::Answered(Answer::Done) => "",
        Asked::Answered(other) => return Err(unexpected(&other)),
        Asked::Nobody => {
            let spool = Spool::open(&place)?;
            let kept = State::parse(spool.remembered(&of).as_deref());
            let state = if pause { kept.paused() } else { kept.resumed() };
            spool.remember(of, state.to_json());
            spool.close();
            "; no relay runs: it is so when one starts"
        }
    };
    let word = if pause { "paused" } else { "resumed" };
    // Nobody is there to read it.
    let _ = writeln!(std::io::stderr(), "{what} is {word}{when}");
    Ok(ExitCode::SUCCESS)
}
