//! Commands of operators, and their answers: a client adds the steps, the owners of the shards do them.

use super::migrate::migrate;
use super::rows::unsigned;
use super::standby::LOOK_INTERVAL;
use super::statements::signed;
use super::{SUBJECT, connect};
use crate::config::PostgresConfig;
use crate::postgres::{BlockingConnection, Connection, Values};
use crate::spool::SpoolError;
use crate::spool::instances::Instances;
use crate::spool::remote_commands::{NewCommand, RemoteJob, StepEnd, StepState, TakenStep, WantedSteps};

/// The channel that announces a command. The payload is the schema of the spool: channels belong to a database.
const ASKED: &str = "regards_relay_commands";
/// So many commands may wait or run. A further one is refused.
const MAX_OPEN: i64 = 64;

/// Commands whose client is there, or has not to be there.
const IS_WANTED: &str = "(NOT stopped AND (seen_at IS NULL OR seen_at > clock_timestamp() - interval '15 seconds'))";
/// Answers are kept so long for people who look into the tables. Of a command whose client is gone, nobody answers what was not begun.
const FORGET: &str = "DELETE FROM commands WHERE asked_at < clock_timestamp() - interval '1 day' \
                      AND (seen_at < clock_timestamp() - interval '1 day' \
                      OR NOT EXISTS (SELECT 1 FROM command_steps WHERE command = id AND answer IS NULL))";

pub(in crate::spool) struct PostgresCommandClient {
    schema: String,
    connection: BlockingConnection,
}

impl PostgresCommandClient {
    pub(in crate::spool) fn connect(config: &PostgresConfig) -> Result<Self, SpoolError> {
        let connection = BlockingConnection::open(config, SUBJECT)?;
        connection.run(async |connection| migrate(connection, config).await)?;
        Ok(Self { schema: config.schema.clone(), connection })
    }

    /// None: too many commands have not ended.
    pub(in crate::spool) fn send(&self, command: &NewCommand) -> Result<Option<i64>, SpoolError> {
        self.connection.run(async |connection| {
            connection.execute(FORGET, &[]).await?;
            connection.batch("BEGIN").await?;
            let add = format!(
                "INSERT INTO commands (job, seen_at) SELECT $1, CASE WHEN $2 THEN NULL ELSE clock_timestamp() END \
                 WHERE (SELECT count(*) FROM commands WHERE {IS_WANTED} \
                 AND EXISTS (SELECT 1 FROM command_steps WHERE command = id AND answer IS NULL)) < $3 RETURNING id"
            );
            let added = connection.rows(&add, &[&command.job, &command.is_detached, &MAX_OPEN]).await?;
            let Some(id) = connection.decode(&added, |row| row.try_get::<_, i64>(0))?.pop() else {
                connection.batch("ROLLBACK").await?;
                return Ok(None);
            };
            let add = "INSERT INTO command_steps (command, step, shard, request, total) VALUES ($1, $2, $3, $4, $5)";
            for (step, number) in command.steps.iter().zip(0_i32..) {
                let values: &Values<'_> = &[&id, &number, &step.shard, &step.request, &signed(step.total)];
                connection.execute(add, values).await?;
            }
            connection.rows("SELECT pg_notify($1, $2)", &[&ASKED, &self.schema]).await?;
            connection.batch("COMMIT").await?;
            Ok(Some(id))
        })
    }

    pub(in crate::spool) fn steps(&self, command: i64) -> Result<Vec<StepState>, SpoolError> {
        let seen = "UPDATE commands SET seen_at = clock_timestamp() WHERE id = $1 AND seen_at IS NOT NULL";
        let steps = "SELECT source, done, answer, coalesce(command_steps.epoch = shards.epoch AND owner IS NOT NULL \
                     AND expires_at > clock_timestamp(), false) \
                     FROM command_steps JOIN shards USING (shard) WHERE command = $1 ORDER BY step";
        self.connection.run(async |connection| {
            let [_, steps] = connection.pipeline([(seen, &[&command]), (steps, &[&command])]).await?;
            Ok(connection.decode(&steps, |row| {
                Ok(StepState {
                    source: row.try_get(0)?,
                    done: unsigned(row, 1)?,
                    answer: row.try_get(2)?,
                    is_running: row.try_get(3)?,
                })
            })?)
        })
    }

    pub(in crate::spool) fn stop(&self, command: i64, answer: &str) -> Result<bool, SpoolError> {
        let stop = "UPDATE commands SET stopped = true WHERE id = $1 AND NOT stopped \
                    AND EXISTS (SELECT 1 FROM command_steps WHERE command = $1 AND answer IS NULL) RETURNING id";
        let end = "UPDATE command_steps SET answer = $2 WHERE command = $1 AND answer IS NULL AND epoch IS NULL";
        self.connection.run(async |connection| {
            let announce: &Values<'_> = &[&ASKED, &self.schema];
            let [stopped, ..] = connection
                .pipeline([(stop, &[&command]), (end, &[&command, &answer]), ("SELECT pg_notify($1, $2)", announce)])
                .await?;
            Ok(!stopped.is_empty())
        })
    }

    pub(in crate::spool) fn jobs(&self) -> Result<Vec<RemoteJob>, SpoolError> {
        let jobs = format!(
            "SELECT id, job, sum(done)::bigint, sum(total)::bigint, extract(epoch FROM clock_timestamp() - asked_at)::bigint \
             FROM commands JOIN command_steps ON command = id WHERE job IS NOT NULL AND {IS_WANTED} \
             GROUP BY id HAVING bool_or(answer IS NULL) ORDER BY id LIMIT $1"
        );
        self.connection.run(async |connection| {
            let jobs = connection.rows(&jobs, &[&MAX_OPEN]).await?;
            Ok(connection.decode(&jobs, |row| {
                Ok(RemoteJob {
                    id: row.try_get(0)?,
                    kind: row.try_get(1)?,
                    done: unsigned(row, 2)?,
                    total: unsigned(row, 3)?,
                    seconds: unsigned(row, 4)?,
                })
            })?)
        })
    }
}

