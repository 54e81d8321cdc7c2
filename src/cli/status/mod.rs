//! `status` and `jobs`: the state of the running relay.

mod screen;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::screen::Screen;
use super::client::{request, unexpected};
use super::table::{Table, cell};
use super::target::Target;
use super::{Global, note, remote, write_json};
use crate::admin::control::{Command, Response, Status};
use crate::clock::WallTime;
use crate::relay::{JobStatus, STOPPED};
use crate::spool::{CommandClient, RemoteJob};

const WATCH_PAUSE: Duration = Duration::from_secs(2);
/// The time between the two readings whose difference are the rates.
const RATE_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Repeat every 2 s until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Jobs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum JobsCommand {
    /// Stop a job; its changes until then are kept
    Stop {
        /// Number of the job, which `jobs` shows
        #[arg(value_name = "N")]
        id: u64,
    },
}

/// What the relay said, and when.
struct Reading {
    status: Status,
    last_reload_failed: bool,
    taken: Instant,
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let target = Arc::new(Target::find(global)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start threads")?;
    let ended = runtime.block_on(async {
        // Before the first reading, so that Ctrl-C always ends the command properly.
        let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
        let shown = show(&target, arguments, &mut interrupt);
        shown.await
    });
    // A reading may hang: nothing waits for it.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

/// Shows the state once, or until Ctrl-C.
async fn show(target: &Arc<Target>, arguments: &Arguments, interrupt: &mut Signal) -> anyhow::Result<()> {
    let mut view = View { json: arguments.json, in_place: false, blocks: 0 };
    let Some(first) = next(target, Duration::ZERO, interrupt).await else { return Ok(()) };
    let mut last = first?;
    if arguments.json {
        view.write(Ok(&last), None)?;
    }
    if !arguments.watch {
        if !arguments.json {
            let Some(second) = next(target, RATE_PAUSE, interrupt).await else { return Ok(()) };
            view.write(Ok(&second?), Some(&last))?;
        }
        return Ok(());
    }
    view.in_place = io::stdout().is_terminal() && !arguments.json;
    let mut pause = if arguments.json { WATCH_PAUSE } else { RATE_PAUSE };
    while let Some(reading) = next(target, pause, interrupt).await {
        pause = WATCH_PAUSE;
        match reading {
            Ok(reading) => {
                view.write(Ok(&reading), Some(&last))?;
                last = reading;
            }
            // The relay may be restarting.
            Err(error) => view.write(Err(&error), Some(&last))?,
        }
    }
    Ok(())
}

/// The next reading after `pause`; none after Ctrl-C.
async fn next(target: &Arc<Target>, pause: Duration, interrupt: &mut Signal) -> Option<anyhow::Result<Reading>> {
    let target = Arc::clone(target);
    let reading = async {
        tokio::time::sleep(pause).await;
        let read = tokio::task::spawn_blocking(move || read(&target)).await;
        read.unwrap_or_else(|error| Err(error.into()))
    };
    tokio::select! {
        _ = interrupt.recv() => None,
        reading = reading => Some(reading),
    }
}

/// Standard output: one line or block for each reading, or a screen that is redrawn in place.
struct View {
    json: bool,
    in_place: bool,
    blocks: u64,
}

impl View {
    /// An error is shown where it disturbs nothing: in the screen, else on standard error.
    fn write(&mut self, reading: Result<&Reading, &anyhow::Error>, before: Option<&Reading>) -> io::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        let (reading, error) = match (reading, before) {
            (Ok(reading), _) => (reading, None),
            (Err(error), Some(before)) if self.in_place => (before, Some(format!("{error:#}"))),
            (Err(error), _) => {
                note(&format!("{error:#}"));
                return Ok(());
            }
        };
        if self.json {
            write_json(&reading.status, &mut out)?;
            return out.flush();
        }
        let size = self.in_place.then(screen::terminal_size).flatten();
        let before = before.filter(|_| error.is_none());
        let lines = Screen { reading, before, error: error.as_deref(), size }.lines(WallTime::now())?;
        if self.in_place {
            screen::redraw(&lines, self.blocks == 0, &mut out)?;
        } else {
            if self.blocks > 0 {
                writeln!(out)?;
            }
            for line in &lines {
                writeln!(out, "{line}")?;
            }
        }
        self.blocks += 1;
        out.flush()
    }
}

pub fn jobs(global: &Global, arguments: &Jobs) -> anyhow::Result<ExitCode> {
    let target = Target::find(global)?;
    let client = remote::connect(&target)?;
    if let Some(JobsCommand::Stop { id }) = arguments.command {
        if let Some(client) = client {
            return stop(&client, id);
        }
        return match request(&target, Command::StopJob(id))? {
            Some(Response::Done) => Ok(ExitCode::SUCCESS),
            Some(other) => Err(unexpected(&other)),
            None => Err(no_relay(&target)),
        };
    }
    let jobs = match client {
        Some(client) => client.jobs()?.into_iter().map(remote_job).collect(),
        None => read(&target)?.status.jobs,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        for job in &jobs {
            write_json(job, &mut out)?;
        }
    } else {
        write_jobs(&jobs, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Stops a job of the relays that share a spool.
fn stop(client: &CommandClient, id: u64) -> anyhow::Result<ExitCode> {
    let answer = serde_json::to_string(&Response::Failed(STOPPED.to_owned()))?;
    if client.stop(id.cast_signed(), &answer)? {
        return Ok(ExitCode::SUCCESS);
    }
    Err(anyhow!("there is no running job {id}: it has ended, or never existed"))
}

fn remote_job(job: RemoteJob) -> JobStatus {
    let RemoteJob { id, kind, done, total, seconds } = job;
    JobStatus { id: id.unsigned_abs(), kind, state: "running".to_owned(), done, total, seconds }
}

fn write_jobs(jobs: &[JobStatus], out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new(["JOB", "KIND", "DONE", "TOTAL", "SECONDS"]);
    for job in jobs {
        let [id, done, total, seconds] = [job.id, job.done, job.total, job.seconds].map(|number| number.to_string());
        table.row([id, cell(Some(&job.kind)), done, total, seconds], out)?;
    }
    table.finish(out)
}

fn read(target: &Target) -> anyhow::Result<Reading> {
    match request(target, Command::Status)? {
        Some(Response::Status { status, last_reload_failed }) => {
            Ok(Reading { status: *status, last_reload_failed, taken: Instant::now() })
        }
        Some(other) => Err(unexpected(&other)),
        None => Err(no_relay(target)),
    }
}

fn no_relay(target: &Target) -> anyhow::Error {
    // One that cannot be asked has no relay to name.
    let instances = target.spool.instances().unwrap_or_default();
    if let Some((working, lease)) = instances.iter().find_map(|instance| Some((instance, instance.leases.first()?))) {
        let (name, standing_by) = (&working.name, instances.len() - 1);
        return anyhow!(
            "no relay works here: {name} has the spool {} (epoch {}; its lease lasts for {:.1} s), and {standing_by} more stand by; run \
             `regards-relay status` there",
            target.spool,
            lease.epoch,
            lease.remaining.as_secs_f32()
        );
    }
    anyhow!(
        "no relay runs with the spool {} and the data directory {}: start it with `regards-relay run`, or name the running relay's \
         configuration with `--config` and its data directory with `--data-dir`",
        target.spool,
        target.data_dir.display()
    )
}
