-- A move of the spool to or from a file, since version 3: no relay uses the spool then. At most one row.
CREATE TABLE migration (
    state text NOT NULL,          -- copy: the rows are an unfinished copy; source: they are being copied; moved: they were moved
    other text NOT NULL           -- the file
);
