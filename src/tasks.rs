//! The threads and tasks of the relay. If one panics, the relay ends with an error, so that its supervisor (systemd,
//! Kubernetes) starts it again: without that thread or task it would run and not do its work.
//!
//! Every thread and task is started here (a test reads the source). The exception is `spawn_blocking` for short work, such as
//! reading a file: its caller waits for the result and gets a panic as an error, which [`blocking_error`] explains.

use std::future::poll_fn;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

/// The environment variable that makes one kind of thread or task panic, for tests: `Source` at once, `Source@20` after it has
/// worked 20 times. Builds with debug assertions only.
pub const VARIABLE: &str = "REGARDS_RELAY_PANIC";

/// What a thread or a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::VariantArray, strum::EnumString, strum::IntoStaticStr)]
pub enum TaskKind {
    Source,
    Dispatcher,
    /// Closes the client of a sink after a reload has replaced it.
    RetiredSink,
    AmqpWorker,
    WebhookAttempt,
    /// Asks a schema registry again for what is known.
    RegistryRefresh,
    /// Asks a schema registry for the schema of a delivery.
    RegistryRequest,
    /// Renews the access tokens of one `oauth2:` block, or the login of a connection that has one.
    TokenRenewal,
    TokenRequest,
    KafkaSupervisor,
    /// Polls the delivery reports of a Kafka sink.
    KafkaReports,
    /// Writes the lines of file and stdout sinks.
    LineWriter,
    SpoolWriter,
    /// Renews the lease of a spool in PostgreSQL.
    LeaseRenewal,
    /// Moves the bytes of a connection to PostgreSQL.
    PostgresConnection,
    JournalWriter,
    /// Raises and resolves alerts.
    Alerts,
    Log,
    /// Accepts connections to the admin listener.
    AdminListener,
    AdminRequest,
    /// Accepts connections to the control socket.
    ControlSocket,
    ControlRequest,
    /// Does what was asked of the relay through the database of its spool.
    RemoteCommands,
    /// Waits for SIGTERM and SIGINT.
    Signals,
    /// Watches the configuration for changes.
    Reload,
}

impl TaskKind {
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The value of [`VARIABLE`] that selects it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Panics if [`VARIABLE`] selects this kind; never in a release build.
    #[expect(clippy::missing_panics_doc, reason = "panicking is its purpose")]
    pub fn panic_if_requested(self) {
        let is_requested = cfg!(debug_assertions)
            && REQUESTED.is_some_and(|(kind, after)| kind == self && WORKED.fetch_add(1, Relaxed) >= after);
        assert!(!is_requested, "this relay panics on purpose, because {VARIABLE}={self:?} is set");
    }
}

/// The kind that panics, and after how many rounds of its work.
static REQUESTED: LazyLock<Option<(TaskKind, u64)>> = LazyLock::new(|| {
    let requested = std::env::var(VARIABLE).ok()?;
    let (name, after) = requested.split_once('@').unwrap_or((&requested, "0"));
    Some((name.parse().ok()?, after.parse().ok()?))
});

static WORKED: AtomicU64 = AtomicU64::new(0);

static FIRST_PANIC: LazyLock<watch::Sender<Option<TaskKind>>> = LazyLock::new(|| watch::Sender::new(None));

/// Waits until a thread or a task panics. Those that panic later may do so because of the first.
pub async fn first_panic() -> TaskKind {
    let mut panicked = FIRST_PANIC.subscribe();
    // The sender lives as long as the process.
    match panicked.wait_for(Option::is_some).await.ok().and_then(|panicked| *panicked) {
        Some(kind) => kind,
        None => std::future::pending().await,
    }
}

/// Starts a thread; `name` is what `top -H` shows.
pub fn spawn_thread(
    kind: TaskKind,
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(move || {
        let _reporter = PanicReporter(kind);
        work();
    })
}

pub fn spawn<T: Send + 'static>(kind: TaskKind, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(supervise(kind, work))
}

/// Wraps `work` for a task that the caller spawns itself, for example into a `JoinSet`.
pub fn supervise<T>(kind: TaskKind, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let reporter = PanicReporter(kind);
    let mut work = Box::pin(work);
    poll_fn(move |context| {
        // The closure has to own the whole reporter: using its field alone would capture only that.
        let PanicReporter(kind) = &reporter;
        kind.panic_if_requested();
        work.as_mut().poll(context)
    })
}

/// Explains why a `spawn_blocking` task has no result; `work` says what the task was for.
#[must_use]
pub fn blocking_error(work: &str, error: &JoinError) -> String {
    if error.is_panic() {
        format!("internal error: {work} failed because of a bug in the relay; please report it ({error})")
    } else {
        format!("{work} was cancelled, because the process ends ({error})")
    }
}

/// Reports a panic of its thread when it is dropped.
struct PanicReporter(TaskKind);

impl Drop for PanicReporter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            FIRST_PANIC.send_if_modified(|first| first.replace(first.unwrap_or(self.0)).is_none());
        }
    }
}
