//! Reads each sink with an independent client during the run, and keeps no body.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};

use super::alerts::Alerts;
use super::digests::Digests;
use super::plan::{Plan, Sink};
use super::publisher::Progress;
use super::taken::Taken;
use crate::support::VHost;
use crate::support::kafka::Reader;

/// Bytes per read of a file.
const CHUNK: u64 = 4 << 20;
/// Records per read of the topic.
const RECORDS: usize = 5_000;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// Unacknowledged messages of the consumer at the AMQP sink's queue.
const PREFETCH: u16 = 2_000;

/// The message that ends [`empty_queue`].
pub const END: &[u8] = b"the end";

/// What each sink received so far.
#[derive(Default)]
pub struct Shelves {
    /// In the order of [`Sink::ALL`].
    taken: [Mutex<Taken>; Sink::ALL.len()],
    digests: Mutex<Digests>,
    alerts: Mutex<Alerts>,
}

impl Shelves {
    /// The events that one sink received so far.
    pub fn of(&self, sink: Sink) -> std::sync::MutexGuard<'_, Taken> {
        self.taken[sink as usize].lock().expect("no holder panics")
    }

    pub fn digests(&self) -> std::sync::MutexGuard<'_, Digests> {
        self.digests.lock().expect("no holder panics")
    }

    pub fn alerts(&self) -> std::sync::MutexGuard<'_, Alerts> {
        self.alerts.lock().expect("no holder panics")
    }
}

/// Reads the topics and the files.
pub struct Collector<'a> {
    pub plan: Plan,
    pub shelves: &'a Shelves,
    pub progress: &'a Progress,
    pub topic: Reader,
    pub alarms: Reader,
    pub journal: Tail,
    pub archive: Tail,
    pub digests: Tail,
}

impl Collector<'_> {
    /// Reads new records and lines until `work` is done.
    pub async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let done = AtomicBool::new(false);
        let work = async {
            let came_to = work.await;
            done.store(true, SeqCst);
            came_to
        };
        let reading = async {
            while !done.load(SeqCst) {
                let read = self.topic.take(RECORDS).await;
                self.shelve(&read);
                self.read_alarms().await;
                self.read_files(CHUNK);
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        tokio::join!(work, reading).0
    }

    /// Reads the rest after the last delivery.
    pub async fn finish(&mut self) {
        while !self.topic.is_at_end().await {
            let read = self.topic.take(RECORDS).await;
            self.shelve(&read);
        }
        while !self.alarms.is_at_end().await {
            self.read_alarms().await;
        }
        self.read_files(u64::MAX);
    }

    fn shelve(&self, read: &[crate::support::kafka::Record]) {
        let mut taken = self.shelves.of(Sink::Kafka);
        for record in read {
            taken.take_body(self.plan, &record.body);
        }
        self.progress.paid.store(taken.distinct, SeqCst);
    }

    async fn read_alarms(&mut self) {
        let read = self.alarms.take(RECORDS).await;
        let mut alerts = self.shelves.alerts();
        for record in read {
            alerts.take_body(self.plan, &record.body, |key| self.progress.is_young(key));
        }
    }

    fn read_files(&mut self, at_most: u64) {
        let plan = self.plan;
        for (sink, file) in [(Sink::Webhook, &mut self.journal), (Sink::File, &mut self.archive)] {
            let mut taken = self.shelves.of(sink);
            file.read(at_most, |line| taken.take_body(plan, line));
        }
        let (mut taken, mut digests) = (self.shelves.of(Sink::Digest), self.shelves.digests());
        self.digests.read(at_most, |line| digests.take_line(plan, &mut taken, line));
    }
}

/// Reads a growing file by lines.
pub struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    pub fn of(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// Passes on the new complete lines, from about `bytes` bytes per call.
    fn read(&mut self, at_most: u64, mut each: impl FnMut(&[u8])) {
        let Ok(mut file) = File::open(&self.path) else { return };
        let mut added = Vec::new();
        file.seek(SeekFrom::Start(self.read)).expect("the place");
        file.take(at_most).read_to_end(&mut added).expect("the lines");
        let Some(end) = added.iter().rposition(|&byte| byte == b'\n') else { return };
        self.read += end as u64 + 1;
        added[..end].split(|&byte| byte == b'\n').for_each(&mut each);
    }
}

/// Consumes the AMQP sink's queue until [`END`]. Used only after the last fault: a message that the broker redelivers
/// would count as a duplicate.
pub async fn empty_queue(plan: Plan, shelves: &Shelves, vhost: &VHost, queue: &str) {
    let channel = vhost.channel().await;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("a prefetch");
    let (tag, options) = (ShortString::from("torture"), BasicConsumeOptions::default());
    let consumer = channel.basic_consume(queue.into(), tag, options, FieldTable::default()).await;
    let mut consumer = consumer.expect("a consumer");
    loop {
        let delivery = consumer.next().await.expect("a queue that is there").expect("a message");
        delivery.ack(BasicAckOptions::default()).await.expect("acknowledged");
        if delivery.data == END {
            return;
        }
        shelves.of(Sink::Amqp).take_body(plan, &delivery.data);
    }
}
