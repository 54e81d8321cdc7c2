-- The oldest delivery of each key, and when it is attempted next: what is stuck behind it costs the others nothing. In a table of its own,
-- since the next of a key follows with each delivery, and its row is large.
CREATE TABLE heads (
    id INTEGER PRIMARY KEY,      -- of the delivery
    sink TEXT NOT NULL,
    due INTEGER NOT NULL         -- in milliseconds since 1970
) STRICT;

INSERT INTO heads (id, sink, due) SELECT id, sink, due FROM deliveries WHERE due IS NOT NULL;
CREATE INDEX heads_by_due ON heads (sink, due);

-- The column `deliveries.due` means nothing from here on; to drop it would write every row anew.
DROP INDEX deliveries_by_due;
DROP INDEX deliveries_by_age;
CREATE INDEX deliveries_by_age ON deliveries (sink, received);
