//! Reloads the configuration at SIGHUP, and when its file changes or one that it names (`${file:…}`, certificates, keys). If the
//! new configuration has an error, the relay keeps the old one.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use notify::Watcher;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Global;
use crate::config::NamedFiles;
use crate::relay::Handle;
use crate::tasks::{self, TaskKind};

/// A changed file is read once it stays the same for this time: editors and deployments write it in several steps.
const SETTLED: Duration = Duration::from_secs(1);
/// The least time between two checks of the files: another file in the same directory, such as a log, may change all the time.
const CHECK_PAUSE: Duration = Duration::from_millis(100);
/// The files are also checked at this interval, because network file systems do not report changes by other machines.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Starts the task that reloads the configuration; it ends with the runtime. `file` is the state of the configuration file before it
/// was read, so that no later change is missed; `named` are the files that it names.
pub(super) fn watch(global: Global, relay: Handle, file: NamedFiles, named: NamedFiles) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("can't listen for SIGHUP")?;
    let (changed, mut changes) = mpsc::channel(1);
    tasks::spawn(TaskKind::Reload, async move {
        let mut watcher = ConfigWatcher::new(&global.config, file, named, changed);
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_hangup = tokio::select! {
                hangup = hangup.recv() => hangup.is_some(),
                Some(()) = changes.recv() => false,
                _ = checks.tick() => false,
            };
            // A file that changes all the time must not delay a reload by SIGHUP.
            let is_hangup = is_hangup
                || tokio::select! {
                    has_changed = watcher.has_changed() => if has_changed { false } else { continue },
                    hangup = hangup.recv() => hangup.is_some(),
                };
            if is_hangup {
                watcher.record().await;
            }
            if let Some(named) = reload(&global, &relay).await {
                watcher.set_named(named);
            }
        }
    });
    Ok(())
}

/// The configuration file and the files that it names, with their content as it was last read.
struct ConfigWatcher {
    config: PathBuf,
    file: NamedFiles,
    named: NamedFiles,
    stamps: Vec<Option<FileStamp>>,
    changed: mpsc::Sender<()>,
    /// Stops when it is dropped.
    watcher: Option<notify::RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

/// Device, inode, size, mtime and ctime: if they are the same, the content is too.
type FileStamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl ConfigWatcher {
    fn new(config: &Path, file: NamedFiles, named: NamedFiles, changed: mpsc::Sender<()>) -> Self {
        let mut watcher = Self {
            config: config.to_owned(),
            file,
            named: NamedFiles::default(),
            stamps: Vec::new(),
            changed,
            watcher: None,
            folders: BTreeSet::new(),
        };
        watcher.set_named(named);
        watcher
    }

    /// Watches the files that the new configuration names, in their state when it was read.
    fn set_named(&mut self, named: NamedFiles) {
        self.named = named;
        self.stamps.clear();
        let folders = self.folders();
        if self.watcher.is_none() || folders != self.folders {
            let (watcher, error) = watch_folders(&folders, self.changed.clone());
            if let Some(error) = error {
                tracing::warn!(
                    file = %self.config.display(), %error,
                    "can't watch all files of the configuration; changes are noticed up to {} s late",
                    CHECK_INTERVAL.as_secs()
                );
            }
            self.watcher = watcher;
            self.folders = folders;
        }
        // A change since they were read is noticed at the next check.
        let _ = self.changed.try_send(());
    }

    /// The directories to watch. A file may be a link, so its target's directory is one of them.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let folder = |path: &Path| match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let linked = |path: &Path| path.canonicalize().ok().map(|path| folder(&path));
        self.paths().flat_map(|path| std::iter::once(folder(path)).chain(linked(path))).collect()
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.config.as_path()).chain(self.named.paths())
    }

    /// Records the present state of the files. The stamps are taken first: a file that changes while it is read has another stamp at
    /// the next check, and is read again.
    async fn record(&mut self) {
        self.stamps = stamps(self.paths()).await;
        self.file = read_again(&NamedFiles::unread(&self.config)).await;
        self.named = read_again(&self.named).await;
    }

    /// Whether a file has other content than recorded; waits until it no longer changes.
    async fn has_changed(&mut self) -> bool {
        tokio::time::sleep(CHECK_PAUSE).await;
        let mut now = stamps(self.paths()).await;
        if now == self.stamps {
            return false;
        }
        let (file, named) = (self.file.clone(), self.named.clone());
        loop {
            self.record().await;
            if self.file == file && self.named == named {
                return false;
            }
            tokio::time::sleep(SETTLED).await;
            let then = std::mem::replace(&mut now, stamps(self.paths()).await);
            if now == then {
                return true;
            }
        }
    }
}

