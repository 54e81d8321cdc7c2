-- Deliveries that wait for their sink.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,      -- in the order in which the relay took them; given by it
    sink TEXT NOT NULL,
    key INTEGER NOT NULL,        -- hash of what is kept in order: of these, the next waits for the one before
    due INTEGER,                 -- when it is attempted next, in milliseconds since 1970; null: it waits for one of its key
    received INTEGER NOT NULL,   -- when its message was received, in milliseconds since 1970
    attempts INTEGER NOT NULL,
    cause TEXT,                  -- how the last attempt ended
    route TEXT,                  -- null: `unrouted:` names the sink
    type TEXT NOT NULL,          -- of the event
    tenant TEXT NOT NULL,
    event_id BLOB NOT NULL,      -- 16 bytes
    source TEXT NOT NULL,
    shard INTEGER NOT NULL,      -- of the source; 0 is all of it
    size INTEGER NOT NULL,       -- what it counts against spool.max_size, in bytes
    properties TEXT NOT NULL,    -- JSON, in the shape of a sample
    body BLOB NOT NULL           -- as received
) STRICT;

-- Only a key's oldest row has a due time: what is stuck behind it costs the others nothing.
CREATE INDEX deliveries_by_due ON deliveries (sink, due) WHERE due IS NOT NULL;
CREATE INDEX deliveries_by_age ON deliveries (sink, received) WHERE due IS NOT NULL;
-- Holds all that is needed to count them without reading them.
CREATE INDEX deliveries_by_key ON deliveries (sink, key, id, event_id, size);

-- What a pause or a breaker must not forget when the relay restarts.
CREATE TABLE states (
    kind TEXT NOT NULL,          -- sink or source
    name TEXT NOT NULL,
    state TEXT NOT NULL,         -- JSON
    PRIMARY KEY (kind, name)
) STRICT;

-- What a redelivered message is known by: the event's id, or a hash of bytes and properties where there is no event.
ALTER TABLE dead_letters ADD COLUMN identity BLOB;
-- What it takes to deliver a dead letter after all.
ALTER TABLE dead_letters ADD COLUMN route TEXT;
ALTER TABLE dead_letters ADD COLUMN type TEXT;

UPDATE dead_letters SET identity = event_id, type = 'fr.cnes.regards.lta.submission.response' WHERE event_id IS NOT NULL;
CREATE INDEX dead_letters_by_identity ON dead_letters (identity);
