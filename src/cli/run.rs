//! `run`: the relay itself.

use std::net::SocketAddr;
use std::num::NonZero;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Global, reload};
use crate::admin::{self, Admin, control};
use crate::config::{Config, NamedFiles, SinkKind, SourceKind};
use crate::relay::{Relay, RelayError};
use crate::tasks::{self, TaskKind};

/// Some supervisors signal the process and then its group: two signals within this time count as one.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// The environment variable that overrides `admin.listen`.
const ADMIN_LISTEN: &str = "REGARDS_RELAY_ADMIN_LISTEN";

/// The threads of the runtime. Long work (files, the spool, librdkafka, lapin's I/O) has threads of its own; the rest of an event
/// takes microseconds, and handing it from thread to thread costs more than it saves. Shards have nothing to hand over.
fn workers(config: &Config) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    if config.shards().len() > 1 { processors } else { 1 }
}

/// Runs until SIGTERM or SIGINT, or until every recording has ended. A second signal exits at once with code 1. `file` is the state
/// of the configuration file before it was read.
pub fn run(config: Config, file: NamedFiles, global: &Global) -> anyhow::Result<ExitCode> {
    crate::sink::raise_limit();
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(workers(&config)).enable_all().build();
    let runtime = threads.context("can't start threads")?;
    let result = runtime.block_on(relay(config, file, global));
    // A blocking call (the resolver, a file system that hangs) must not delay the exit.
    runtime.shutdown_background();
    match result {
        Err(error) if matches!(error.downcast_ref(), Some(RelayError::LeaseLost)) => Err(start_anew(&error)),
        ended => ended.map(|()| ExitCode::SUCCESS),
    }
}

/// Replaces this process by a new one of the same program, which stands by for the spool. That ends at once all that is in flight, in
/// whatever thread. Returns only if it fails.
fn start_anew(error: &anyhow::Error) -> anyhow::Error {
    tracing::error!(%error, "spool lost; the relay starts anew, and stands by for it");
    crate::telemetry::flush();
    let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let failed = Command::new(program).args(std::env::args_os().skip(1)).exec();
    anyhow::Error::new(failed).context("the relay can't start anew")
}

async fn relay(config: Config, file: NamedFiles, global: &Global) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let relay = Relay::new(config);
    let admin = match admin_address(relay.config())? {
        Some(address) => Some(admin::serve(address, Arc::clone(relay.handle().stats())).await?),
        None => None,
    };
    let _control = control::serve(control::socket(&relay.config().data_dir), relay.handle());
    let _remote = control::serve_remote(&relay.config().spool.store, relay.handle());
    reload::watch(global.clone(), relay.handle(), file, relay.config().files.clone())?;
    log_start(relay.config(), admin.as_ref());
    relay.run(stop).await?;
    tracing::info!("stopped; every message was delivered, spooled, stored as a dead letter or left in its queue");
    Ok(())
}

fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    tasks::spawn(TaskKind::Signals, async move {
        let mut stopping: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            match stopping {
                None => {
                    stop.cancel();
                    tracing::info!("stopping; no more messages are taken, and in-flight deliveries are finished");
                    stopping = Some(Instant::now());
                }
                Some(since) if since.elapsed() < SAME_SIGNAL => {}
                Some(_) => {
                    tracing::warn!(
                        "exiting at once, because of a second signal; unacknowledged messages will be redelivered"
                    );
                    crate::telemetry::flush();
                    std::process::exit(1);
                }
            }
        }
    });
    Ok(())
}

fn admin_address(config: &Config) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = std::env::var(ADMIN_LISTEN).ok().filter(|address| !address.is_empty()) else {
        return Ok(config.admin.listen);
    };
    let address = address.parse().with_context(|| {
        format!("{ADMIN_LISTEN}={address} is not an address and a port: write ADDRESS:PORT, such as 0.0.0.0:9464")
    })?;
    Ok(Some(address))
}

fn log_start(config: &Config, admin: Option<&Admin>) {
    let sources: Vec<_> = config
        .sources
        .iter()
        .map(|source| match &source.kind {
            SourceKind::Amqp(amqp) => format!("{} (queue {})", source.name, amqp.queue),
            SourceKind::Recording(recording) => format!("{} (recording {})", source.name, recording.path.display()),
        })
        .collect();
    let sinks: Vec<_> = config
        .sinks
        .iter()
        .map(|sink| {
            let kind = match &sink.kind {
                SinkKind::Kafka(kafka) => format!("kafka topic {}", kafka.topic.shown()),
                SinkKind::Webhook(_) => "webhook".to_owned(),
                SinkKind::Amqp(amqp) => format!("exchange {}", amqp.exchange),
                SinkKind::File(file) => format!("file {}", file.path.shown()),
                SinkKind::Stdout => "stdout".to_owned(),
            };
            format!("{} ({kind})", sink.name)
        })
        .collect();
    let admin = admin.map_or_else(|| "off".to_owned(), |admin| format!("http://{}", admin.address()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        admin,
        "started: {} to {}, {}; the spool is {}",
        sources.join(", "),
        sinks.join(", "),
        super::plural(config.rules.routes().len(), "route"),
        config.spool.store
    );
}
