//! Reads the tables while a relay may be running, each request in a transaction of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::filter::Conditions;
use super::rows::{DELIVERY_COLUMNS, decode_delivery, optional_text, text, unsigned};
use super::statements::signed;
use super::transfer::Mark;
use super::{SUBJECT, instances};
use crate::clock::{ClockBase, MonotonicTime, WallTime};
use crate::config::PostgresConfig;
use crate::postgres::{BlockingConnection, Connection};
use crate::rules::AlertName;
use crate::spool::SpoolError;
use crate::spool::delivery::RowId;
use crate::spool::instances::Instance;
use crate::spool::postgres::text::escape;
use crate::spool::reader::{
    BacklogSummary, DeadLetterFilter, DeadLetterReader, DeadLetterSummary, DeliveryFilter, ListedDelivery, MAX_ERRORS,
    MAX_HEADS_SEARCHED, MAX_NAME, OverdueRequest, PAGE_BYTES, PAGE_ROWS, ShardName, StoreReader, StoredDeadLetter,
    WatchedBy,
};
use crate::spool::request::{RequestState, request_hash};

#[derive(Debug, Clone)]
pub(in crate::spool) struct PostgresReader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: PostgresConfig,
    /// None: nothing was read yet, or the last request failed.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    connection: BlockingConnection,
    has_tables: bool,
}

impl Open {
    fn connect(config: &PostgresConfig) -> Result<Self, SpoolError> {
        let connection = BlockingConnection::open(config, SUBJECT)?;
        let has_tables = connection.run(async |connection| {
            let there = "SELECT to_regclass('schema_version') IS NOT NULL, to_regclass('migration') IS NOT NULL";
            let there = connection.rows(there, &[]).await?;
            let there = connection.decode(&there, |row| Ok((row.try_get(0)?, row.try_get(1)?)))?.pop();
            let (has_tables, has_marks) = there.unwrap_or_default();
            if has_marks {
                Mark::check_absent(connection, config).await?;
            }
            Ok::<_, SpoolError>(has_tables)
        })?;
        Ok(Self { connection, has_tables })
    }
}

impl PostgresReader {
    pub(in crate::spool) fn new(config: PostgresConfig) -> Self {
        Self(Arc::new(Shared { config, open: Mutex::default() }))
    }

    /// `empty` if nothing was ever stored.
    fn read<T: Send>(
        &self,
        empty: T,
        read: impl AsyncFnOnce(&Connection) -> Result<T, SpoolError> + Send,
    ) -> Result<T, SpoolError> {
        let mut kept = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match kept.take() {
            // They may exist by now.
            Some(open) if open.has_tables => open,
            _ => Open::connect(&self.0.config)?,
        };
        if !open.has_tables {
            return Ok(empty);
        }
        let result = open.connection.run(read);
        // After an error the next one connects anew.
        if result.is_ok() {
            *kept = Some(open);
        }
        result
    }
}

impl StoreReader for PostgresReader {
    fn name(&self) -> Option<String> {
        Some(self.0.config.to_string())
    }

    fn exists(&self) -> Result<bool, SpoolError> {
        self.read(false, async |_| Ok(true))
    }

    fn instances(&self) -> Result<Vec<Instance>, SpoolError> {
        self.read(Vec::new(), async |connection| instances::seen(connection).await)
    }

    fn shards(&self) -> Result<Vec<ShardName>, SpoolError> {
        self.read(Vec::new(), async |connection| {
            let shards = connection.rows("SELECT shard, source FROM shards ORDER BY shard", &[]).await?;
            Ok(connection.decode(&shards, |row| Ok(ShardName { number: row.try_get(0)?, source: row.try_get(1)? }))?)
        })
    }