/// Reports every change in these directories. Also returns the last error.
fn watch_folders(
    folders: &BTreeSet<PathBuf>,
    changed: mpsc::Sender<()>,
) -> (Option<notify::RecommendedWatcher>, Option<notify::Error>) {
    let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // If the channel is full, a check is due anyway.
            let _ = changed.try_send(());
        }
    });
    let mut watcher = match made {
        Ok(watcher) => watcher,
        Err(error) => return (None, Some(error)),
    };
    let watching = |folder: &PathBuf| watcher.watch(folder, notify::RecursiveMode::NonRecursive).err();
    let error = folders.iter().filter_map(watching).last();
    (Some(watcher), error)
}

async fn read_again(files: &NamedFiles) -> NamedFiles {
    let files = files.clone();
    tokio::task::spawn_blocking(move || files.read_again()).await.unwrap_or_default()
}

async fn stamps(paths: impl Iterator<Item = &Path>) -> Vec<Option<FileStamp>> {
    let paths: Vec<_> = paths.map(Path::to_owned).collect();
    let stamped = move || paths.iter().map(|path| stamp(path)).collect();
    tokio::task::spawn_blocking(stamped).await.unwrap_or_default()
}

fn stamp(path: &Path) -> Option<FileStamp> {
    let of = std::fs::metadata(path).ok()?;
    Some((of.dev(), of.ino(), of.size(), (of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec())))
}

/// The files that the new configuration names; `None` if the relay keeps the old one.
async fn reload(global: &Global, relay: &Handle) -> Option<NamedFiles> {
    let file: PathBuf = global.config.clone();
    let global = global.clone();
    let loaded = tokio::task::spawn_blocking(move || super::load(&global)).await;
    let (named, reloaded) = match loaded {
        Ok(Ok(config)) => (Some(config.files.clone()), relay.reload(config).await),
        Ok(Err(_)) => (None, Err("the configuration has errors".to_owned())),
        Err(error) => (None, Err(tasks::blocking_error("reading the configuration", &error))),
    };
    relay.stats().count_reload(reloaded.is_ok());
    match reloaded {
        Ok(()) => {
            tracing::info!(file = %file.display(), "configuration reloaded");
            named
        }
        Err(error) => {
            tracing::error!(file = %file.display(), error, "configuration not reloaded; the relay keeps the old one");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_during_the_start_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("routes.yaml");
        std::fs::write(&config, "old").unwrap();
        let file = NamedFiles::read([config.as_path()]);
        let (changed, _changes) = mpsc::channel(1);
        let mut watcher = ConfigWatcher::new(&config, file.clone(), NamedFiles::default(), changed.clone());
        assert!(!watcher.has_changed().await);
        std::fs::write(&config, "new").unwrap();
        let mut watcher = ConfigWatcher::new(&config, file, NamedFiles::default(), changed);
        assert!(watcher.has_changed().await);
    }

    /// The file changes after it was read, while the large files that it names are read.
    #[tokio::test]
    async fn a_change_during_a_check_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("routes.yaml");
        std::fs::write(&config, "old").unwrap();
        let large: Vec<_> = (0..32).map(|number| dir.path().join(format!("large-{number:02}"))).collect();
        for path in &large {
            std::fs::write(path, vec![0; 1024 * 1024]).unwrap();
        }
        let (file, named) =
            (NamedFiles::read([config.as_path()]), NamedFiles::read(large.iter().map(PathBuf::as_path)));
        let (to_change, once) = (config.clone(), std::sync::Once::new());
        let mut reader = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| event.kind.is_access()) {
                once.call_once(|| std::fs::write(&to_change, "new").unwrap());
            }
        })
        .unwrap();
        reader.watch(&large[0], notify::RecursiveMode::NonRecursive).unwrap();
        let (changed, _changes) = mpsc::channel(1);
        let mut watcher = ConfigWatcher::new(&config, file, named, changed);
        let noticed = watcher.has_changed().await || watcher.has_changed().await;
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "new");
        assert!(noticed, "the file has changed since it was read");
    }
}
