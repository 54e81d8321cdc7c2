//! Schemas and their ids in a schema registry, by Confluent's API (Apicurio, Karapace and Redpanda speak it too).
//!
//! A [`Registry`] belongs to one sink. It finds the id of exactly one schema under a subject, and registers the schema if the sink may;
//! or it reads the latest schema of a subject, with those that it refers to, and compiles it. A subject is asked for once, one request
//! at a time, each with a deadline; [`refresh`](Registry::refresh) asks again. It knows nothing of deliveries and retries: whoever gets
//! an error asks again later.

mod client;
mod error;
mod exactly;
mod latest;
mod subjects;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::client::RegistryClient;
pub use self::error::RegistryError;
use self::subjects::KnownSubjects;
use crate::config::RegistryConfig;
use crate::event::{Schema, SchemaKind};

/// How many subjects are remembered.
const MAX_SUBJECTS: usize = 1000;
/// For this long after an error a subject isn't asked for again: the deliveries that wait for it fail by the same error.
const ERROR_HOLD: Duration = Duration::from_secs(1);

/// Which schema of a subject the sink encodes by.
pub enum Wanted {
    /// Exactly this one. `origin` says where a person finds it.
    Exactly { schema: Schema, origin: String },
    /// The latest one. `message` is the full name of a message of Protobuf.
    Latest { kind: SchemaKind, message: Option<String> },
}

/// A schema as the registry has it under a subject. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisteredSchema {
    pub id: u32,
    pub schema: Schema,
}

/// The schemas of one sink in a registry.
pub struct Registry {
    client: RegistryClient,
    wanted: Wanted,
    /// Whether a schema may be registered that isn't there.
    register: bool,
    known: Mutex<KnownSubjects>,
    /// The subjects that are being asked for, and those of which the last answer was an error.
    asked: Mutex<HashMap<String, Arc<Subject>>>,
}

/// Its lock is held while the registry is asked. The value is the last error.
type Subject = tokio::sync::Mutex<Option<(Instant, RegistryError)>>;

/// What [`Registry::refresh`] found out about a subject.
#[derive(Debug, Clone, PartialEq)]
pub enum Refreshed {
    Unchanged,
    /// It has another schema or id now, which is used from now on.
    Changed(u32),
    /// The registry doesn't have the schema any more: deliveries ask for it again.
    Gone(RegistryError),
    /// The registry could not be asked, or what it has can't be used. What was known before is used.
    Failed(RegistryError),
}

impl Registry {
    /// Reads the certificates, which blocks. The error says what to do.
    pub fn open(config: &RegistryConfig, wanted: Wanted) -> Result<Self, String> {
        Ok(Self {
            client: RegistryClient::open(config)?,
            wanted,
            register: config.register,
            known: Mutex::new(KnownSubjects::new(MAX_SUBJECTS)),
            asked: Mutex::default(),
        })
    }

    /// The schema under that subject, if it is known already.
    pub fn known(&self, subject: &str) -> Option<RegisteredSchema> {
        lock(&self.known).get(subject)
    }

    /// Remembers a schema without asking, for the benchmark.
    pub fn remember(&self, subject: &str, found: RegisteredSchema) {
        lock(&self.known).insert(subject, found);
    }

    /// The schema under that subject. Asks the registry for it, and registers the schema if need be.
    pub async fn resolve(&self, subject: &str) -> Result<RegisteredSchema, RegistryError> {
        let asked = self.subject(subject);
        let mut last_error = asked.lock().await;
        if let Some(known) = self.known(subject) {
            return Ok(known);
        }
        if let Some((at, error)) = &*last_error
            && at.elapsed() < ERROR_HOLD
        {
            return Err(error.clone());
        }
        match self.ask(subject).await {
            Ok(found) => {
                lock(&self.known).insert(subject, found.clone());
                *last_error = None;
                lock(&self.asked).remove(subject);
                Ok(found)
            }
            Err(error) => {
                *last_error = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Asks again for a subject that is known. Registers nothing.
    pub async fn refresh(&self, subject: &str) -> Refreshed {
        let asked = self.subject(subject);
        let _asking = asked.lock().await;
        let Some(known) = self.known(subject) else { return Refreshed::Unchanged };
        match self.find(subject).await {
            Ok(Some(found)) if found == known => Refreshed::Unchanged,
            Ok(Some(found)) => {
                let id = found.id;
                lock(&self.known).insert(subject, found);
                Refreshed::Changed(id)
            }
            Ok(None) => {
                lock(&self.known).remove(subject);
                Refreshed::Gone(self.missing(subject))
            }
            Err(error) => Refreshed::Failed(error),
        }
    }

    /// The subjects that are known.
    pub fn subjects(&self) -> Vec<String> {
        lock(&self.known).subjects()
    }

    /// Asks without registering anything. None: the registry answers, and doesn't have the schema.
    pub async fn find(&self, subject: &str) -> Result<Option<RegisteredSchema>, RegistryError> {
        match &self.wanted {
            Wanted::Exactly { schema, .. } => self.look_up(subject, schema, false).await,
            Wanted::Latest { kind, message } => self.latest(subject, *kind, message.as_deref()).await,
        }
    }

    /// Asks for something that every registry knows: which languages of schemas it has.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        self.client.ping().await
    }

    /// The registry answers, and doesn't have the schema under that subject.
    pub fn missing(&self, subject: &str) -> RegistryError {
        match &self.wanted {
            Wanted::Exactly { origin, .. } => RegistryError::missing(subject, origin),
            Wanted::Latest { .. } => RegistryError::empty(subject),
        }
    }

    async fn ask(&self, subject: &str) -> Result<RegisteredSchema, RegistryError> {
        let found = match &self.wanted {
            Wanted::Exactly { schema, .. } if self.register => self.look_up(subject, schema, true).await?,
            _ => self.find(subject).await?,
        };
        found.ok_or_else(|| self.missing(subject))
    }

    fn subject(&self, subject: &str) -> Arc<Subject> {
        let mut asked = lock(&self.asked);
        if let Some(known) = asked.get(subject) {
            return Arc::clone(known);
        }
        if asked.len() >= MAX_SUBJECTS {
            // Those that a delivery waits for stay; there are no more of them than attempts in flight.
            asked.retain(|_, subject| Arc::strong_count(subject) > 1);
        }
        Arc::clone(asked.entry(subject.to_owned()).or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