pub(in crate::spool) struct PostgresCommandQueue {
    config: PostgresConfig,
    /// None: nothing was asked yet, or the last request failed.
    open: Option<Connection>,
}

impl PostgresCommandQueue {
    pub(in crate::spool) fn new(config: PostgresConfig) -> Self {
        Self { config, open: None }
    }

    /// Returns after a second, or when a command is announced.
    pub(in crate::spool) async fn wait(&mut self) {
        match &mut self.open {
            None => tokio::time::sleep(LOOK_INTERVAL).await,
            Some(connection) => {
                // A connection that has ended fails at the next request.
                let announced = connection.announcement(&self.config.schema);
                let _ = tokio::time::timeout(LOOK_INTERVAL, announced).await;
            }
        }
    }

    pub(in crate::spool) async fn take(
        &mut self,
        instances: &Instances,
        wanted: &WantedSteps<'_>,
    ) -> Result<Vec<TakenStep>, SpoolError> {
        let Some(instance) = instances.registered() else { return Ok(Vec::new()) };
        let forget = "UPDATE command_steps SET epoch = NULL FROM shards WHERE shards.shard = command_steps.shard \
                      AND answer IS NULL AND command_steps.epoch = shards.epoch AND owner = $1 \
                      AND NOT EXISTS (SELECT 1 FROM unnest($2::bigint[], $3::integer[]) taken (command, step) \
                      WHERE taken.command = command_steps.command AND taken.step = command_steps.step)";
        let interrupt = "UPDATE command_steps SET answer = $2 WHERE answer IS NULL AND command IN \
                         (SELECT command FROM command_steps begun JOIN shards USING (shard) \
                         WHERE answer IS NULL AND begun.epoch < shards.epoch AND owner = $1)";
        let take = format!(
            "UPDATE command_steps SET epoch = ready.epoch FROM \
             (SELECT waiting.command, waiting.step, shards.epoch, source, job IS NOT NULL AS is_job, \
             row_number() OVER (PARTITION BY job IS NULL ORDER BY waiting.command) AS place \
             FROM command_steps waiting JOIN commands ON id = waiting.command JOIN shards USING (shard) \
             WHERE answer IS NULL AND waiting.epoch IS NULL AND {IS_WANTED} \
             AND owner = $1 AND expires_at > clock_timestamp() AND source = ANY($2) \
             AND NOT EXISTS (SELECT 1 FROM command_steps earlier \
             WHERE earlier.command = waiting.command AND earlier.step < waiting.step AND earlier.answer IS NULL)) ready \
             WHERE (NOT is_job OR place <= $3) AND command_steps.epoch IS NULL \
             AND command_steps.command = ready.command AND command_steps.step = ready.step \
             RETURNING command_steps.command, command_steps.step, source, request"
        );
        let WantedSteps { shards, most_jobs, taken, interrupted } = wanted;
        let most_jobs = i64::try_from(*most_jobs).unwrap_or(i64::MAX);
        let (commands, steps): (Vec<i64>, Vec<i32>) = taken.iter().copied().unzip();
        self.request(async |connection| {
            let taken: &Values<'_> = &[&instance, &commands, &steps];
            let [.., taken] = connection
                .pipeline([
                    (interrupt, &[&instance, interrupted]),
                    (forget, taken),
                    (&take, &[&instance, shards, &most_jobs]),
                ])
                .await?;
            Ok(connection.decode(&taken, |row| {
                Ok(TakenStep {
                    command: row.try_get(0)?,
                    step: row.try_get(1)?,
                    source: row.try_get(2)?,
                    request: row.try_get(3)?,
                })
            })?)
        })
        .await
    }

    pub(in crate::spool) async fn report(
        &mut self,
        (command, step): (i64, i32),
        done: u64,
    ) -> Result<bool, SpoolError> {
        let note = "UPDATE command_steps SET done = $3 WHERE command = $1 AND step = $2";
        let ask = format!("SELECT 1 FROM commands WHERE id = $1 AND {IS_WANTED}");
        self.request(async |connection| {
            let noted: &Values<'_> = &[&command, &step, &signed(done)];
            let [_, wanted] = connection.pipeline([(note, noted), (&ask, &[&command])]).await?;
            Ok(!wanted.is_empty())
        })
        .await
    }

    pub(in crate::spool) async fn end(&mut self, end: &StepEnd) -> Result<(), SpoolError> {
        let StepEnd { command, step, answer, is_last } = end;
        let note = "UPDATE command_steps SET answer = $3, done = CASE WHEN step = $2 AND NOT $4 THEN total ELSE done END \
                    WHERE command = $1 AND answer IS NULL AND (step = $2 OR $4)";
        let announce: &Values<'_> = &[&ASKED, &self.config.schema.clone()];
        self.request(async |connection| {
            let noted: &Values<'_> = &[command, step, answer, is_last];
            // The next step may be another relay's.
            connection.pipeline([(note, noted), ("SELECT pg_notify($1, $2)", announce)]).await?;
            Ok(())
        })
        .await
    }

    /// After an error the next one connects anew.
    async fn request<T>(
        &mut self,
        request: impl AsyncFnOnce(&Connection) -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        let connection = if let Some(open) = self.open.take() {
            open
        } else {
            let connection = connect(&self.config).await?;
            connection.batch(&format!("LISTEN {ASKED}")).await?;
            connection
        };
        let result = request(&connection).await?;
        self.open = Some(connection);
        Ok(result)
    }
}
