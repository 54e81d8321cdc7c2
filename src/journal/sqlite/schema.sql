-- The journal's schema, version 1 (`user_version`). All times are in milliseconds: by the wall clock since 1970, or since a boot.

-- The records that were written in one transaction. The oldest batch is deleted as a whole.
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,      -- in the order of writing
    at INTEGER NOT NULL,         -- when it was written, by the wall clock
    boot INTEGER NOT NULL,       -- the same moment since boot, because the wall clock may jump: which boot
    uptime INTEGER NOT NULL,     -- and the time since that boot
    first INTEGER,               -- the earliest time at which one of its events was received; null: it has no event
    last INTEGER,                -- the latest such time
    records INTEGER NOT NULL     -- how many it has
) STRICT;

-- Its records, encoded one after the other with their lengths, and compressed (zstd).
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY,      -- batch * 2^16 + the number of the block
    records BLOB NOT NULL
) STRICT;

-- Which blocks have records of which ids: words of 8 bytes, little-endian, each a part of a hash and the number of the block.
CREATE TABLE keys (
    id INTEGER PRIMARY KEY,      -- bucket * 2^48 + batch; the bucket is the first bits of the hash
    words BLOB NOT NULL
) STRICT;