    fn backlogs(&self) -> Result<Vec<BacklogSummary>, SpoolError> {
        self.read(Vec::new(), async |connection| {
            let jumped = connection.clock().await?.map_or(0, ClockBase::jump);
            let backlogs = "SELECT name, (SELECT count(*) FROM all_deliveries WHERE sink = name), \
                            (SELECT coalesce(sum(size), 0)::bigint FROM all_deliveries WHERE sink = name), \
                            (SELECT min(received) FROM all_deliveries WHERE sink || '' = name), \
                            (SELECT min(due) FROM all_heads WHERE sink = name), \
                            (SELECT state FROM all_states s WHERE s.kind = 'sink' AND s.name = names.name ORDER BY shard LIMIT 1) \
                            FROM (SELECT DISTINCT sink AS name FROM all_deliveries UNION SELECT name FROM all_states WHERE kind = 'sink') names \
                            ORDER BY name";
            let backlogs = connection.rows(backlogs, &[]).await?;
            let mut backlogs = connection.decode(&backlogs, |row| {
                Ok(BacklogSummary {
                    sink: row.try_get(0)?,
                    count: unsigned(row, 1)?,
                    bytes: unsigned(row, 2)?,
                    oldest: row.try_get::<_, Option<i64>>(3)?.map(WallTime),
                    next_due: row.try_get::<_, Option<i64>>(4)?.map(MonotonicTime),
                    jumped,
                    last_error: None,
                    errors: Vec::new(),
                    state: row.try_get(5)?,
                })
            })?;
            for backlog in &mut backlogs {
                let last = format!(
                    "SELECT last_error FROM (SELECT id, due FROM all_heads WHERE sink = $1 ORDER BY due DESC LIMIT {MAX_HEADS_SEARCHED}) late \
                     JOIN all_deliveries USING (id) WHERE last_error IS NOT NULL ORDER BY due DESC LIMIT 1"
                );
                let last = connection.rows(&last, &[&backlog.sink]).await?;
                backlog.last_error = connection.decode(&last, |row| text(row, 0))?.pop();
                let errors = format!(
                    "SELECT last_error, count(*) FROM all_heads h JOIN all_deliveries d USING (id) WHERE h.sink = $1 AND last_error IS NOT NULL \
                     GROUP BY last_error ORDER BY count(*) DESC, last_error LIMIT {MAX_ERRORS}"
                );
                let errors = connection.rows(&errors, &[&backlog.sink]).await?;
                backlog.errors = connection.decode(&errors, |row| Ok((text(row, 0)?, unsigned(row, 1)?)))?;
            }
            Ok(backlogs)
        })
    }

    fn delivery_page(&self, filter: &DeliveryFilter, after: RowId) -> Result<Vec<ListedDelivery>, SpoolError> {
        self.read(Vec::new(), async |connection| {
            // The row that exceeds the limit is the last of the page.
            let select = format!(
                "SELECT {DELIVERY_COLUMNS}, {PLACE_COLUMNS} FROM (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before FROM \
                 (SELECT id, length(body) + length(properties) AS bytes FROM all_deliveries \
                 WHERE id > $1 AND ($2::text IS NULL OR sink = $2) \
                 AND ($3::bytea IS NULL OR position($3 IN body) > 0 OR position('\\x5c'::bytea IN body) > 0) \
                 AND ($4::text IS NULL OR shard = (SELECT shard FROM shards WHERE source = $4)) \
                 ORDER BY id LIMIT {PAGE_ROWS}) sized) page JOIN all_deliveries d ON d.id = page.id \
                 WHERE before < {PAGE_BYTES} ORDER BY d.id"
            );
            let text = filter.may_contain.as_deref().map(str::as_bytes);
            let rows = connection.rows(&select, &[&after.0, &filter.sink, &text, &filter.shard]).await?;
            Ok(connection.decode(&rows, decode_listed)?)
        })
    }

