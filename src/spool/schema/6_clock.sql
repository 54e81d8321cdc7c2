-- When something happened by the time since boot, too, in milliseconds, and in which boot: the wall clock may have jumped since. Null: only
-- the wall clock is known.
ALTER TABLE deliveries ADD COLUMN boot INTEGER;
ALTER TABLE deliveries ADD COLUMN uptime INTEGER;
ALTER TABLE dead_letters ADD COLUMN boot INTEGER;
ALTER TABLE dead_letters ADD COLUMN uptime INTEGER;
CREATE INDEX dead_letters_by_uptime ON dead_letters (boot, uptime) WHERE boot IS NOT NULL;

-- What due times are counted from, in the boot in which they were written.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot INTEGER NOT NULL,
    base INTEGER NOT NULL        -- the wall clock less the time since boot, in milliseconds since 1970
) STRICT;
