//! The spool is synced before a message is acknowledged. Killing a process keeps the page cache, so the tests read the
//! system calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use futures_util::StreamExt;
use regards_relay::failpoints::{Failpoint, VARIABLE};

use crate::support::{Answer, Response, until, with_webhook};

const ROUTES: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 1h, max_backoff: 1h } }"#,
    },
    "delivery: { shutdown_grace: 1s }",
};

/// Number of messages in a run. Each has its own transaction, with one or two syncs.
const MESSAGES: usize = 100;

/// The first sync that fails. The earlier ones belong to the start, which fails if one of them fails.
const FIRST: usize = 9;
/// After the first failure, one sync in this number fails.
const EVERY: usize = 11;

/// Class 60, method 80 (AMQP 0.9.1, 1.8.3.13), in the byte format of the trace. The delivery tag follows.
const BASIC_ACK: &str = r"\x00\x3c\x00\x50";
const BYTE: usize = r"\x00".len();

/// Prefix of each correlation id. The message number follows, with [`DIGITS`] digits.
const NAME: &str = "traced-";
const DIGITS: usize = 4;

fn name(number: usize) -> String {
    format!("{NAME}{number:0DIGITS$}")
}

/// Returns the numbers of the messages whose data a line of the trace shows as written.
fn messages_in(line: &str, name: &str) -> BTreeSet<usize> {
    let number = |rest: &str| {
        // `\x30\x31` is 01.
        let digits = rest.get(..DIGITS * BYTE)?.replace(r"\x3", "");
        digits.parse().ok()
    };
    line.split(name).skip(1).filter_map(number).collect()
}

/// Writes each byte in the format of the trace.
fn in_hexadecimal(text: &str) -> String {
    text.bytes().fold(String::new(), |hexadecimal, byte| hexadecimal + &format!(r"\x{byte:02x}"))
}

/// The state of the disk, reconstructed from the trace.
struct Disk {
    trace: PathBuf,
    /// Number of bytes of the trace that were read.
    read: usize,
    /// [`NAME`] in the format of the trace.
    name: String,
    /// Calls that were interrupted in the trace by another thread, by thread. The line that ends such a call lacks its
    /// arguments.
    unfinished: BTreeMap<String, String>,
    /// Messages that were written but not yet synced, by file.
    dirty: BTreeMap<String, BTreeSet<usize>>,
    durable: BTreeSet<usize>,
    failed_syncs: usize,
    acknowledged: usize,
    /// Descriptions of the acknowledgements that came too early.
    lost: Vec<String>,
}

impl Disk {
    fn of(trace: PathBuf) -> Self {
        Self {
            trace,
            read: 0,
            name: in_hexadecimal(NAME),
            unfinished: BTreeMap::new(),
            dirty: BTreeMap::new(),
            durable: BTreeSet::new(),
            failed_syncs: 0,
            acknowledged: 0,
            lost: Vec::new(),
        }
    }

    /// Processes the new lines of the trace, without an incomplete last line.
    fn read_trace(&mut self) {
        let mut file = File::open(&self.trace).expect("a trace");
        file.seek(SeekFrom::Start(self.read as u64)).expect("what was read is there");
        let mut more = String::new();
        file.read_to_string(&mut more).expect("a trace is text");
        let Some((whole, _)) = more.rsplit_once('\n') else { return };
        self.read += whole.len() + 1;
        for line in whole.lines() {
            self.take(line);
        }
    }

    fn take(&mut self, line: &str) {
        let thread = line.split(' ').next().unwrap_or_default();
        if line.contains("<unfinished ...>") && line.contains("sync(") {
            self.unfinished.insert(thread.to_owned(), line.to_owned());
        } else if line.contains("sync(") || line.contains("sync resumed>") {
            let begun = self.unfinished.remove(thread).unwrap_or_else(|| line.to_owned());
            self.synced(file(&begun), !line.contains("EIO"));
        } else if line.contains("pwrite64(") {
            let written = messages_in(line, &self.name);
            self.dirty.entry(file(line).to_owned()).or_default().extend(written);
        } else if let Some(at) = line.find(BASIC_ACK) {
            let tag = line.get(at + BASIC_ACK.len()..at + BASIC_ACK.len() + 8 * BYTE).expect("a delivery tag");
            let tag = usize::from_str_radix(&tag.replace(r"\x", ""), 16).expect("a number");
            let lost: Vec<usize> = (0..tag).filter(|number| !self.durable.contains(number)).collect();
            if !lost.is_empty() {
                self.lost.push(format!("{tag} were acknowledged, and these were not on the disk: {lost:?}"));
            }
            self.acknowledged = self.acknowledged.max(tag);
        }
    }