    fn deliveries_of_event(&self, sink: &str, key: u64, event: Uuid) -> Result<Vec<ListedDelivery>, SpoolError> {
        self.read(Vec::new(), async |connection| {
            let select = format!(
                "SELECT {DELIVERY_COLUMNS}, {PLACE_COLUMNS} FROM all_deliveries d WHERE sink = $1 AND key = $2 AND event_id = $3 ORDER BY d.id LIMIT {PAGE_ROWS}"
            );
            let rows = connection.rows(&select, &[&sink, &key.cast_signed(), &event.as_bytes().as_slice()]).await?;
            Ok(connection.decode(&rows, decode_listed)?)
        })
    }

    fn deliveries_of_events(
        &self,
        sink: &str,
        events: &BTreeSet<Uuid>,
    ) -> Result<Vec<(Uuid, ListedDelivery)>, SpoolError> {
        self.read(Vec::new(), async |connection| {
            let events: Vec<&[u8]> = events.iter().map(|event| event.as_bytes().as_slice()).collect();
            let found = "SELECT id, event_id FROM all_deliveries WHERE sink = $1 AND event_id = ANY($2)";
            let found = connection.rows(found, &[&sink, &events]).await?;
            let found: BTreeMap<i64, Uuid> = connection
                .decode(&found, |row| Ok((row.try_get(0)?, Uuid::from_slice(row.try_get(1)?).unwrap_or_default())))?
                .into_iter()
                .collect();
            let select = format!("SELECT {DELIVERY_COLUMNS}, {PLACE_COLUMNS} FROM all_deliveries d WHERE id = $1");
            let mut listed = Vec::with_capacity(found.len());
            for (id, event) in found {
                // It may be delivered by now.
                let row = connection.rows(&select, &[&id]).await?;
                listed.extend(connection.decode(&row, decode_listed)?.into_iter().map(|delivery| (event, delivery)));
            }
            Ok(listed)
        })
    }

    fn watches(&self, tenant: &str, correlation_id: &str) -> Result<Vec<WatchedBy>, SpoolError> {
        self.read(Vec::new(), async |connection| {
            let jumped = connection.clock().await?.map_or(0, ClockBase::jump);
            let select = "SELECT alert, state, due, overdue FROM all_requests \
                          WHERE request = $1 AND tenant = $2 AND correlation_id = $3 ORDER BY id";
            let hash = request_hash(tenant, correlation_id);
            let rows = connection.rows(select, &[&hash, &escape(tenant), &escape(correlation_id)]).await?;
            let watches = connection.decode(&rows, |row| {
                let state = RequestState::of_number(row.try_get(1)?);
                let at = match state {
                    Some(RequestState::Open) => row.try_get::<_, Option<i64>>(2)?.map(|due| due.saturating_add(jumped)),
                    Some(RequestState::Overdue) => row.try_get(3)?,
                    _ => None,
                };
                let alert = row.try_get(0)?;
                Ok(at.map(|at| WatchedBy { alert, at: WallTime(at), is_overdue: state == Some(RequestState::Overdue) }))
            })?;
            Ok(watches.into_iter().flatten().collect())
        })
    }

    fn overdue(&self, alert: &AlertName, limit: usize) -> Result<Vec<OverdueRequest>, SpoolError> {
        self.read(Vec::new(), async |connection| {
            let select = "SELECT tenant, correlation_id, status, received, time_limit, expires, overdue FROM all_requests \
                          WHERE state = 1 AND alert = $1 ORDER BY overdue LIMIT $2";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = connection.rows(select, &[&alert.as_str(), &limit]).await?;
            Ok(connection.decode(&rows, |row| {
                Ok(OverdueRequest {
                    tenant: shortened(text(row, 0)?),
                    correlation_id: shortened(text(row, 1)?),
                    status: text(row, 2)?,
                    received: WallTime(row.try_get(3)?),
                    limit: row.try_get(4)?,
                    expires: optional_text(row, 5)?.map(shortened),
                    since: WallTime(row.try_get::<_, Option<i64>>(6)?.unwrap_or_default()),
                })
            })?)
        })
    }

