-- What alerts need, added to the spool's schema: these tables are created in a file that lacks them, and another version ignores them.

-- Requests that alerts watch: each request once for each alert that watches it.
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY,
    request INTEGER NOT NULL,    -- hash of tenant and correlation id
    alert TEXT NOT NULL,         -- the alert; empty: the end of the request came before the event that opens it
    state INTEGER NOT NULL,      -- 0 open, 1 overdue, 2 ended after it was overdue, 3 ended before it was opened
    boot INTEGER NOT NULL,       -- the boot in which `due` was counted
    due INTEGER,                 -- when the relay has to do something about it, counted from `clock.base`; null: once it ends
    tenant TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    product_id TEXT,
    session TEXT,
    expires TEXT,
    status TEXT NOT NULL,        -- of the event that opened it, or of its end
    received INTEGER NOT NULL,   -- when that event was received, by the wall clock
    time_limit TEXT NOT NULL,    -- in words, as of when it was opened
    overdue INTEGER,             -- since when it is overdue, by the wall clock
    receivers TEXT               -- the sinks that got RAISED, as a JSON array
) STRICT;

CREATE INDEX IF NOT EXISTS requests_by_request ON requests (request);
-- Covers counting: the rows themselves are not read for it.
CREATE INDEX IF NOT EXISTS requests_by_due ON requests (boot, due, state, alert);
-- Few requests are in one of these states, so that the indexes cost little.
CREATE INDEX IF NOT EXISTS overdue_requests ON requests (alert, overdue) WHERE state = 1;
CREATE INDEX IF NOT EXISTS early_ends ON requests (due) WHERE state = 3;

-- Raised alerts that are about no request: a restart neither forgets nor repeats them.
CREATE TABLE IF NOT EXISTS raised_alerts (
    alert TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,         -- JSON
    PRIMARY KEY (alert, subject)
) STRICT;
