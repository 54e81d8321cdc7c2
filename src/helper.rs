//! The threads and tasks of the relay. One that dies of a panic ends the relay with an error, so that whoever supervises the
//! process starts it anew: without it the relay would live and not do its work.
//!
//! Nothing else starts a thread or a task (a test reads the source). What blocks for a moment and whose failure is an answer
//! (`spawn_blocking`: to read a file, to look into the spool) is none of these: who asked hears of its panic.

use std::future::poll_fn;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Names one of [`Helper::ALL`], which then panics in its work: a fault on purpose, as those in [`mutant`](crate::mutant). `Source@20`
/// lets it do its work twenty times before.
pub const VARIABLE: &str = "REGARDS_RELAY_DEATH";

/// What a thread or a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helper {
    /// Consumes a source.
    Source,
    /// Owns a sink's deliveries.
    Dispatcher,
    /// Closes the client of a sink that another has taken the place of.
    RetiredSink,
    /// Owns the connection of an AMQP sink.
    AmqpWorker,
    /// Makes one request to a webhook.
    WebhookAttempt,
    /// Owns the producer of a Kafka sink.
    KafkaSupervisor,
    /// Hears the delivery reports of a Kafka sink.
    KafkaReports,
    /// Writes the lines of a file or of standard output.
    LineWriter,
    /// Writes to the spool.
    SpoolWriter,
    /// Writes the log.
    Log,
    /// Accepts connections to the admin listener.
    Admin,
    /// Answers one request to the admin listener.
    AdminRequest,
    /// Accepts connections to the control socket.
    Control,
    /// Answers one request to the control socket.
    ControlRequest,
    /// Waits for the signals that stop the relay.
    Signals,
    /// Waits for changes of the configuration.
    Reload,
}

impl Helper {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Source,
        Self::Dispatcher,
        Self::RetiredSink,
        Self::AmqpWorker,
        Self::WebhookAttempt,
        Self::KafkaSupervisor,
        Self::KafkaReports,
        Self::LineWriter,
        Self::SpoolWriter,
        Self::Log,
        Self::Admin,
        Self::AdminRequest,
        Self::Control,
        Self::ControlRequest,
        Self::Signals,
        Self::Reload,
    ];

    /// What [`VARIABLE`] calls it.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Panics where it was asked for this one. Never, in a release build.
    #[expect(clippy::missing_panics_doc, reason = "that is what it is for")]
    pub fn die_if_asked(self) {
        let is_asked = cfg!(debug_assertions)
            && ASKED_FOR.is_some_and(|(asked, after)| asked == self && WORKED.fetch_add(1, Relaxed) >= after);
        assert!(!is_asked, "this relay is broken on purpose: {VARIABLE}={self:?}");
    }
}

/// Which, and how often it works before.
static ASKED_FOR: LazyLock<Option<(Helper, u64)>> = LazyLock::new(|| {
    let asked = std::env::var(VARIABLE).ok()?;
    let (name, after) = asked.split_once('@').unwrap_or((&asked, "0"));
    let helper = Helper::ALL.into_iter().find(|helper| helper.name() == name)?;
    Some((helper, after.parse().ok()?))
});

/// How often the one that was asked for has worked.
static WORKED: AtomicU64 = AtomicU64::new(0);

/// The first that died.
static DEAD: LazyLock<watch::Sender<Option<Helper>>> = LazyLock::new(|| watch::Sender::new(None));

/// As soon as one has died: which.
pub async fn death() -> Helper {
    let mut dead = DEAD.subscribe();
    // The sender lives as long as the process.
    match dead.wait_for(Option::is_some).await.ok().and_then(|dead| *dead) {
        Some(dead) => dead,
        None => std::future::pending().await,
    }
}

/// Starts a thread of that name.
pub fn thread(
    helper: Helper,
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(move || {
        let _watch = Watch(helper);
        work();
    })
}

/// Starts a task.
pub fn task<T: Send + 'static>(helper: Helper, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(watched(helper, work))
}

/// The same work, for a task that its owner starts.
pub fn watched<T>(helper: Helper, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let watch = Watch(helper);
    let mut work = Box::pin(work);
    poll_fn(move |context| {
        // All of it belongs to the work: a field alone would leave the rest behind.
        let Watch(helper) = &watch;
        helper.die_if_asked();
        work.as_mut().poll(context)
    })
}

/// Tells of a panic while it is dropped.
struct Watch(Helper);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The first one is the cause of the others.
            DEAD.send_if_modified(|dead| dead.replace(dead.unwrap_or(self.0)).is_none());
        }
    }
}
