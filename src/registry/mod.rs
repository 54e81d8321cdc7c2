//! The ids of schemas in a schema registry, by Confluent's API (Apicurio, Karapace and Redpanda speak it too).
//!
//! A [`Registry`] belongs to one sink and one schema: it finds the id of exactly this schema under a subject, and registers the
//! schema if the sink may. An id is asked for once, one request at a time for a subject, each with a deadline. It knows nothing of
//! deliveries and retries: whoever gets an error asks again later.

mod client;
mod error;
mod subjects;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::client::RegistryClient;
pub use self::error::RegistryError;
use self::subjects::KnownIds;
use crate::config::RegistryConfig;
use crate::event::Schema;

/// How many subjects' ids are remembered.
const MAX_SUBJECTS: usize = 1000;
/// For this long after an error a subject isn't asked for again: the deliveries that wait for it fail by the same error.
const ERROR_HOLD: Duration = Duration::from_secs(1);

/// The ids of one schema under the subjects of one registry.
pub struct Registry {
    client: RegistryClient,
    schema: Schema,
    /// Where a person finds the schema, in errors.
    origin: String,
    register: bool,
    known: Mutex<KnownIds>,
    /// The subjects that are being asked for, and those of which the last answer was an error.
    asked: Mutex<HashMap<String, Arc<Subject>>>,
}

/// Its lock is held while the registry is asked. The value is the last error.
type Subject = tokio::sync::Mutex<Option<(Instant, RegistryError)>>;

/// What `check --connect` finds out about a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    Found(u32),
    /// The registry answers, and doesn't have the schema under this subject.
    Missing,
}

impl Registry {
    /// `origin` says where a person finds the schema. Reads the certificates, which blocks. The error says what to do.
    pub fn open(config: &RegistryConfig, schema: Schema, origin: String) -> Result<Self, String> {
        Ok(Self {
            client: RegistryClient::open(config)?,
            schema,
            origin,
            register: config.register,
            known: Mutex::new(KnownIds::new(MAX_SUBJECTS)),
            asked: Mutex::default(),
        })
    }

    /// The id under that subject, if it is known already.
    pub fn known(&self, subject: &str) -> Option<u32> {
        lock(&self.known).get(subject)
    }

    /// The id under that subject. Asks the registry for it, and registers the schema if need be.
    pub async fn resolve(&self, subject: &str) -> Result<u32, RegistryError> {
        let asked = self.subject(subject);
        let mut last_error = asked.lock().await;
        if let Some(id) = self.known(subject) {
            return Ok(id);
        }
        if let Some((at, error)) = &*last_error
            && at.elapsed() < ERROR_HOLD
        {
            return Err(error.clone());
        }
        match self.ask(subject).await {
            Ok(id) => {
                lock(&self.known).insert(subject, id);
                *last_error = None;
                lock(&self.asked).remove(subject);
                Ok(id)
            }
            Err(error) => {
                *last_error = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Asks without registering anything.
    pub async fn look_up(&self, subject: &str) -> Result<Lookup, RegistryError> {
        let found = self.client.look_up(subject, self.schema.text()).await?;
        Ok(found.map_or(Lookup::Missing, Lookup::Found))
    }

    /// Asks for something that every registry knows: which languages of schemas it has.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        self.client.ping().await
    }

    /// The registry answers, and doesn't have the schema under that subject.
    pub fn missing(&self, subject: &str) -> RegistryError {
        RegistryError::missing(subject, &self.origin)
    }

    async fn ask(&self, subject: &str) -> Result<u32, RegistryError> {
        let text = self.schema.text();
        match self.client.look_up(subject, text).await? {
            Some(id) => Ok(id),
            None if self.register => self.client.register(subject, text).await,
            None => Err(self.missing(subject)),
        }
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
