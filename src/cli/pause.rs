//! `pause` and `resume` a sink or a source. If no relay runs, the change takes effect at its next start.

use std::process::ExitCode;

use anyhow::anyhow;

use super::client::{OfflineSpool, request, unexpected};
use super::target::Target;
use super::{Global, note, remote};
use crate::admin::control::{Command, Response};
use crate::config::UNDIVIDED;
use crate::delivery::PersistedState;
use crate::spool::{Component, ShardName};

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Arguments {
    /// Sink: while it is paused, its deliveries are spooled
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Source: while it is paused, its messages stay in their queue
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

pub fn run(global: &Global, arguments: &Arguments, pause: bool) -> anyhow::Result<ExitCode> {
    let (subject, what) = match (&arguments.sink, &arguments.source) {
        (Some(sink), _) => (Component::Sink(sink.clone()), format!("sink {sink}")),
        (None, Some(source)) => (Component::Source(source.clone()), format!("source {source}")),
        (None, None) => return Err(anyhow!("name a sink or a source")),
    };
    let target = Target::find(global)?;
    target.require_spool()?;
    target.require(&subject)?;
    let command = if pause { Command::Pause(subject.clone()) } else { Command::Resume(subject.clone()) };
    let when = if ask(&target, &subject, command)? {
        ""
    } else {
        let spool = OfflineSpool::open(&target)?;
        let stored = PersistedState::parse(spool.saved_state(&subject).as_deref());
        let state = if pause { stored.paused() } else { stored.resumed() };
        spool.save_state(&subject, state.to_json().as_deref());
        spool.close();
        "; no relay runs, so this takes effect at the next start"
    };
    let word = if pause { "paused" } else { "resumed" };
    note(&format!("{what} is {word}{when}"));
    Ok(ExitCode::SUCCESS)
}

/// Lets the relays do it. False: none runs.
fn ask(target: &Target, subject: &Component, command: Command) -> anyhow::Result<bool> {
    let responses = match remote::connect(target)? {
        None => request(target, command)?.into_iter().collect(),
        Some(client) => {
            let step = |shard| remote::Step { shard, command: command.clone(), total: 0 };
            let steps: Vec<_> = concerned(target, subject)?.into_iter().map(step).collect();
            remote::request(&client, None, &steps, |_| {})?
        }
    };
    match responses.iter().find(|response| !matches!(response, Response::Done)) {
        Some(other) => Err(unexpected(other)),
        None => Ok(!responses.is_empty()),
    }
}

/// The shards that have to know of it: of a source one, of a sink all.
fn concerned(target: &Target, subject: &Component) -> anyhow::Result<Vec<ShardName>> {
    let mut shards = target.spool.shards()?;
    if let Component::Source(name) = subject {
        let is_divided = shards.iter().any(|shard| shard.source == *name);
        shards.retain(|shard| if is_divided { shard.source == *name } else { shard.source == UNDIVIDED });
    }
    Ok(shards)
}
