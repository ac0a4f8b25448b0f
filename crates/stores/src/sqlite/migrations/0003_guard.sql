-- One row for each time that a customer was restricted; never what they wrote.
CREATE TABLE restrictions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    customer TEXT NOT NULL,
    severity TEXT NOT NULL,
    type TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER,
    reason TEXT NOT NULL,
    appeal TEXT,
    appealed_at INTEGER,
    lifted_at INTEGER,
    lifted_by TEXT
) STRICT;
CREATE INDEX restrictions_of_customer ON restrictions (tenant, customer, id);
CREATE INDEX restrictions_ended ON restrictions (coalesce(lifted_at, until));
CREATE INDEX restrictions_unlifted ON restrictions (id) WHERE lifted_at IS NULL;
