-- The tables of the journal, version 1, in the schema of the spool. All relays of the spool write them, one batch after the other. Times
-- are in milliseconds since 1970.

-- The records that were written in one transaction. Batches have consecutive numbers; the oldest are deleted as a whole.
CREATE TABLE journal_batches (
    id bigint PRIMARY KEY,         -- in the order of writing
    mark bigint NOT NULL UNIQUE,   -- by which a relay recognizes its batch when it does not know whether it is stored
    at bigint NOT NULL,            -- when it was written, by the clock of the database
    first bigint,                  -- the earliest time at which one of its events was received; null: it has no event
    last bigint,                   -- the latest such time
    records integer NOT NULL,      -- how many it has
    bytes bigint NOT NULL          -- about what it takes on the disk, in bytes
);

-- Its records, encoded one after the other with their lengths, and compressed (zstd).
CREATE TABLE journal_blocks (
    id bigint PRIMARY KEY,         -- batch * 2^16 + the number of the block
    records bytea NOT NULL
);
ALTER TABLE journal_blocks ALTER COLUMN records SET STORAGE EXTERNAL;

-- Which blocks have records of which ids: words of 8 bytes, little-endian, each a part of a hash and the number of the block.
CREATE TABLE journal_keys (
    id bigint PRIMARY KEY,         -- bucket * 2^48 + batch; the bucket is the first bits of the hash
    words bytea NOT NULL
);
ALTER TABLE journal_keys ALTER COLUMN words SET STORAGE EXTERNAL;
