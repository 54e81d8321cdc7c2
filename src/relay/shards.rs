//! The shards that this relay has: it takes its share of them, and runs each as a relay of its own.
//!
//! Each shard has its sources, its dispatchers and its tables in the spool; they share the journal and the statistics. A relay has at most
//! ⌈shards / relays⌉ of them: it takes free ones up to that, and gives back one at a time if others have joined. A shard that was lost
//! ends the relay, which starts anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::handle::{Handle, RelayCommand, SetPaused};
use super::running::keep_restart_only_settings;
use super::{CLOSE_TIMEOUT, RelayError, Stats, relay};
use crate::config::{Config, UNDIVIDED};
use crate::delivery::LogLimiter;
use crate::journal::Journal;
use crate::spool::{Component, ShardState, ShardView, ShardWatch, Spool, SpoolError};

/// How long the relay waits until it asks a database again that did not answer.
const RETRY: Duration = Duration::from_secs(1);

type Answer = Result<(), String>;
type ShardTask = BoxFuture<'static, (String, Result<(), RelayError>)>;

/// A shard that this relay has, or is taking.
struct OwnShard {
    stop: CancellationToken,
    commands: mpsc::UnboundedSender<RelayCommand>,
}

struct Shards {
    config: Config,
    handle: Handle,
    journal: Journal,
    own: BTreeMap<String, OwnShard>,
    tasks: FuturesUnordered<ShardTask>,
    /// Commands that wait for the shards. Each gives the configuration that all of them have now, if it was a successful reload.
    answers: FuturesUnordered<BoxFuture<'static, Option<Box<Config>>>>,
    trouble_log: LogLimiter,
}

/// Runs the relay's share of the shards until `stop`.
pub(super) async fn run(
    config: Config,
    handle: Handle,
    mut commands: mpsc::UnboundedReceiver<RelayCommand>,
    stop: CancellationToken,
) -> Result<(), RelayError> {
    let journal = Journal::start(config.journal.as_ref()).map_err(RelayError::Journal)?;
    handle.stats().set_journal(journal.clone());
    handle.set_config(&Arc::new(config.clone()));
    let mut watch = ShardWatch::new(&config.spool.store);
    let instances = Arc::clone(handle.stats().instances());
    let mut shards = Shards {
        config,
        handle,
        journal,
        own: BTreeMap::new(),
        tasks: FuturesUnordered::new(),
        answers: FuturesUnordered::new(),
        trouble_log: LogLimiter::default(),
    };
    let (to, mut views) = mpsc::channel(1);
    // It goes on where it was, whatever else happens.
    let mut watching = std::pin::pin!(async {
        loop {
            let seen = watch.next(&instances).await;
            let has_failed = seen.is_err();
            // The receiver lives as long as this.
            let _ = to.send(seen).await;
            if has_failed {
                tokio::time::sleep(RETRY).await;
            }
        }
    });
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            () = &mut watching => {}
            Some((shard, ended)) = shards.tasks.next() => shards.on_end(&shard, ended)?,
            Some(applied) = shards.answers.next() => shards.on_answer(applied),
            Some(command) = commands.recv() => shards.on_command(command),
            Some(seen) = views.recv() => match seen {
                // A shard that is taken during a reload would not be among those that get the new configuration.
                Ok(_) if !shards.answers.is_empty() => {}
                Ok(view) => shards.balance(&view),
                Err(error) if error.is_passing() => shards.on_trouble(&error),
                Err(error) => {
                    shards.stop().await?;
                    return Err(error.into());
                }
            },
        }
    }
    instances.set_leaving();
    shards.stop().await?;
    shards.journal.close(CLOSE_TIMEOUT).await;
    Ok(())
}

impl Shards {
    fn stats(&self) -> &Arc<Stats> {
        self.handle.stats()
    }

    /// Takes shards up to the relay's share, or gives one back.
    fn balance(&mut self, view: &ShardView) {
        let mut all: BTreeMap<String, Option<String>> =
            self.config.shards().into_iter().map(|shard| (shard.to_owned(), None)).collect();
        all.extend(view.shards.iter().cloned().map(|ShardState { source, owner }| (source, owner)));
        let share = all.len().div_ceil(view.relays.max(1));
        let free: Vec<String> = all
            .iter()
            .filter(|(shard, owner)| owner.is_none() && !self.own.contains_key(*shard))
            .map(|(shard, _)| shard.clone())
            .collect();
        if self.own.len() < share {
            // Relays that start together should not all begin with the same one.
            let first = usize::try_from(std::process::id()).unwrap_or(0) % free.len().max(1);
            let more = share - self.own.len();
            for shard in free.iter().cycle().skip(first).take(more.min(free.len())) {
                self.take(shard);
            }
        } else if self.own.len() > share && free.is_empty() {
            self.give_back_one();
        }
        self.show_owners(&all);
    }

    /// The sources of shards that other relays have stand by.
    fn show_owners(&self, owners: &BTreeMap<String, Option<String>>) {
        let snapshot = self.stats().snapshot();
        for source in self.config.sources.iter().filter(|source| !self.own.contains_key(source.shard())) {
            let owner = owners.get(source.shard()).and_then(Option::as_deref).unwrap_or("another relay");
            if let Some(stats) = snapshot.source(&source.name) {
                stats.set_standby(format!("stands by: {owner} has its shard"));
            }
        }
        if self.own.is_empty() {
            self.stats().set_standby("other relays have all shards of the spool".to_owned());
        }
    }

