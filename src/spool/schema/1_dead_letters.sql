-- Messages that could not be read and events that could not be delivered, until a person has dealt with them.
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- what people call it by: never given twice
    at INTEGER NOT NULL,                  -- when it died, in milliseconds since 1970
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    sink TEXT,
    source TEXT NOT NULL,
    tenant TEXT,
    status TEXT,
    correlation_id TEXT,
    event_id BLOB,                        -- 16 bytes
    attempts INTEGER NOT NULL,
    size INTEGER NOT NULL,                -- what it counts against dead_letters.max_size, in bytes
    properties TEXT NOT NULL,             -- JSON, in the shape of a sample
    body BLOB NOT NULL                    -- as received
) STRICT;

CREATE INDEX dead_letters_by_age ON dead_letters (at);
CREATE INDEX dead_letters_by_correlation_id ON dead_letters (correlation_id);
-- Holds all that is needed to count them without reading them.
CREATE INDEX dead_letters_by_reason ON dead_letters (reason, sink, size);
