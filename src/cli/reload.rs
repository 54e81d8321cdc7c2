//! When the rules are read anew: at SIGHUP, and when their file has changed, or one that it names (`${file:…}`, certificates, keys).
//! A bad file leaves the old rules in force.

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

/// A file is read when it has been left alone for so long: editors and deployments write it in several steps.
const SETTLED: Duration = Duration::from_secs(1);
/// Something may go on beside it all the time, such as a log: it is looked at no more often than this.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// Files are looked at this often, whatever is noticed: network file systems tell of no changes that others make.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);

/// Reads the rules anew whenever it is time to. Ends with the relay's task. `rules` is their file as it was before the rules in force were
/// read, so that no later change escapes, and `named` are the files that they name.
pub(super) fn follow(global: Global, relay: Handle, rules: NamedFiles, named: NamedFiles) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("can't listen for SIGHUP")?;
    let (touched, mut touches) = mpsc::channel(1);
    tasks::spawn(TaskKind::Reload, async move {
        let mut watched = Watched::new(&global.config, rules, named, touched);
        let mut looks = tokio::time::interval(LOOK_ANYWAY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                hangup = hangup.recv() => hangup.is_some(),
                Some(()) = touches.recv() => false,
                _ = looks.tick() => false,
            };
            // A file that changes again and again must not keep who asks waiting.
            let is_asked = is_asked
                || tokio::select! {
                    has_changed = watched.has_changed() => if has_changed { false } else { continue },
                    hangup = hangup.recv() => hangup.is_some(),
                };
            if is_asked {
                watched.look().await;
            }
            if let Some(named) = reload(&global, &relay).await {
                watched.follow(named);
            }
        }
    });
    Ok(())
}

/// The file of the rules and those that it names, as they were last read.
struct Watched {
    config: PathBuf,
    rules: NamedFiles,
    named: NamedFiles,
    stamps: Vec<Option<FileStamp>>,
    touched: mpsc::Sender<()>,
    /// Watches as long as it lives.
    watcher: Option<notify::RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

/// What is different when a file may have other content: device, inode, size, when it or what is known of it was changed.
type FileStamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Watched {
    fn new(config: &Path, rules: NamedFiles, named: NamedFiles, touched: mpsc::Sender<()>) -> Self {
        let mut watched = Self {
            config: config.to_owned(),
            rules,
            named: NamedFiles::default(),
            stamps: Vec::new(),
            touched,
            watcher: None,
            folders: BTreeSet::new(),
        };
        watched.follow(named);
        watched
    }

    /// These are the files that the rules name now, as they were when the rules were read.
    fn follow(&mut self, named: NamedFiles) {
        self.named = named;
        self.stamps.clear();
        let folders = self.folders();
        if self.watcher.is_none() || folders != self.folders {
            let (watcher, problem) = watch(&folders, self.touched.clone());
            if let Some(cause) = problem {
                tracing::warn!(
                    file = %self.config.display(), %cause,
                    "some changes of the configuration and of the files that it names are noticed up to {} s late",
                    LOOK_ANYWAY.as_secs()
                );
            }
            self.watcher = watcher;
            self.folders = folders;
        }
        // What has changed since they were read is seen at the next look.
        let _ = self.touched.try_send(());
    }

    /// Where something happens when one of the files is replaced: it may be a link to another.
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

    /// Takes the files as they are for those that are read next. Their stamps come first: a file that changes while it is read has
    /// another stamp at the next look, and is read again.
    async fn look(&mut self) {
        self.stamps = stamps(self.paths()).await;
        self.rules = of_file(&self.config).await;
        self.named = again(&self.named).await;
    }

    /// Whether a file has other content than when it was last read, once that stays the same.
    async fn has_changed(&mut self) -> bool {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let mut now = stamps(self.paths()).await;
        if now == self.stamps {
            return false;
        }
        let (rules, named) = (self.rules.clone(), self.named.clone());
        loop {
            self.look().await;
            if self.rules == rules && self.named == named {
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

/// Tells of everything that happens in these folders; with the last problem.
fn watch(
    folders: &BTreeSet<PathBuf>,
    touched: mpsc::Sender<()>,
) -> (Option<notify::RecommendedWatcher>, Option<notify::Error>) {
    let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // One that waits stands for all.
            let _ = touched.try_send(());
        }
    });
    let mut watcher = match made {
        Ok(watcher) => watcher,
        Err(problem) => return (None, Some(problem)),
    };
    let watching = |folder: &PathBuf| watcher.watch(folder, notify::RecursiveMode::NonRecursive).err();
    let problem = folders.iter().filter_map(watching).last();
    (Some(watcher), problem)
}

async fn of_file(file: &Path) -> NamedFiles {
    again(&NamedFiles::unread(file)).await
}

async fn again(files: &NamedFiles) -> NamedFiles {
    let files = files.clone();
    tokio::task::spawn_blocking(move || files.again()).await.unwrap_or_default()
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

/// What the rules name that are in force now; none: the old ones stay.
async fn reload(global: &Global, relay: &Handle) -> Option<NamedFiles> {
    let file: PathBuf = global.config.clone();
    let global = global.clone();
    let loaded = tokio::task::spawn_blocking(move || super::load(&global)).await;
    let (named, done) = match loaded {
        Ok(Ok(config)) => (Some(config.files.clone()), relay.reload(config).await),
        Ok(Err(_)) => (None, Err("it has mistakes".to_owned())),
        Err(error) => (None, Err(error.to_string())),
    };
    relay.stats().count_reload(done.is_ok());
    match done {
        Ok(()) => {
            tracing::info!(file = %file.display(), "the new rules are in force");
            named
        }
        Err(why) => {
            tracing::error!(file = %file.display(), why, "the rules were not reloaded: the old ones stay in force");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_made_while_the_relay_starts_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("routes.yaml");
        std::fs::write(&config, "old").unwrap();
        let rules = NamedFiles::now([config.as_path()]);
        let (touched, _touches) = mpsc::channel(1);
        let mut watched = Watched::new(&config, rules.clone(), NamedFiles::default(), touched.clone());
        assert!(!watched.has_changed().await);
        std::fs::write(&config, "new").unwrap();
        let mut watched = Watched::new(&config, rules, NamedFiles::default(), touched);
        assert!(watched.has_changed().await);
    }

    /// The file changes once it has been read, while the large ones that it names still are.
    #[tokio::test]
    async fn a_change_made_while_the_files_are_looked_at_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("routes.yaml");
        std::fs::write(&config, "old").unwrap();
        let large: Vec<_> = (0..32).map(|number| dir.path().join(format!("large-{number:02}"))).collect();
        for path in &large {
            std::fs::write(path, vec![0; 1024 * 1024]).unwrap();
        }
        let (rules, named) = (NamedFiles::now([config.as_path()]), NamedFiles::now(large.iter().map(PathBuf::as_path)));
        let (changed, once) = (config.clone(), std::sync::Once::new());
        let mut reader = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| event.kind.is_access()) {
                once.call_once(|| std::fs::write(&changed, "new").unwrap());
            }
        })
        .unwrap();
        reader.watch(&large[0], notify::RecursiveMode::NonRecursive).unwrap();
        let (touched, _touches) = mpsc::channel(1);
        let mut watched = Watched::new(&config, rules, named, touched);
        let seen = watched.has_changed().await || watched.has_changed().await;
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "new");
        assert!(seen, "the file has other content than when it was read");
    }
}
