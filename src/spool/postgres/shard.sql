-- The rows of one shard. `{shard}` is its number, and the schema is one of its own, which stands in the search path before the
-- one that all shards share; the tables of shard 0 are in that one. All times are in milliseconds: by the wall clock since 1970, or since
-- a boot. Texts from messages have `\0` for NUL, which PostgreSQL can't store, and `\\` for `\`.

-- Events that are stored until their sink has confirmed them.
CREATE TABLE deliveries (
    id bigint PRIMARY KEY,        -- assigned by the relay, in the order in which it received the events
    sink text NOT NULL,
    key bigint NOT NULL,          -- hash of the ordering key; of one key only the oldest delivery is attempted
    received bigint NOT NULL,     -- when the message was received, by the wall clock
    boot bigint NOT NULL,         -- `received` by the monotonic clock, because the wall clock may jump: the boot
    uptime bigint NOT NULL,       -- `received` by the monotonic clock: the time since that boot
    attempts bigint NOT NULL,
    replayed boolean NOT NULL,    -- of a replay
    last_error text,              -- how the last attempt failed
    route text,                   -- null: the sink is named by `unrouted:`
    type text NOT NULL,           -- the event's type
    tenant text NOT NULL,
    event_id bytea NOT NULL,      -- 16 bytes
    source text NOT NULL,
    size bigint NOT NULL,         -- in bytes, as `spool.max_size` counts the row
    properties text NOT NULL,     -- JSON, in the shape of a sample
    body bytea NOT NULL,          -- as received
    group_by text,                -- of a sink with `group`: the fields that the event is grouped by and their values, as JSON
    digest bigint,                -- the first delivery of the digest that it was put into; null: it is in none yet
    shard smallint NOT NULL DEFAULT {shard}
);
-- By an expression, so that only the search for the oldest delivery can use it: for an empty table it seems as good as the index by key,
-- and a plan is kept while the table grows.
CREATE INDEX deliveries_by_age ON deliveries ((sink || ''), received);
CREATE INDEX deliveries_by_key ON deliveries (sink, key, id) INCLUDE (event_id, size);

-- The oldest delivery of each key, and when it is attempted next. The search for due deliveries reads only this table.
CREATE TABLE heads (
    id bigint PRIMARY KEY,        -- of the delivery
    sink text NOT NULL,
    due bigint NOT NULL,          -- counted from `shards.base`
    refusals bigint NOT NULL DEFAULT 0, -- how often the sink has refused the delivery
    shard smallint NOT NULL DEFAULT {shard}
);
CREATE INDEX heads_by_due ON heads (sink, due, id);

-- Messages that could not be read and events that could not be delivered, until a person has dealt with them.
CREATE TABLE dead_letters (
    id bigint PRIMARY KEY,        -- shown to people, and never used twice
    at bigint NOT NULL,           -- when it became a dead letter, by the wall clock
    boot bigint NOT NULL,         -- `at` by the monotonic clock: the boot
    uptime bigint NOT NULL,       -- `at` by the monotonic clock: the time since that boot
    reason text NOT NULL,
    detail text NOT NULL,
    sink text,
    source text NOT NULL,
    tenant text,
    status text,
    correlation_id text,
    event_id bytea,               -- 16 bytes
    identity bytea NOT NULL,      -- identifies a redelivered message: the event's id, or a hash of properties and body
    route text,
    type text,
    attempts bigint NOT NULL,
    size bigint NOT NULL,         -- in bytes, as `dead_letters.max_size` counts the row
    properties text NOT NULL,     -- JSON, in the shape of a sample
    body bytea NOT NULL,          -- as received
    shard smallint NOT NULL DEFAULT {shard}
);
CREATE INDEX dead_letters_by_age ON dead_letters (at);
CREATE INDEX dead_letters_by_uptime ON dead_letters (boot, uptime);
-- A hash: an index takes no text over 2,700 bytes.
CREATE INDEX dead_letters_by_correlation_id ON dead_letters USING hash (correlation_id);
CREATE INDEX dead_letters_by_identity ON dead_letters (identity);

-- The highest number that a dead letter ever had. Those of each shard begin with its own.
CREATE TABLE dead_letter_numbers (last bigint NOT NULL);
INSERT INTO dead_letter_numbers VALUES ({shard} * 1000000000::bigint);

-- Pauses and breakers, which survive a restart.
CREATE TABLE states (
    kind text NOT NULL,           -- sink or source
    name text NOT NULL,
    state text NOT NULL,          -- JSON
    shard smallint NOT NULL DEFAULT {shard},
    PRIMARY KEY (kind, name)
);

-- Requests that alerts watch: each request once for each alert that watches it.
CREATE TABLE requests (
    id bigint PRIMARY KEY DEFAULT nextval('request_ids'),
    request bigint NOT NULL,      -- hash of tenant and correlation id
    alert text NOT NULL,          -- the alert; empty: the end of the request came before the event that opens it
    state bigint NOT NULL,        -- 0 open, 1 overdue, 2 ended after it was overdue, 3 ended before it was opened
    boot bigint NOT NULL,         -- the boot in which `due` was counted
    due bigint,                   -- when the relay has to do something about it, counted from `shards.base`; null: once it ends
    tenant text NOT NULL,
    correlation_id text NOT NULL,
    product_id text,
    session text,
    expires text,
    status text NOT NULL,         -- of the event that opened it, or of its end
    received bigint NOT NULL,     -- when that event was received, by the wall clock
    time_limit text NOT NULL,     -- in words, as of when it was opened
    overdue bigint,               -- since when it is overdue, by the wall clock
    receivers text,               -- the sinks that got RAISED, as a JSON array
    shard smallint NOT NULL DEFAULT {shard}
);
CREATE INDEX requests_by_request ON requests (request);
CREATE INDEX requests_by_due ON requests (boot, due, state, alert);
CREATE INDEX overdue_requests ON requests (alert, overdue) WHERE state = 1;
CREATE INDEX early_ends ON requests (due) WHERE state = 3;

-- Raised alerts that are about no request: a restart neither forgets nor repeats them.
CREATE TABLE raised_alerts (
    alert text NOT NULL,
    subject text NOT NULL,
    state text NOT NULL,          -- JSON
    shard smallint NOT NULL DEFAULT {shard},
    PRIMARY KEY (alert, subject)
);