    fn take(&mut self, shard: &str) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        self.own.insert(shard.to_owned(), OwnShard { stop: stop.clone(), commands });
        let (config, handle, journal) = (self.config.clone(), self.handle.clone(), self.journal.clone());
        let shard = shard.to_owned();
        self.tasks.push(Box::pin(async move {
            let ended = run_shard(config, &shard, &handle, journal, receiver, stop).await;
            (shard, ended)
        }));
    }

    /// One at a time: the next one follows when another relay has taken it.
    fn give_back_one(&mut self) {
        let is_giving_back = self.own.values().any(|own| own.stop.is_cancelled());
        if let Some((shard, own)) = self.own.last_key_value()
            && !is_giving_back
        {
            tracing::info!(source = shown(shard), "another relay has joined: this one gives a shard back");
            own.stop.cancel();
        }
    }

    fn on_end(&mut self, shard: &str, ended: Result<(), RelayError>) -> Result<(), RelayError> {
        self.own.remove(shard);
        ended
    }

    fn on_trouble(&mut self, error: &SpoolError) {
        if let Some(suppressed) = self.trouble_log.allow() {
            tracing::warn!(%error, suppressed, "the relay can't see who has which shard");
        }
        if self.own.is_empty() {
            self.stats().set_start_blocker(error.to_string());
        }
    }

    async fn stop(&mut self) -> Result<(), RelayError> {
        for own in self.own.values() {
            own.stop.cancel();
        }
        while let Some((shard, ended)) = self.tasks.next().await {
            self.on_end(&shard, ended)?;
        }
        Ok(())
    }

    /// Hands a command to the shards that it is about.
    fn on_command(&mut self, command: RelayCommand) {
        match command {
            RelayCommand::SetPaused(request, to) => {
                let own = self.own.iter().filter(|(shard, _)| self.concerns(&request, shard));
                let command = |to| RelayCommand::SetPaused(request.clone(), to);
                let answers = own.map(|(_, own)| ask(&own.commands, command)).collect();
                self.answer(answers, None, to);
            }
            RelayCommand::Reload(mut config, to) => {
                if config.shards() != self.config.shards() {
                    let _ =
                        to.send(Err("the shards of sources can't change while the relay runs: restart it".to_owned()));
                    return;
                }
                keep_restart_only_settings(&self.config, &mut config);
                let commands = self.own.values().map(|own| &own.commands);
                let answers = commands.map(|shard| ask(shard, |to| RelayCommand::Reload(config.clone(), to))).collect();
                self.answer(answers, Some(config), to);
            }
        }
    }

    /// If a shard can't apply a configuration, the relay keeps the one before.
    fn on_answer(&mut self, applied: Option<Box<Config>>) {
        if let Some(config) = applied {
            self.stats().configure(&config);
            self.handle.set_config(&Arc::new((*config).clone()));
            self.config = *config;
        }
    }

    fn concerns(&self, request: &SetPaused, shard: &str) -> bool {
        let is_of_subject = match &request.subject {
            Component::Sink(_) => true,
            Component::Source(name) => self.config.shard_of(name) == shard,
        };
        is_of_subject && request.shard.as_deref().is_none_or(|only| only == shard)
    }

    /// Answers a command when all shards have, with the first error. `config` is that of a reload.
    fn answer(
        &self,
        answers: Vec<oneshot::Receiver<Answer>>,
        config: Option<Box<Config>>,
        to: oneshot::Sender<Answer>,
    ) {
        self.answers.push(Box::pin(async move {
            let mut result = Ok(());
            for answer in answers {
                result = result.and(answer.await.unwrap_or_else(|_| Err("the relay stops".to_owned())));
            }
            let applied = config.filter(|_| result.is_ok());
            // The sender may have stopped waiting.
            let _ = to.send(result);
            applied
        }));
    }
}

/// The shard in the log.
fn shown(shard: &str) -> &str {
    if shard == UNDIVIDED { "all with one queue" } else { shard }
}

fn ask(
    shard: &mpsc::UnboundedSender<RelayCommand>,
    command: impl FnOnce(oneshot::Sender<Answer>) -> RelayCommand,
) -> oneshot::Receiver<Answer> {
    let (to, answer) = oneshot::channel();
    // A shard that has ended drops the command, and with it `to`.
    let _ = shard.send(command(to));
    answer
}

/// Takes a shard and runs it until `stop`. Ends at once, without an error, if another relay was faster.
async fn run_shard(
    config: Config,
    shard: &str,
    handle: &Handle,
    journal: Journal,
    commands: mpsc::UnboundedReceiver<RelayCommand>,
    stop: CancellationToken,
) -> Result<(), RelayError> {
    let stats = handle.stats();
    let (spool, dead_letters) = config.spool_of(shard);
    let spool = match Spool::try_open(&spool, &dead_letters, stats.instances()).await {
        Ok(spool) => Arc::new(spool),
        Err(error) if error.is_passing() => {
            tracing::debug!(%error, source = shown(shard), "a shard was not taken");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    tracing::info!(source = shown(shard), "this relay has taken a shard");
    spool.record_dead_letters(journal.clone());
    stats.add_spool(Arc::clone(&spool));
    let ended = tokio::select! {
        biased;
        () = spool.lease_ended() => Err(RelayError::LeaseLost),
        ended = relay(config, &spool, journal, handle, commands, stop) => ended,
    };
    stats.remove_spool(&spool);
    ended?;
    spool.close(CLOSE_TIMEOUT).await;
    Ok(())
}
