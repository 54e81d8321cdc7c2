//! A connection to the tables of one schema: prepared statements, a time limit for each request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::{PostgresError, Session};
use crate::config::PostgresConfig;
use crate::failpoints::Failpoint;

/// Time limit for connecting, unless a caller has a shorter one.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit for one request. After it the connection is dropped: how the request ended is unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit for one request that reads a whole table, which may have millions of rows.
const WHOLE_TABLE_TIMEOUT: Duration = Duration::from_mins(10);

/// With more prepared statements than this, all are forgotten. Those of filters differ by what is filtered.
const MAX_STATEMENTS: usize = 256;

pub type Values<'a> = [&'a (dyn ToSql + Sync)];

pub struct Connection {
    session: Session,
    /// What it is for, as errors name it: "the spool".
    subject: &'static str,
    statements: Mutex<HashMap<String, Statement>>,
}

impl Connection {
    /// Connects, with the tables of `config.schema` as the ones that statements name.
    pub async fn open(config: &PostgresConfig, subject: &'static str, within: Duration) -> Result<Self, PostgresError> {
        let session = super::connect(config, within).await?;
        let connection = Self { session, subject, statements: Mutex::default() };
        // The values that a database or a role sets can lose commits, or choose plans that read whole tables while statistics are old.
        let synchronous = if Failpoint::CommitAsynchronously.is_enabled() { "off" } else { "on" };
        let settings = format!(
            "SET search_path TO \"{}\"; SET synchronous_commit TO {synchronous}; SET statement_timeout TO 0; SET lock_timeout TO 0; \
             SET enable_seqscan TO off; SET enable_hashjoin TO off; SET enable_mergejoin TO off; \
             SET plan_cache_mode TO force_generic_plan; SET jit TO off; \
             SET idle_in_transaction_session_timeout TO '10s'; SET default_transaction_isolation TO 'read committed'",
            config.schema
        );
        connection.batch(&settings).await?;
        Ok(connection)
    }

    pub async fn batch(&self, statements: &str) -> Result<(), PostgresError> {
        self.in_time(self.session.client.batch_execute(statements)).await
    }

    pub async fn rows(&self, statement: &str, values: &Values<'_>) -> Result<Vec<Row>, PostgresError> {
        let statement = self.prepared(statement).await?;
        self.in_time(self.session.client.query(&statement, values)).await
    }

    /// The same for a statement that reads a whole table.
    pub async fn rows_of_whole_table(&self, statement: &str, values: &Values<'_>) -> Result<Vec<Row>, PostgresError> {
        let statement = self.prepared(statement).await?;
        self.within(WHOLE_TABLE_TIMEOUT, self.session.client.query(&statement, values)).await
    }

    pub async fn row(&self, statement: &str, values: &Values<'_>) -> Result<Option<Row>, PostgresError> {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// Returns how many rows were changed.
    pub async fn execute(&self, statement: &str, values: &Values<'_>) -> Result<u64, PostgresError> {
        let statement = self.prepared(statement).await?;
        self.in_time(self.session.client.execute(&statement, values)).await
    }

    /// Executes statements in this order, and sends them all before the first one's answer comes. Returns the rows of each.
    pub async fn pipeline<const N: usize>(
        &self,
        requests: [(&str, &Values<'_>); N],
    ) -> Result<[Vec<Row>; N], PostgresError> {
        // Before the first request: a statement that has to be prepared first would be executed after later ones.
        let mut prepared = Vec::with_capacity(N);
        for (statement, values) in requests {
            prepared.push((self.prepared(statement).await?, values));
        }
        // Each request is sent when it is polled for the first time.
        let answers = prepared.iter().map(|(statement, values)| self.session.client.query(statement, values));
        let mut answers = self.in_time(try_join_all(answers)).await?.into_iter();
        Ok(std::array::from_fn(|_| answers.next().unwrap_or_default()))
    }

    async fn prepared(&self, statement: &str) -> Result<Statement, PostgresError> {
        let known = self.statements().get(statement).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let prepared = self.in_time(self.session.client.prepare(statement)).await?;
        let mut statements = self.statements();
        if statements.len() >= MAX_STATEMENTS {
            statements.clear();
        }
        statements.insert(statement.to_owned(), prepared.clone());
        Ok(prepared)
    }

    fn statements(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn in_time<T>(
        &self,
        request: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PostgresError> {
        self.within(REQUEST_TIMEOUT, request).await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PostgresError> {
        let connection = &self.session.connection;
        let using = format!("using {}", self.subject);
        let late = |_| PostgresError::timeout(connection.address(), &using, limit);
        timeout(limit, request).await.map_err(late)?.map_err(|error| connection.error(&using, &error))
    }

    /// Returns when a notification with this payload comes, or the connection has ended.
    pub async fn announcement(&mut self, payload: &str) {
        while let Some(notification) = self.session.connection.notification().await {
            if notification.payload() == payload {
                return;
            }
        }
    }

    /// Explains why a row can't be read.
    pub fn unreadable(&self, error: &tokio_postgres::Error) -> PostgresError {
        self.session.connection.error(&format!("reading {}", self.subject), error)
    }

    /// Reads each row by `decode`.
    pub fn decode<T>(
        &self,
        rows: &[Row],
        decode: impl FnMut(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<Vec<T>, PostgresError> {
        rows.iter().map(decode).collect::<Result<_, _>>().map_err(|error| self.unreadable(&error))
    }

    pub async fn close(self) {
        self.session.close().await;
    }
}
