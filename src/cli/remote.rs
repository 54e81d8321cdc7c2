//! How a command reaches the relays that share a spool: through its database, whatever machine they are on.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::note;
use super::target::Target;
use crate::admin::control::{Command, Response};
use crate::spool::{CommandClient, Instance, NewCommand, NewStep, ShardName, StepState};

/// How often the answers are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a command waits for a relay that takes a shard over.
const PATIENCE: Duration = Duration::from_mins(1);
/// After this time the user is told what the command waits for.
const NOTE_AFTER: Duration = Duration::from_secs(5);

/// What is asked of the owner of one shard.
pub(super) struct Step {
    pub(super) shard: ShardName,
    pub(super) command: Command,
    pub(super) total: u64,
}

/// The way to the relays of a spool that several machines can reach. None: there is none, or the spool is a file.
pub(super) fn connect(target: &Target) -> anyhow::Result<Option<CommandClient>> {
    let has_relay = target.spool.instances()?.iter().any(Instance::is_relay);
    if has_relay { Ok(CommandClient::connect(&target.spool_config.store)?) } else { Ok(None) }
}

/// Asks the owners of the shards, one after the other, and waits for all answers. `progress` gets the number done so far.
pub(super) fn request(
    client: &CommandClient,
    job: Option<&'static str>,
    steps: &[Step],
    mut progress: impl FnMut(u64),
) -> anyhow::Result<Vec<Response>> {
    let command = send(client, job, steps, false)?;
    let mut timeout = TakeoverTimeout::new();
    loop {
        let states = client.steps(command)?;
        if states.len() != steps.len() {
            return Err(anyhow!("the command is no longer in the database: somebody has removed it, or a shard of it"));
        }
        let mut responses = Vec::with_capacity(states.len());
        for state in &states {
            let Some(answer) = &state.answer else { break };
            match serde_json::from_str(answer).context("the relay's answer is not understood")? {
                Response::Failed(error) => return Err(failure(&error, state, &states)),
                response => responses.push(response),
            }
        }
        progress(states.iter().map(|state| state.done).sum());
        match states.get(responses.len()) {
            None => return Ok(responses),
            Some(next) => {
                if let Err(late) = timeout.check(next, responses.len()) {
                    client.stop(command, "")?;
                    return Err(late);
                }
            }
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Sends the steps of a job, and returns its number.
pub(super) fn send(
    client: &CommandClient,
    job: Option<&'static str>,
    steps: &[Step],
    is_detached: bool,
) -> anyhow::Result<i64> {
    let of_step = |step: &Step| {
        let request = serde_json::to_string(&step.command)?;
        Ok(NewStep { shard: step.shard.number, request, total: step.total })
    };
    let steps = steps.iter().map(of_step).collect::<Result<_, serde_json::Error>>()?;
    let sent = client.send(&NewCommand { job, is_detached, steps })?;
    sent.ok_or_else(|| anyhow!("the relays are busy with too many commands: try again when some have ended"))
}

/// The error of a step, with what was done before it.
fn failure(error: &str, failed: &StepState, all: &[StepState]) -> anyhow::Error {
    match all {
        [_] => anyhow!("{error}"),
        [first, ..] if std::ptr::eq(first, failed) => anyhow!("{}: {error}", shown(&failed.source)),
        _ => anyhow!("{}: {error}; what was done for the shards before stays done", shown(&failed.source)),
    }
}

/// Since when the next step has no relay that does it.
struct TakeoverTimeout {
    since: Instant,
    step: usize,
    is_noted: bool,
}

impl TakeoverTimeout {
    fn new() -> Self {
        Self { since: Instant::now(), step: 0, is_noted: false }
    }

    fn check(&mut self, next: &StepState, step: usize) -> anyhow::Result<()> {
        if next.is_running || step != self.step {
            *self = Self { since: Instant::now(), step, is_noted: self.is_noted };
        } else if self.since.elapsed() > PATIENCE {
            return Err(anyhow!(
                "no relay has done it for {} within {} s: `regards-relay status` shows who has which shard; run the command again later",
                shown(&next.source),
                PATIENCE.as_secs()
            ));
        } else if self.since.elapsed() > NOTE_AFTER && !self.is_noted {
            note(&format!("waiting for the relay that has, or takes over, {}", shown(&next.source)));
            self.is_noted = true;
        }
        Ok(())
    }
}

/// A shard in a sentence.
fn shown(source: &str) -> String {
    if source.is_empty() {
        "the shard of all sources with one queue".to_owned()
    } else {
        format!("the shard of source {source}")
    }
}
