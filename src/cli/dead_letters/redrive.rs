//! `dead-letters redrive`: gives dead letters another chance, by a running relay or, without one, by its next run.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;

use super::{Which, seen};
use crate::cli::ask::{How, Work, no_config};
use crate::cli::place::Place;
use crate::cli::progress::Progress;
use crate::cli::{agreed, counted};
use crate::relay::{self, JobRequest, Redriven};
use crate::spool::{DeadLetters, Subject};

/// Which ones, where to, and how.
#[derive(Debug, clap::Args)]
pub struct Redrive {
    #[command(flatten)]
    which: Which,
    /// To this sink, whatever sink they were for [default: to theirs, or where the rules say]
    #[arg(long, value_name = "SINK")]
    to: Option<String>,
    /// At most so many in that time: 10/s, 100/m
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<f64>,
    /// Only say what would become of them
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

impl Redrive {
    pub(super) fn which(&self) -> &Which {
        &self.which
    }

    pub(super) fn run(&self, letters: &DeadLetters, place: &Place, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        if let Some(to) = &self.to {
            place.knows(&Subject::Sink(to.clone()))?;
        }
        let (count, filter) = seen(letters, &self.which)?;
        let asked = relay::Redrive { filter, to: self.to.clone(), rate: self.rate };
        let what = || format!("redrive {}", counted(count, "dead letter"));
        if count > 0 && !self.dry_run && !self.yes && !agreed(what)? {
            return Err(anyhow!("nothing was redriven"));
        }
        let done = if count == 0 {
            Redriven::default()
        } else if self.dry_run {
            let config = place.config.as_ref().ok_or_else(no_config)?;
            let mut progress = Progress::new("looked at", "dead letter", Some(count));
            relay::rehearse(config, &place.spool, &asked, |done| progress.tick(done))?
        } else {
            let work = Work { job: JobRequest::Redrive(asked), total: count, what: "dead letter" };
            let Some(done) = work.redrive(place, &self.how, out)? else { return Ok(ExitCode::SUCCESS) };
            done
        };
        if self.how.json {
            crate::cli::write_json(&done, out)?;
        } else {
            self.say(&done, out)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn say(&self, done: &Redriven, out: &mut impl Write) -> std::io::Result<()> {
        let word = if self.dry_run { "would be redriven" } else { "redriven" };
        writeln!(out, "{} {word}", counted(done.redriven, "dead letter"))?;
        for (sink, count) in &done.sinks {
            writeln!(out, "  {count} to {sink}")?;
        }
        for (why, count) in &done.left {
            writeln!(out, "{} left: {why}", counted(*count, "dead letter"))?;
        }
        Ok(())
    }
}

/// `10/s`, as a number a second.
fn rate(text: &str) -> Result<f64, String> {
    let wrong = || "expected how many in which time: 10/s, 100/m, 1000/h".to_owned();
    let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
    let number: u32 = number.trim().parse().map_err(|_| wrong())?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    if number == 0 { Err(wrong()) } else { Ok(f64::from(number) / seconds) }
}
