//! The faults and their times, drawn from the seed: one sequence for each victim. The sequences run at the same time,
//! so that faults coincide.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use super::settings::Settings;

/// Every fault of the relay and of the services around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of the relay, then a new start.
    Kill,
    /// SIGTERM to the relay, then a new start.
    Terminate,
    /// SIGSTOP, then SIGCONT to the relay.
    Freeze,
    /// The disk of the data directory is full.
    FullDisk,
    /// The disk is full, and `kill -9` stops the relay meanwhile.
    KillOnFullDisk,
    /// The dead letters reach the limit `dead_letters.max_size`.
    FullLetters,
    /// The disk is full while many messages become dead letters, and `kill -9` stops the relay meanwhile.
    LettersOnFullDisk,
    /// A row of the spool becomes unreadable while the relay is down.
    DamagedRow,
    /// A thread or task of the relay panics.
    TaskPanic,
    RabbitRestart,
    RabbitKill,
    RabbitPause,
    /// An administrator closes the source's connection.
    SourceCut,
    /// An administrator closes the AMQP sink's connection.
    SinkCut,
    /// The source receives messages that no AMQP client library can read.
    Poison,
    KafkaRestart,
    KafkaKill,
    KafkaPause,
    WebhookDown,
    WebhookSlow,
    WebhookSilent,
    WebhookFailing,
    WebhookForbidding,
    WebhookBusy,
    WebhookCutting,
    WebhookRefusing,
    /// The relay's wall clock is ten days ahead.
    ClockForward,
    /// The relay's wall clock is a day behind.
    ClockBack,
    PostgresRestart,
    PostgresKill,
    PostgresPause,
    /// PostgreSQL is suspended for longer than the lease of the spool.
    PostgresLongPause,
    /// An administrator ends all connections to PostgreSQL.
    PostgresCut,
    /// The network between the relay that owns the spool and PostgreSQL is gone for longer than the lease.
    OwnerCutFromPostgres,
    /// The same between that relay and the source's broker.
    OwnerCutFromRabbit,
    /// The same between that relay and the webhook.
    OwnerCutFromWebhook,
}

/// The target of a fault. Each victim has one fault at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Relay,
    Rabbit,
    Kafka,
    Webhook,
    Clock,
    Postgres,
    Network,
}

impl Victim {
    pub const ALL: [Self; 7] =
        [Self::Relay, Self::Rabbit, Self::Kafka, Self::Webhook, Self::Clock, Self::Postgres, Self::Network];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Rabbit => "rabbitmq",
            Self::Kafka => "kafka",
            Self::Webhook => "webhook",
            Self::Clock => "clock",
            Self::Postgres => "postgres",
            Self::Network => "network",
        }
    }
}

impl Fault {
    /// The victim and the number of each fault in one round. Ten rounds have fifty kills and twenty restarts of each
    /// broker.
    const ROUND: [(Self, usize, Victim); 36] = [
        (Self::Kill, 5, Victim::Relay),
        (Self::Terminate, 2, Victim::Relay),
        (Self::Freeze, 1, Victim::Relay),
        (Self::FullDisk, 1, Victim::Relay),
        (Self::KillOnFullDisk, 1, Victim::Relay),
        (Self::FullLetters, 1, Victim::Relay),
        (Self::LettersOnFullDisk, 1, Victim::Relay),
        (Self::DamagedRow, 1, Victim::Relay),
        (Self::TaskPanic, 2, Victim::Relay),
        (Self::RabbitRestart, 1, Victim::Rabbit),
        (Self::RabbitKill, 1, Victim::Rabbit),
        (Self::RabbitPause, 1, Victim::Rabbit),
        (Self::SourceCut, 1, Victim::Rabbit),
        (Self::SinkCut, 1, Victim::Rabbit),
        (Self::Poison, 1, Victim::Rabbit),
        (Self::KafkaRestart, 1, Victim::Kafka),
        (Self::KafkaKill, 1, Victim::Kafka),
        (Self::KafkaPause, 1, Victim::Kafka),
        (Self::WebhookDown, 1, Victim::Webhook),
        (Self::WebhookSlow, 1, Victim::Webhook),
        (Self::WebhookSilent, 1, Victim::Webhook),
        (Self::WebhookFailing, 1, Victim::Webhook),
        (Self::WebhookForbidding, 1, Victim::Webhook),
        (Self::WebhookBusy, 1, Victim::Webhook),
        (Self::WebhookCutting, 1, Victim::Webhook),
        (Self::WebhookRefusing, 1, Victim::Webhook),
        (Self::ClockForward, 1, Victim::Clock),
        (Self::ClockBack, 1, Victim::Clock),
        (Self::PostgresRestart, 1, Victim::Postgres),
        (Self::PostgresKill, 1, Victim::Postgres),
        (Self::PostgresPause, 1, Victim::Postgres),
        (Self::PostgresLongPause, 1, Victim::Postgres),
        (Self::PostgresCut, 1, Victim::Postgres),
        (Self::OwnerCutFromPostgres, 2, Victim::Network),
        (Self::OwnerCutFromRabbit, 1, Victim::Network),
        (Self::OwnerCutFromWebhook, 1, Victim::Network),
    ];

