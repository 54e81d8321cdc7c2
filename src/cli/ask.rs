//! How a command reaches the relay that has a spool: over its control socket; without one, in the spool itself.

use std::io::Write;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::WrongInput;
use super::place::Place;
use super::progress::Progress;
use crate::admin::control::{self, Answer, Request};
use crate::config::DeadLettersConfig;
use crate::relay::{JobRequest, Redriven};
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
    ask_and_watch(place, request, |_| {})
}

/// The same; `watch` hears how many are done so far.
fn ask_and_watch(
    place: &Place,
    request: impl FnOnce(PathBuf) -> Request,
    mut watch: impl FnMut(u64),
) -> anyhow::Result<Asked> {
    let socket = control::socket(&place.data_dir);
    // Where there is no file yet, no relay can have it open.
    let Ok(spool) = place.spool.canonicalize() else { return Ok(Asked::Nobody) };
    let answer = control::ask_for_job(&socket, &request(spool), |done, _| watch(done))
        .with_context(|| format!("the running relay can't be asked at {}", socket.display()))?;
    match answer {
        Some(Answer::Failed(why)) => Err(anyhow!(why)),
        Some(answer) => Ok(Asked::Answered(answer)),
        None => Ok(Asked::Nobody),
    }
}

/// How what takes long is done and told.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Let the running relay go on with it, and don't wait for its end
    #[arg(long)]
    detach: bool,
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What is done, to how many of what.
pub(super) struct Work {
    pub(super) job: JobRequest,
    pub(super) total: u64,
    /// One of them.
    pub(super) what: &'static str,
}

impl Work {
    /// For a redrive; none: it was detached, and `out` says so.
    pub(super) fn redrive(self, place: &Place, how: &How, out: &mut impl Write) -> anyhow::Result<Option<Redriven>> {
        match self.run(place, how.detach)? {
            Answer::Redriven(done) => Ok(Some(done)),
            other => detached(&other, how.json, out).map(|()| None),
        }
    }

    /// The same for a purge.
    pub(super) fn purge(self, place: &Place, how: &How, out: &mut impl Write) -> anyhow::Result<Option<u64>> {
        match self.run(place, how.detach)? {
            Answer::Purged(purged) => Ok(Some(purged)),
            other => detached(&other, how.json, out).map(|()| None),
        }
    }

    /// By the relay that runs, or in its spool if none does; shows how far it is.
    fn run(self, place: &Place, detach: bool) -> anyhow::Result<Answer> {
        let Self { job, total, what } = self;
        let mut shown = Progress::new("processed", what, Some(total));
        let request = |spool| Request::Job { spool, job: job.clone(), detach };
        match ask_and_watch(place, request, |done| shown.tick(done))? {
            Asked::Answered(answer) => Ok(answer),
            Asked::Nobody if detach => {
                Err(WrongInput("no relay runs here that could go on with it: leave `--detach` out".to_owned()).into())
            }
            Asked::Nobody if job.needs_config() && place.config.is_none() => Err(no_config().into()),
            Asked::Nobody => {
                let (config, progress) = (place.config.as_ref(), Arc::default());
                let work = async |spool: &spool::Spool| shown.watch(job.run(config, spool, &progress), &progress).await;
                Spool::open(place)?.with(work).map(Answer::from)
            }
        }
    }
}

fn detached(answer: &Answer, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let Answer::Started(id) = answer else { return Err(unexpected(answer)) };
    if json {
        super::write_json(&serde_json::json!({ "job": id }), out)?;
    } else {
        writeln!(
            out,
            "the relay goes on with it as job {id}: `regards-relay jobs` shows it, `regards-relay jobs stop {id}` stops it"
        )?;
    }
    Ok(())
}

pub(super) fn no_config() -> WrongInput {
    WrongInput(
        "without its rules it can't be told what becomes of a dead letter or an orphan: name the file with `--config`"
            .to_owned(),
    )
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
