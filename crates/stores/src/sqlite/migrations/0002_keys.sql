-- Secrets are not here, only their SHA-256. A key without a tenant is the operator's.
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    secret BLOB NOT NULL,
    tenant TEXT,
    scopes TEXT NOT NULL,
    label TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
-- A code is used once and becomes a visit.
CREATE TABLE sign_ins (
    secret BLOB PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('code', 'visit')),
    tenant TEXT NOT NULL,
    customer TEXT NOT NULL,
    agent TEXT,
    made_by TEXT,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_ins_of_customer ON sign_ins (tenant, customer, kind, until);
CREATE INDEX sign_ins_waiting ON sign_ins (tenant, until) WHERE kind = 'code';
CREATE INDEX sign_ins_of_key ON sign_ins (made_by) WHERE made_by IS NOT NULL;
CREATE INDEX sign_ins_until ON sign_ins (until);