    fn dead_letters(&self) -> Result<Box<dyn DeadLetterReader>, SpoolError> {
        Ok(Box::new(self.clone()))
    }
}

/// The texts come from messages.
fn shortened(text: String) -> String {
    let most = usize::try_from(MAX_NAME).unwrap_or(usize::MAX);
    if text.chars().nth(most).is_none() { text } else { text.chars().take(most).collect() }
}

impl DeadLetterReader for PostgresReader {
    fn exist(&self) -> bool {
        StoreReader::exists(self).unwrap_or(false)
    }

    fn page(
        &self,
        filter: &DeadLetterFilter,
        last: Option<&DeadLetterSummary>,
        rows: usize,
    ) -> Result<Vec<DeadLetterSummary>, SpoolError> {
        let mut conditions = Conditions::of(filter);
        if let Some(last) = last {
            conditions.add_follows(filter, last);
        }
        let (selected, order) = (conditions.text(), Conditions::order_of_all(filter));
        let rows = conditions.value(signed(u64::try_from(rows).unwrap_or(u64::MAX)));
        let (values, size) = (
            conditions.values(),
            "length(detail) + length(coalesce(correlation_id, '')) + length(coalesce(tenant, ''))",
        );
        let select = format!(
            "SELECT {SUMMARY_COLUMNS} FROM (SELECT *, sum({size}) OVER ({order}) - ({size}) AS before FROM \
             (SELECT * FROM all_dead_letters WHERE {selected} {order} LIMIT {rows}) page) sized WHERE before < {PAGE_BYTES} {order}"
        );
        self.read(Vec::new(), async |connection| {
            let rows = connection.rows(&select, &values).await?;
            Ok(connection.decode(&rows, decode_summary)?)
        })
    }

    fn show(&self, id: i64) -> Result<Option<StoredDeadLetter>, SpoolError> {
        self.read(None, async |connection| {
            let select =
                format!("SELECT {SUMMARY_COLUMNS}, properties, body, type, route FROM all_dead_letters WHERE id = $1");
            let rows = connection.rows(&select, &[&id]).await?;
            Ok(connection.decode(&rows, decode_dead_letter)?.pop())
        })
    }
}

/// What [`decode_listed`] reads beside [`DELIVERY_COLUMNS`].
const PLACE_COLUMNS: &str = "d.id, (SELECT due FROM all_heads h WHERE h.id = d.id)";

fn decode_listed(row: &Row) -> Result<ListedDelivery, Error> {
    let delivery = decode_delivery(row)?.map_err(|damaged| damaged.error);
    let due = row.try_get::<_, Option<i64>>(18)?.map(MonotonicTime);
    Ok(ListedDelivery { id: RowId(row.try_get(17)?), delivery, due })
}

const SUMMARY_COLUMNS: &str =
    "id, reason, detail, sink, source, tenant, status, correlation_id, attempts, at, event_id";

fn decode_summary(row: &Row) -> Result<DeadLetterSummary, Error> {
    Ok(DeadLetterSummary {
        id: row.try_get(0)?,
        reason: row.try_get(1)?,
        detail: text(row, 2)?,
        sink: row.try_get(3)?,
        source: row.try_get(4)?,
        tenant: optional_text(row, 5)?,
        status: optional_text(row, 6)?,
        correlation_id: optional_text(row, 7)?,
        attempts: u32::try_from(row.try_get::<_, i64>(8)?).unwrap_or(u32::MAX),
        at: WallTime(row.try_get(9)?),
        event_id: row.try_get::<_, Option<&[u8]>>(10)?.and_then(|id| Uuid::from_slice(id).ok()),
    })
}

fn decode_dead_letter(row: &Row) -> Result<StoredDeadLetter, Error> {
    let body = Bytes::copy_from_slice(row.try_get(12)?);
    let names = (row.try_get(13)?, row.try_get(14)?);
    Ok(StoredDeadLetter::new(decode_summary(row)?, &text(row, 11)?, body, names))
}
