//! How a command reaches the relay that has a spool: over its control socket; without one, in the spool itself.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::place::Place;
use crate::admin::control::{self, Answer, Request};
use crate::config::DeadLettersConfig;
use crate::spool;

/// What the spool gets to close its file.
const CLOSING: Duration = Duration::from_secs(20);

/// Who heard it.
pub(super) enum Asked {
    /// The relay that runs.
    Answered(Answer),
    /// No relay runs.
    Nobody,
}

/// Asks the running relay, for as long as it takes.
pub(super) fn ask(place: &Place, request: impl FnOnce(PathBuf) -> Request) -> anyhow::Result<Asked> {
    let socket = control::socket(&place.data_dir);
    // Where there is no file yet, no relay can have it open.
    let Ok(spool) = place.spool.canonicalize() else { return Ok(Asked::Nobody) };
    let answer = control::ask(&socket, &request(spool))
        .with_context(|| format!("the running relay can't be asked at {}", socket.display()))?;
    match answer {
        Some(Answer::Failed(why)) => Err(anyhow!(why)),
        Some(answer) => Ok(Asked::Answered(answer)),
        None => Ok(Asked::Nobody),
    }
}

/// The same, and each line that follows the answer.
pub(super) fn ask_for_lines(
    place: &Place,
    request: impl FnOnce(PathBuf) -> Request,
    each: impl FnMut(&str) -> std::io::Result<()>,
) -> anyhow::Result<Asked> {
    let Ok(spool) = place.spool.canonicalize() else { return Ok(Asked::Nobody) };
    let socket = control::socket(&place.data_dir);
    match control::ask_for_lines(&socket, &request(spool), each)? {
        Some(Answer::Failed(why)) => Err(anyhow!(why)),
        Some(answer) => Ok(Asked::Answered(answer)),
        None => Ok(Asked::Nobody),
    }
}

/// A relay of another version may answer anything.
pub(super) fn unexpected(answer: &Answer) -> anyhow::Error {
    anyhow!("the relay answered something else: {answer:?}")
}

/// The spool, where no relay has it.
pub(super) struct Spool {
    spool: spool::Spool,
    runtime: tokio::runtime::Runtime,
}

impl Spool {
    pub(super) fn open(place: &Place) -> anyhow::Result<Self> {
        // Nothing goes but what was asked for.
        let letters = DeadLettersConfig { keep: None, max_size: u64::MAX, to: None };
        let spool = spool::Spool::open(&place.spool_config(), &letters)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Self { spool, runtime })
    }

    /// Does something with it, and closes it.
    pub(super) fn with<T>(self, work: impl AsyncFnOnce(&spool::Spool) -> Result<T, String>) -> anyhow::Result<T> {
        self.runtime.block_on(async {
            let done = work(&self.spool).await;
            self.spool.close(CLOSING).await;
            done.map_err(|why| anyhow!(why))
        })
    }

    pub(super) fn close(self) {
        self.runtime.block_on(self.spool.close(CLOSING));
    }
}

impl Deref for Spool {
    type Target = spool::Spool;

    fn deref(&self) -> &Self::Target {
        &self.spool
    }
}
