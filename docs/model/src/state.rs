//! A state of the whole system: the database, the relays, the broker and the receiver of one sink.
//!
//! Times are ticks, counted from now: a deadline is the time that is left, an age is the time that has passed. So two states that differ
//! only by the time of day are one. All clocks run at the same rate.

use std::fmt;

/// Messages of one key. With two, the second can overtake the first.
pub const MESSAGES: usize = 2;

pub type InstanceId = usize;
pub type Message = usize;
/// The epoch of the owner, and the number of the row among those of the owner.
pub type RowId = (u8, u8);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub database: Database,
    /// Of the owners' connections for writes. Each was begun before the next one.
    pub transactions: Vec<Transaction>,
    pub instances: Vec<Instance>,
    pub broker: Broker,
    pub receiver: Receiver,
    /// How many more stops and faults may happen.
    pub events_left: u8,
    /// A fault has happened, or a lease has ended otherwise than by a clean stop.
    pub is_disturbed: bool,
    pub broken: Broken,
}

/// What is committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    /// `shards.epoch`
    pub epoch: u8,
    /// `shards.owner`
    pub owner: Option<InstanceId>,
    /// `shards.clean`
    pub is_clean: bool,
    /// `shards.expires_at`; negative: since when the lease has expired, up to the pause.
    pub expires: i8,
    /// `shard_batches.number`
    pub batch: u8,
    /// Ordered by their ids.
    pub rows: Vec<Row>,
    /// The highest id that was ever committed.
    pub last_id: RowId,
    /// The rows and the batch before the last commit, while a restart may lose that commit.
    pub unflushed: Option<(Vec<Row>, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    pub id: RowId,
    pub message: Message,
}

/// A transaction that writes a batch, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transaction {
    pub instance: InstanceId,
    pub epoch: u8,
    pub number: u8,
    pub change: Change,
    pub phase: Phase,
    /// It has the lock on the row of `shards` once it is open: FOR KEY SHARE.
    pub has_lock: bool,
    /// A taker has asked the server to end the backend.
    pub is_terminated: bool,
    /// The client still listens to the connection.
    pub is_connected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// BEGIN, the fence and the statements are on their way.
    Sent,
    /// Executed, and not committed. The answer may still be on its way.
    Open,
    /// COMMIT is on its way.
    CommitSent,
    /// The answer is on its way.
    Committed,
    /// The fence found another owner.
    Fenced,
    /// Rolled back, because the backend has ended before COMMIT was sent.
    RolledBack,
    /// The backend has ended after COMMIT was sent, so the client can't know the outcome.
    Unanswered,
}

/// What a batch does. In the relay a batch has many of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// `may_be_known`: the broker has redelivered the message, so an earlier owner may have stored it.
    Add {
        row: Row,
        may_be_known: bool,
    },
    Remove {
        message: Message,
    },
}

impl Change {
    pub fn message(self) -> Message {
        match self {
            Self::Add { row, .. } => row.message,
            Self::Remove { message } => message,
        }
    }

