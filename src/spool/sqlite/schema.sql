-- The spool's schema, version 2 (`user_version`). All times are in milliseconds: by the wall clock since 1970, or since a boot.

-- Events that are stored until their sink has confirmed them.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,      -- assigned by the relay, in the order in which it received the events
    sink TEXT NOT NULL,
    key INTEGER NOT NULL,        -- hash of the ordering key; of one key only the oldest delivery is attempted
    received INTEGER NOT NULL,   -- when the message was received, by the wall clock
    boot INTEGER NOT NULL,       -- `received` by the monotonic clock, because the wall clock may jump: the boot
    uptime INTEGER NOT NULL,     -- `received` by the monotonic clock: the time since that boot
    attempts INTEGER NOT NULL,
    replayed INTEGER NOT NULL,   -- 1: of a replay
    last_error TEXT,             -- how the last attempt failed
    route TEXT,                  -- null: the sink is named by `unrouted:`
    type TEXT NOT NULL,          -- the event's type
    tenant TEXT NOT NULL,
    event_id BLOB NOT NULL,      -- 16 bytes
    source TEXT NOT NULL,
    size INTEGER NOT NULL,       -- in bytes, as `spool.max_size` counts the row
    properties TEXT NOT NULL,    -- JSON, in the shape of a sample
    body BLOB NOT NULL,          -- as received
    group_by TEXT,               -- of a sink with `group`: the fields that the event is grouped by and their values, as JSON
    digest INTEGER               -- the first delivery of the digest that it was put into; null: it is in none yet
) STRICT;

CREATE INDEX deliveries_by_age ON deliveries (sink, received);
-- Covers counting: the rows themselves are not read for it.
CREATE INDEX deliveries_by_key ON deliveries (sink, key, id, event_id, size);

-- The oldest delivery of each key, and when it is attempted next. The search for due deliveries reads only this table. It is separate from
-- `deliveries`, because each completed delivery makes the next one of its key the head, and a delivery's row is large.
CREATE TABLE heads (
    id INTEGER PRIMARY KEY,      -- of the delivery
    sink TEXT NOT NULL,
    due INTEGER NOT NULL,        -- counted from `clock.base`
    refusals INTEGER NOT NULL DEFAULT 0 -- how often the sink has refused the delivery
) STRICT;

CREATE INDEX heads_by_due ON heads (sink, due);

-- Messages that could not be read and events that could not be delivered, until a person has dealt with them.
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- shown to people, and never used twice
    at INTEGER NOT NULL,         -- when it became a dead letter, by the wall clock
    boot INTEGER NOT NULL,       -- `at` by the monotonic clock: the boot
    uptime INTEGER NOT NULL,     -- `at` by the monotonic clock: the time since that boot
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    sink TEXT,
    source TEXT NOT NULL,
    tenant TEXT,
    status TEXT,
    correlation_id TEXT,
    event_id BLOB,               -- 16 bytes
    identity BLOB NOT NULL,      -- identifies a redelivered message: the event's id, or a hash of properties and body
    route TEXT,
    type TEXT,
    attempts INTEGER NOT NULL,
    size INTEGER NOT NULL,       -- in bytes, as `dead_letters.max_size` counts the row
    properties TEXT NOT NULL,    -- JSON, in the shape of a sample
    body BLOB NOT NULL           -- as received
) STRICT;

CREATE INDEX dead_letters_by_age ON dead_letters (at);
CREATE INDEX dead_letters_by_uptime ON dead_letters (boot, uptime);
CREATE INDEX dead_letters_by_correlation_id ON dead_letters (correlation_id);
CREATE INDEX dead_letters_by_identity ON dead_letters (identity);
-- Covers counting: the rows themselves are not read for it.
CREATE INDEX dead_letters_by_reason ON dead_letters (reason, sink, size);

-- Pauses and breakers, which survive a restart.
CREATE TABLE states (
    kind TEXT NOT NULL,          -- sink or source
    name TEXT NOT NULL,
    state TEXT NOT NULL,         -- JSON
    PRIMARY KEY (kind, name)
) STRICT;

-- The number of the last transaction. After a commit with an unknown outcome it shows whether the transaction is on disk.
CREATE TABLE batch (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO batch (id, number) VALUES (1, 0);

-- The start of due times, in the boot in which they were written.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot INTEGER NOT NULL,
    base INTEGER NOT NULL        -- the wall clock less the time since boot
) STRICT;
