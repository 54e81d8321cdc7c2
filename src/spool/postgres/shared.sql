-- What all shards of a spool share: who uses it. The times of leases are the database's own.

-- A relay that uses or wants to use the spool.
CREATE TABLE instances (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    seen_at timestamptz NOT NULL,
    config_hash bigint NOT NULL,
    backends jsonb NOT NULL       -- the process id and the start of each of its connections that write
);

-- Each owner of a shard has a higher epoch than all owners before, of any shard.
CREATE SEQUENCE epochs;

-- The owner of a shard is the only writer of its rows until its lease ends.
CREATE TABLE shards (
    shard smallint PRIMARY KEY,
    source text NOT NULL UNIQUE,  -- whose queue it is about; empty: all sources that have one queue
    epoch bigint NOT NULL,        -- of its owner, or of the last one; the ids of an owner's rows begin with it
    owner bigint,                 -- of `instances`
    clean boolean NOT NULL,       -- the last owner gave it up when nothing of it was in flight
    expires_at timestamptz NOT NULL,
    boot bigint NOT NULL,         -- the start of due times: the boot of the machine in which they were written
    base bigint NOT NULL          -- the wall clock less the time since that boot
);

-- The number of the last transaction of a shard's owner. After a commit with an unknown outcome it shows whether the transaction is stored.
CREATE TABLE shard_batches (
    shard smallint PRIMARY KEY REFERENCES shards,
    epoch bigint NOT NULL,
    number bigint NOT NULL
) WITH (fillfactor = 10);

-- The requests of all shards have ids of one sequence.
CREATE SEQUENCE request_ids;