    fn victim(self) -> Victim {
        let of_round = Self::ROUND.into_iter().find(|(fault, ..)| *fault == self);
        of_round.map(|(.., victim)| victim).expect("a round has every fault")
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "relay: kill -9",
            Self::Terminate => "relay: SIGTERM",
            Self::Freeze => "relay: SIGSTOP, SIGCONT",
            Self::FullDisk => "relay: disk full",
            Self::KillOnFullDisk => "relay: disk full, kill -9",
            Self::FullLetters => "relay: dead letters full",
            Self::LettersOnFullDisk => "relay: dead letters on a full disk",
            Self::DamagedRow => "relay: unreadable row in the spool",
            Self::TaskPanic => "relay: panic in a thread or task",
            Self::RabbitRestart => "RabbitMQ: restart",
            Self::RabbitKill => "RabbitMQ: SIGKILL",
            Self::RabbitPause => "RabbitMQ: SIGSTOP, SIGCONT",
            Self::SourceCut => "RabbitMQ: source's connection closed",
            Self::SinkCut => "RabbitMQ: sink's connection closed",
            Self::Poison => "RabbitMQ: poisoned properties",
            Self::KafkaRestart => "Kafka: restart",
            Self::KafkaKill => "Kafka: SIGKILL",
            Self::KafkaPause => "Kafka: SIGSTOP, SIGCONT",
            Self::WebhookDown => "webhook: down",
            Self::WebhookSlow => "webhook: slow",
            Self::WebhookSilent => "webhook: takes and never answers",
            Self::WebhookFailing => "webhook: 500",
            Self::WebhookForbidding => "webhook: 403 now and then",
            Self::WebhookBusy => "webhook: 429",
            Self::WebhookCutting => "webhook: cuts connections",
            Self::WebhookRefusing => "webhook: 422 to everything",
            Self::ClockForward => "clock: ten days ahead, and back",
            Self::ClockBack => "clock: a day behind, and back",
            Self::PostgresRestart => "PostgreSQL: restart",
            Self::PostgresKill => "PostgreSQL: SIGKILL",
            Self::PostgresPause => "PostgreSQL: SIGSTOP, SIGCONT",
            Self::PostgresLongPause => "PostgreSQL: SIGSTOP beyond the lease, SIGCONT",
            Self::PostgresCut => "PostgreSQL: all connections closed",
            Self::OwnerCutFromPostgres => "network: owner and PostgreSQL, beyond the lease",
            Self::OwnerCutFromRabbit => "network: owner and RabbitMQ",
            Self::OwnerCutFromWebhook => "network: owner and webhook",
        }
    }

    /// How often it comes in a round of several relays. A fault of one relay with a file of its own is left out.
    const fn times_with_takeovers(self, times: usize) -> usize {
        match self {
            Self::Kill => 3,
            Self::Terminate | Self::Freeze => 1,
            Self::FullDisk
            | Self::KillOnFullDisk
            | Self::FullLetters
            | Self::LettersOnFullDisk
            | Self::DamagedRow
            | Self::TaskPanic => 0,
            _ => times,
        }
    }

    pub const fn needs_small_disk(self) -> bool {
        matches!(self, Self::FullDisk | Self::KillOnFullDisk | Self::LettersOnFullDisk)
    }

    /// Whether the fault needs code in the relay that exists only in builds with debug assertions.
    pub const fn needs_debug_assertions(self) -> bool {
        matches!(self, Self::TaskPanic | Self::ClockForward | Self::ClockBack)
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Strike {
    pub fault: Fault,
    /// The fault waits until this many events were published.
    pub after: u64,
    /// The duration, for faults that have one.
    pub lasts: Duration,
    /// Selects the variant of the fault.
    pub draw: usize,
}

/// The faults of one run, in order for each victim.
pub struct Schedule(Vec<(Victim, Vec<Strike>)>);

impl Schedule {
    /// Spreads the faults over `events` events. It omits faults that need a small disk or debug assertions if the run
    /// has none.
    pub fn of(settings: &Settings, small_disk: bool) -> Self {
        let &Settings { seed, rounds, events, relays, ref victims, .. } = settings;
        let is_hit = |victim| match victim {
            Victim::Postgres | Victim::Network if relays == 1 => false,
            victim => victims.is_empty() || victims.contains(&victim),
        };
        let times_of = |fault: Fault, times| if relays > 1 { fault.times_with_takeovers(times) } else { times };
        let mut rng = Rng::with_seed(seed);
        let sequence = |victim| {
            let of_victim = Fault::ROUND
                .into_iter()
                .filter(|&(fault, _, whose)| whose == victim && (small_disk || !fault.needs_small_disk()))
                .map(|(fault, times, whose)| (fault, times_of(fault, times), whose))
                .filter(|(fault, ..)| cfg!(debug_assertions) || !fault.needs_debug_assertions());
            let mut faults: Vec<Fault> = (0..rounds)
                .flat_map(|_| of_victim.clone().flat_map(|(fault, times, _)| std::iter::repeat_n(fault, times)))
                .collect();
            rng.shuffle(&mut faults);
            let step = events / (faults.len() as u64 + 1);
            let strikes = (0..).zip(faults).map(|(number, fault)| Strike {
                fault,
                after: step * number + rng.u64(..=step),
                lasts: Duration::from_millis(rng.u64(1_000..=3_500)),
                draw: rng.usize(..),
            });
            (victim, strikes.collect())
        };
        Self(Victim::ALL.into_iter().filter(|&victim| is_hit(victim)).map(sequence).collect())
    }

    /// Exactly these faults, in this order for each victim.
    pub fn with(strikes: &[Strike]) -> Self {
        let against = |victim| strikes.iter().copied().filter(|strike| strike.fault.victim() == victim).collect();
        Self(Victim::ALL.map(|victim| (victim, against(victim))).into())
    }

    pub fn against(&self, victim: Victim) -> &[Strike] {
        self.0.iter().find(|(whose, _)| *whose == victim).map_or(&[], |(_, strikes)| strikes)
    }
}

/// The number of times each fault came, and the number of times it hit work in flight.
#[derive(Debug, Default, Clone)]
pub struct Tally(pub BTreeMap<Fault, (u64, u64)>);

impl Tally {
    pub fn count(&mut self, fault: Fault, hit: bool) {
        let (times, hits) = self.0.entry(fault).or_default();
        *times += 1;
        *hits += u64::from(hit);
    }

    /// The total number of these faults.
    pub fn times(&self, faults: &[Fault]) -> u64 {
        faults.iter().filter_map(|fault| self.0.get(fault)).map(|(times, _)| times).sum()
    }

    /// Faults that never hit work in flight, so they tested nothing.
    pub fn in_vain(&self) -> Vec<&'static str> {
        self.0.iter().filter(|(_, (_, hits))| *hits == 0).map(|(fault, _)| fault.name()).collect()
    }
}
