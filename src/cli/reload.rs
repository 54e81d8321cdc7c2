//! When the rules are read anew: at SIGHUP, and when their file has changed. A bad file leaves the old rules in force.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use notify::Watcher;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Global;
use crate::helper::{self, Helper};
use crate::relay::Handle;

/// A file is read when it has been left alone for so long: editors and deployments write it in several steps.
const SETTLED: Duration = Duration::from_secs(1);
/// Something may go on beside it all the time, such as a log: it is looked at no more often than this.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Reads the rules anew whenever it is time to. Ends with the relay's task.
pub(super) fn follow(global: Global, relay: Handle) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("can't listen for SIGHUP")?;
    let (touched, mut touches) = mpsc::channel(1);
    let watcher = watch(&global.config, touched);
    helper::task(Helper::Reload, async move {
        // Watches as long as it lives.
        let _watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(cause) => {
                tracing::warn!(file = %global.config.display(), %cause, "changes of the rules are not noticed: send SIGHUP");
                None
            }
        };
        let mut seen = fingerprint(&global.config).await;
        loop {
            let is_asked = tokio::select! {
                hangup = hangup.recv() => hangup.is_some(),
                Some(()) = touches.recv() => false,
            };
            let now = if is_asked { fingerprint(&global.config).await } else { settled(&global.config, seen).await };
            if is_asked || now != seen {
                seen = now;
                reload(&global, &relay).await;
            }
        }
    });
    Ok(())
}

/// Tells of everything that happens in the directory of the file: it may be replaced, or be a link to another.
fn watch(file: &Path, touched: mpsc::Sender<()>) -> notify::Result<impl Watcher + use<>> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // One that waits stands for all.
            let _ = touched.try_send(());
        }
    })?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(directory, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// What the file has in it once that stays the same, or is again what was seen before.
async fn settled(file: &Path, seen: Option<u64>) -> Option<u64> {
    tokio::time::sleep(BETWEEN_LOOKS).await;
    let mut now = fingerprint(file).await;
    while now != seen {
        tokio::time::sleep(SETTLED).await;
        let then = std::mem::replace(&mut now, fingerprint(file).await);
        if now == then {
            break;
        }
    }
    now
}

/// What the file has in it, as a number; none: it can't be read.
async fn fingerprint(file: &Path) -> Option<u64> {
    let mut hash = DefaultHasher::new();
    tokio::fs::read(file).await.ok()?.hash(&mut hash);
    Some(hash.finish())
}

async fn reload(global: &Global, relay: &Handle) {
    let file: PathBuf = global.config.clone();
    let global = global.clone();
    let loaded = tokio::task::spawn_blocking(move || super::load(&global)).await;
    let done = match loaded {
        Ok(Ok(config)) => relay.reload(config).await,
        Ok(Err(_)) => Err("it has mistakes".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    relay.stats().count_reload(done.is_ok());
    match done {
        Ok(()) => tracing::info!(file = %file.display(), "the new rules are in force"),
        Err(why) => {
            tracing::error!(file = %file.display(), why, "the rules were not reloaded: the old ones stay in force");
        }
    }
}
