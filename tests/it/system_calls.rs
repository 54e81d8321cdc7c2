//! What is acknowledged is on the disk: killing a process keeps the system's cache, so this is shown by the system calls.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use regards_relay::mutant::{Mutant, VARIABLE};

use crate::support::{Answer, Home, Receiver, Regards, Response, until};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { hook: { webhook: { url: "${HOOK}" }, retry: { first: 1h, max: 1h } } }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
delivery: { shutdown_grace: 1s }
"#;

/// How many messages a run has: several transactions, with a sync each.
const MESSAGES: usize = 40;

/// The first sync that fails: those before it are of the start, which they would end.
const FIRST: usize = 9;
/// From there on, each so many-th fails.
const EVERY: usize = 11;

/// Class 60, method 80: AMQP 0.9.1, 1.8.3.13, as the trace writes bytes. The delivery tag follows.
const BASIC_ACK: &str = r"\x00\x3c\x00\x50";
const BYTE: usize = r"\x00".len();

fn name(number: usize) -> String {
    format!("traced-{number:04}-end")
}

/// Each byte as the trace writes it.
fn in_hexadecimal(text: &str) -> String {
    text.bytes().fold(String::new(), |hexadecimal, byte| hexadecimal + &format!(r"\x{byte:02x}"))
}

/// What the trace says was on the disk when.
#[derive(Default)]
struct Disk {
    /// The messages that are written to a file and not synced there.
    dirty: BTreeMap<String, BTreeSet<usize>>,
    durable: BTreeSet<usize>,
    failed_syncs: usize,
    acknowledged: usize,
    /// What was acknowledged too early, in sentences.
    lost: Vec<String>,
}

impl Disk {
    /// Goes through a trace, which may still grow: its last line is left out until it is whole.
    fn replay(trace: &str) -> Self {
        let mut disk = Self::default();
        let names: Vec<String> = (0..MESSAGES).map(|number| in_hexadecimal(&name(number))).collect();
        // A call that another thread's interrupts ends in a line of its own, without its arguments.
        let mut unfinished = BTreeMap::<&str, &str>::new();
        for line in trace.rsplit_once('\n').map_or("", |(whole, _)| whole).lines() {
            let thread = line.split(' ').next().unwrap_or_default();
            if line.contains("<unfinished ...>") && line.contains("sync(") {
                unfinished.insert(thread, line);
            } else if line.contains("sync(") || line.contains("sync resumed>") {
                let begun = unfinished.remove(thread).unwrap_or(line);
                disk.synced(file(begun), !line.contains("EIO"));
            } else if line.contains("pwrite64(") {
                let written = (0..MESSAGES).filter(|number| names.get(*number).is_some_and(|name| line.contains(name)));
                disk.dirty.entry(file(line).to_owned()).or_default().extend(written);
            } else if let Some(at) = line.find(BASIC_ACK) {
                let tag = line.get(at + BASIC_ACK.len()..at + BASIC_ACK.len() + 8 * BYTE).expect("a delivery tag");
                let tag = usize::from_str_radix(&tag.replace(r"\x", ""), 16).expect("a number");
                let lost: Vec<usize> = (0..tag).filter(|number| !disk.durable.contains(number)).collect();
                if !lost.is_empty() {
                    disk.lost.push(format!("{tag} were acknowledged, and these were not on the disk: {lost:?}"));
                }
                disk.acknowledged = disk.acknowledged.max(tag);
            }
        }
        disk
    }

    fn synced(&mut self, file: &str, succeeded: bool) {
        // What could not be synced is as good as not written, even if a later sync succeeds.
        let dirty = self.dirty.remove(file).unwrap_or_default();
        if succeeded {
            self.durable.extend(dirty);
        } else {
            self.failed_syncs += 1;
        }
    }
}

/// The file of a call's descriptor: `pwrite64(7</data/spool.db-wal>, …`.
fn file(line: &str) -> &str {
    let after = line.split_once('<').map(|(_, after)| after);
    after.and_then(|after| after.split_once('>')).map(|(file, _)| file).unwrap_or_default()
}

/// A run in which no message can be delivered, so that all go to the spool; `inject` says which of its syncs the system refuses.
async fn traced(inject: Option<&str>, mutant: Option<Mutant>) -> Disk {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    receiver.answers(|_| Answer::Status(404));
    let home = Home::of(&regards, ROUTES).with("HOOK", &receiver.url());
    let home = mutant.into_iter().fold(home, |home, mutant| home.with(VARIABLE, &mutant.name()));
    // Makes the spool: what fails from here on fails while it is used.
    home.start_ready().await.stop().await;
    let trace = home.data("trace").display().to_string();
    let mut strace = vec!["strace", "-D", "-f", "-y", "-xx", "-s", "5000", "-o", &trace];
    strace.extend(["-e", "trace=fsync,fdatasync,pwrite64,sendto,sendmsg,write,writev"]);
    if let Some(inject) = inject {
        strace.extend(["-e", inject]);
    }
    let relay = home.start_under(&strace);
    relay.wait_until_ready().await;
    for number in 0..MESSAGES {
        regards.publish(&Response::new("t", &name(number), "GRANTED")).await;
        // One after the other, so that each has a transaction of its own.
        until("it to be in the spool", async || match home.waiting("hook") {
            waiting if waiting > number as u64 => Ok(()),
            waiting => Err(waiting.to_string()),
        })
        .await;
    }
    // The trace says it, not the broker: its statistics are older than the last message.
    let disk = until("all to be acknowledged", async || {
        match Disk::replay(&std::fs::read_to_string(&trace).expect("a trace")) {
            disk if disk.acknowledged == MESSAGES => Ok(disk),
            disk => Err(disk.acknowledged.to_string()),
        }
    })
    .await;
    relay.kill();
    disk
}

#[tokio::test]
async fn the_spool_is_synced_before_what_depends_on_it_is_acknowledged() {
    let disk = traced(None, None).await;
    assert!(disk.lost.is_empty(), "{:#?}", disk.lost);
}

#[tokio::test]
async fn a_spool_that_is_not_synced_is_found() {
    if cfg!(debug_assertions) {
        let disk = traced(None, Some(Mutant::NoSync)).await;
        assert!(!disk.lost.is_empty(), "acknowledged, and never synced");
    }
}

/// Each of the first hundred syncs fails in one of these runs; ten in a row succeed: to go on takes seven.
#[tokio::test]
async fn a_sync_that_fails_acknowledges_nothing() {
    let runs = (FIRST..FIRST + EVERY).map(async |first| {
        let disk = traced(Some(&format!("inject=fsync,fdatasync:error=EIO:when={first}+{EVERY}")), None).await;
        assert!(disk.lost.is_empty(), "{:#?}", disk.lost);
        assert!(disk.failed_syncs >= 100 / EVERY, "only {} syncs failed", disk.failed_syncs);
    });
    // More at once would only wait for each other.
    futures_util::stream::iter(runs).buffer_unordered(4).collect::<()>().await;
}