    fn synced(&mut self, file: &str, succeeded: bool) {
        // After a failed sync the data counts as not written, even if a later sync succeeds.
        let dirty = self.dirty.remove(file).unwrap_or_default();
        if succeeded {
            self.durable.extend(dirty);
        } else {
            self.failed_syncs += 1;
        }
    }
}

/// Extracts the file name of a call's descriptor: `pwrite64(7</data/spool.db-wal>, …`.
fn file(line: &str) -> &str {
    let after = line.split_once('<').map(|(_, after)| after);
    after.and_then(|after| after.split_once('>')).map(|(file, _)| file).unwrap_or_default()
}

/// Runs the relay with a failing sink, so that it stores all messages on disk. `inject` selects the syncs that fail.
async fn traced(inject: Option<&str>, failpoint: Option<Failpoint>) -> Disk {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    receiver.answers(|_| Answer::Status(404));
    let home = failpoint.into_iter().fold(home, |home, failpoint| home.with(VARIABLE, failpoint.name()));
    // The first run creates the spool, so that the injected errors do not affect its creation.
    home.start_ready().await.stop().await;
    let trace = home.data("trace").display().to_string();
    let mut strace = vec!["strace", "-D", "-f", "-y", "-xx", "-s", "5000", "-o", &trace];
    strace.extend(["-e", "trace=fsync,fdatasync,pwrite64,sendto,sendmsg,write,writev"]);
    if let Some(inject) = inject {
        strace.extend(["-e", inject]);
    }
    let relay = home.start_under(&strace);
    relay.wait_until_ready().await;
    let mut disk = Disk::of(trace.into());
    for number in 0..MESSAGES {
        regards.publish(&Response::new("t", &name(number), "GRANTED")).await;
        // One message at a time, so that each has its own transaction. With the failpoint that skips syncs, the relay
        // acknowledges the messages all the same.
        until("it to be on the disk, or acknowledged", async || {
            disk.read_trace();
            let is_done = disk.durable.contains(&number) || disk.acknowledged > number;
            if is_done { Ok(()) } else { Err(format!("{} are", disk.durable.len())) }
        })
        .await;
    }
    until("all to be acknowledged", async || {
        disk.read_trace();
        if disk.acknowledged == MESSAGES { Ok(()) } else { Err(disk.acknowledged.to_string()) }
    })
    .await;
    relay.kill();
    disk
}

#[tokio::test]
async fn the_spool_is_synced_before_the_acknowledgement() {
    let disk = traced(None, None).await;
    assert!(disk.lost.is_empty(), "{:#?}", disk.lost);
}

#[tokio::test]
async fn a_spool_without_sync_is_noticed() {
    if cfg!(debug_assertions) {
        let disk = traced(None, Some(Failpoint::NoSync)).await;
        assert!(!disk.lost.is_empty(), "acknowledged, and never synced");
    }
}

/// Over all runs, each of the first two hundred syncs fails once. Ten syncs in a row succeed: recovery needs seven.
#[tokio::test]
async fn a_failed_sync_acknowledges_nothing() {
    let runs = (FIRST..FIRST + EVERY).map(async |first| {
        let disk = traced(Some(&format!("inject=fsync,fdatasync:error=EIO:when={first}+{EVERY}")), None).await;
        assert!(disk.lost.is_empty(), "{:#?}", disk.lost);
        assert!(disk.failed_syncs >= 200 / EVERY, "only {} syncs failed", disk.failed_syncs);
    });
    // More concurrent runs would only slow each other down.
    futures_util::stream::iter(runs).buffer_unordered(4).collect::<()>().await;
}
