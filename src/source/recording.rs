//! The `recording` source: samples from a file, one captured message a line.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{BLOCKING_DELAY, EntryId, Intake, Receipt, Settlement, SourceSignals, SourceStats};
use crate::config::RecordingConfig;
use crate::event::{SourceName, sample};

/// The messages that may be unsettled at once.
const MAX_UNSETTLED_MESSAGES: usize = 1_000;
/// In bytes. A longer line is an error.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// A source that reads a file of samples as often as configured, and then ends.
pub struct RecordingSource {
    pub name: SourceName,
    pub config: RecordingConfig,
    pub intake: Arc<dyn Intake>,
    pub stats: Arc<SourceStats>,
    pub signals: Arc<SourceSignals>,
    /// Whether the source is paused: then it continues later.
    pub paused: watch::Receiver<bool>,
}

impl RecordingSource {
    /// Reads until the end or `stop`. Then waits until every message is settled, after a `stop` at most for `grace`.
    pub async fn run(self, stop: CancellationToken, grace: Duration) {
        self.stats.set_consuming();
        let (settle, mut settled) = mpsc::unbounded_channel();
        let mut unsettled = 0_usize;
        let mut entry = 0;
        for _ in 0..self.config.repeat {
            let reading = self.read(&stop, &settle, &mut settled, &mut unsettled, &mut entry);
            if let Err(error) = reading.await {
                tracing::error!(source = %self.name, file = %self.config.path.display(), %error, "the recording can't be read; the source stops reading");
                self.stats.set_down(format!("can't read its recording {}: {error}", self.config.path.display()));
                stop.cancelled().await;
                break;
            }
        }
        let all = async {
            while unsettled > 0 && settled.recv().await.is_some() {
                unsettled -= 1;
            }
        };
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            () = all => tracing::info!(source = %self.name, "recording finished; all of its {entry} messages are settled"),
            () = deadline => {}
        }
    }

    async fn read(
        &self,
        stop: &CancellationToken,
        settle: &mpsc::UnboundedSender<Settlement>,
        settled: &mut mpsc::UnboundedReceiver<Settlement>,
        unsettled: &mut usize,
        entry: &mut u64,
    ) -> std::io::Result<()> {
        let mut paused = self.paused.clone();
        let mut lines = Lines::open(&self.config.path).await?;
        while let Some((number, line)) = lines.next().await? {
            if stop.run_until_cancelled(paused.wait_for(|paused| !paused)).await.is_none() {
                return Ok(());
            }
            let message = sample::parse(&line, &self.name).map_err(|error| invalid(number, &error))?;
            self.stats.set_head_since(Some(std::time::Instant::now()));
            while *unsettled >= MAX_UNSETTLED_MESSAGES || (*unsettled > 0 && !settled.is_empty()) {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    one = settled.recv() => *unsettled -= usize::from(one.is_some()),
                    () = tokio::time::sleep(BLOCKING_DELAY) => self.signals.request_spill(EntryId(*entry)),
                }
            }
            self.stats.set_head_since(None);
            *unsettled += 1;
            *entry += 1;
            self.intake
                .accept(message, Receipt::with_signals(EntryId(*entry), settle.clone(), Arc::clone(&self.signals)));
        }
        Ok(())
    }
}

fn invalid(line: usize, error: &dyn std::fmt::Display) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("line {line}: {error}"))
}

/// The lines of a file that are not blank, with their numbers.
struct Lines {
    file: BufReader<tokio::fs::File>,
    number: usize,
}

impl Lines {
    async fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: BufReader::new(tokio::fs::File::open(path).await?), number: 0 })
    }

    async fn next(&mut self) -> std::io::Result<Option<(usize, String)>> {
        use tokio::io::AsyncReadExt;
        loop {
            let mut line = String::new();
            self.number += 1;
            if (&mut self.file).take(MAX_LINE).read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            if line.len() as u64 >= MAX_LINE {
                return Err(invalid(self.number, &format!("it is longer than {MAX_LINE} bytes")));
            }
            if !line.trim().is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }
}
