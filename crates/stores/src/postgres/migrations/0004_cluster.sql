CREATE TABLE cluster (one boolean PRIMARY KEY DEFAULT true CHECK (one), name text COLLATE "C" NOT NULL, id uuid NOT NULL);
CREATE TABLE nodes (
    epoch bigint PRIMARY KEY, token uuid NOT NULL UNIQUE, name text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL, schema_version bigint NOT NULL, beat bigint NOT NULL DEFAULT 0,
    runs boolean NOT NULL DEFAULT true,  -- turns run there
    came_at timestamptz NOT NULL DEFAULT now(), gone_at timestamptz, gone_why text COLLATE "C"  -- times: for people only
) WITH (fillfactor = 50);
CREATE INDEX nodes_in ON nodes (epoch) WHERE gone_at IS NULL;
-- whom to tell that a session was written by somebody who doesn't have it; 0: any node that runs turns
CREATE TABLE knocks (
    node bigint NOT NULL, session_id bigint NOT NULL, times bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (node, session_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
-- the oldest program that may still work with these tables, by the last step that it knows
INSERT INTO meta VALUES ('floor', 4);
CREATE TABLE leases (name text COLLATE "C" PRIMARY KEY, epoch bigint NOT NULL, taken bigint NOT NULL DEFAULT 1);
CREATE TABLE marks (name text COLLATE "C" PRIMARY KEY, value bigint NOT NULL);
INSERT INTO marks VALUES ('keys', 0), ('people', 0), ('restrictions', 0), ('jobs', 0), ('boards', 0);
CREATE FUNCTION enter_1(my_epoch bigint, my_token uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- "Turn", and the table's own number: one gate a schema
    PERFORM pg_advisory_xact_lock(1416983150, (('journal'::regclass)::oid::bigint & 2147483647)::int);
    PERFORM 1 FROM nodes WHERE epoch = my_epoch AND token = my_token AND gone_at IS NULL;  -- a snapshot of its own
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node % is not of this cluster any more', my_epoch USING ERRCODE = 'TK001';
    END IF;
END $$;
