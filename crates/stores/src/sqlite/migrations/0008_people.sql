-- Who became known by a one-time code, and who may yet. Codes are not here, only their SHA-256.
CREATE TABLE pairings (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    trust TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    code BLOB,
    channel TEXT,
    person TEXT,
    paired_at INTEGER,
    CHECK ((channel IS NULL) = (person IS NULL) AND (person IS NULL) = (paired_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX pairings_code ON pairings (code) WHERE code IS NOT NULL;
CREATE UNIQUE INDEX pairings_person ON pairings (tenant, channel, person) WHERE person IS NOT NULL;
