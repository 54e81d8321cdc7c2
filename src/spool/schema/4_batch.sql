-- The number of the last transaction: whether one whose end is unknown is on the disk is read here.
CREATE TABLE batch (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO batch (id, number) VALUES (1, 0);