    pub fn stores(self, message: Message) -> bool {
        matches!(self, Self::Add { row, .. } if row.message == message)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    /// By SIGSTOP, or with its machine: it does nothing, but what it has sent goes on.
    pub is_suspended: bool,
    pub role: Role,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Also just started.
    #[default]
    Standby,
    Taking(Taking),
    Owner(Owner),
}

/// A request to take the shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Taking {
    /// Since before the request was sent.
    pub age: i8,
    /// The epoch of the owner whose backends it has ended.
    pub previous: Option<u8>,
    /// The answer: the epoch, and the time until attempts begin.
    pub taken: Option<(u8, i8)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub epoch: u8,
    /// Until the lease ends by the owner's own view; 0: it has ended, for ever.
    pub deadline: i8,
    /// Until attempts begin.
    pub pause: i8,
    pub renewal: Option<Renewal>,
    pub is_stopping: bool,
    /// The grace period of the stop is over: it has aborted the attempt in flight.
    pub has_cut: bool,
    /// It has a connection for writes.
    pub is_connected: bool,
    /// Of its last batch.
    pub number: u8,
    /// Of the last row that it has stored.
    pub last_row: u8,
    /// What it has received, in this life, from any session.
    pub memory: [Memory; MESSAGES],
    /// Of these the receiver has confirmed the row, and the row is not removed yet.
    pub completed: [bool; MESSAGES],
    /// At most one, since all messages have one key.
    pub attempt: Option<Attempt>,
    /// The batch that is being written.
    pub write: Option<Write>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Renewal {
    /// Since before the request was sent.
    pub age: i8,
    /// The answer: whether the owner was still the owner.
    pub renewed: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Memory {
    #[default]
    Absent,
    /// Neither confirmed by the receiver nor stored.
    Pending { is_redelivered: bool },
    /// It may be acknowledged.
    Settled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    pub message: Message,
    /// The receiver has it; its confirmation is on its way.
    pub has_arrived: bool,
    /// The owner was suspended meanwhile, so the attempt may arrive at any time.
    pub was_suspended: bool,
}

/// A batch, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Write {
    pub change: Change,
    pub number: u8,
    /// COMMIT was sent, and its answer will not come.
    pub is_unknown: bool,
    /// A restart of the server has lost the transaction, and its id goes to the next one.
    pub is_id_reused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broker {
    pub messages: [Queued; MESSAGES],
    /// The one consumer, by the instance and its epoch: a restarted instance has another session.
    pub session: Option<(InstanceId, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queued {
    Ready {
        is_redelivered: bool,
    },
    /// Delivered to the consumer.
    Unacknowledged,
    Acknowledged,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Receiver {
    /// A copy of the message has arrived.
    pub arrived: [bool; MESSAGES],
    /// The highest epoch of an attempt that was begun.
    pub begun_epoch: u8,
    /// Attempts of owners that have aborted them or have ended.
    pub late: Vec<Late>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Late {
    pub message: Message,
    pub epoch: u8,
    /// How much longer it may be on its way; `None`: for ever, because its owner was suspended.
    pub left: Option<i8>,
}

/// A promise that a step can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    Fence,
    Order,
    AttemptWithLease,
    NothingAfterPause,
    CleanStopRepeatsNothing,
    IdsAscend,
    StoredOnce,
    TakeoverNotHeldUp,
}

/// The promises that the steps up to this state have broken.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Broken(u16);

impl Broken {
    pub fn add(&mut self, promise: Promise) {
        self.0 |= 1 << promise as u16;
    }

    pub fn has(self, promise: Promise) -> bool {
        self.0 & (1 << promise as u16) != 0
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#b}", self.0)
    }
}

impl State {
    /// All instances stand by, and all messages are in the queue. The shard is new.
    pub fn new(instances: usize, messages: usize, events: u8) -> Self {
        let ready = Queued::Ready { is_redelivered: false };
        let queued = |message| if message < messages { ready } else { Queued::Acknowledged };
        Self {
            database: Database {
                epoch: 0,
                owner: None,
                is_clean: true,
                expires: 0,
                batch: 0,
                rows: Vec::new(),
                last_id: (0, 0),
                unflushed: None,
            },
            transactions: Vec::new(),
            instances: vec![Instance::default(); instances],
            broker: Broker { messages: std::array::from_fn(queued), session: None },
            receiver: Receiver::default(),
            events_left: events,
            is_disturbed: false,
            broken: Broken::default(),
        }
    }

    pub fn owner(&self, id: InstanceId) -> Option<&Owner> {
        match &self.instances[id].role {
            Role::Owner(owner) => Some(owner),
            _ => None,
        }
    }

    /// An owner that is not suspended.
    pub fn running(&self, id: InstanceId) -> Option<&Owner> {
        self.owner(id).filter(|_| !self.instances[id].is_suspended)
    }

    /// One that also has a valid lease by its own view.
    pub fn valid(&self, id: InstanceId) -> Option<&Owner> {
        self.running(id).filter(|owner| owner.deadline > 0)
    }

    pub fn owner_mut(&mut self, id: InstanceId) -> &mut Owner {
        match &mut self.instances[id].role {
            Role::Owner(owner) => owner,
            role => unreachable!("{role:?} is no owner"),
        }
    }

    /// The transaction whose answer the owner waits for.
    pub fn awaited(&self, id: InstanceId) -> Option<usize> {
        self.transactions.iter().position(|transaction| transaction.instance == id && transaction.is_connected)
    }

    pub fn has_row(&self, message: Message) -> bool {
        self.database.rows.iter().any(|row| row.message == message)
    }

    pub fn is_owned_by(&self, id: InstanceId, epoch: u8) -> bool {
        self.database.owner == Some(id) && self.database.epoch == epoch
    }

    pub fn is_free(&self) -> bool {
        self.database.owner.is_none() || self.database.expires <= 0
    }

    /// The same state with the instances in an order of their own: which of them does what makes no difference.
    pub fn canonical(mut self) -> Self {
        let key = |id: &InstanceId| {
            let is_consumer = self.broker.session.is_some_and(|(consumer, _)| consumer == *id);
            (&self.instances[*id], self.database.owner == Some(*id), is_consumer)
        };
        let mut order: Vec<InstanceId> = (0..self.instances.len()).collect();
        order.sort_by(|one, other| key(one).cmp(&key(other)));
        if order.is_sorted() {
            return self;
        }
        let place = |id| order.iter().position(|other| *other == id).unwrap_or(id);
        self.database.owner = self.database.owner.map(place);
        self.broker.session = self.broker.session.map(|(id, epoch)| (place(id), epoch));
        for transaction in &mut self.transactions {
            transaction.instance = place(transaction.instance);
        }
        self.instances = order.iter().map(|id| self.instances[*id].clone()).collect();
        self
    }
}
