-- like enter_1; and the database is not behind what this node was told that it keeps: the node's own beats,
-- which nobody else moves, and the journal up to a place. TK002: it was put back to an older state
CREATE FUNCTION enter_2(my_epoch bigint, my_token uuid, my_beat bigint, my_place bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    me record;
BEGIN
    PERFORM pg_advisory_xact_lock(1416983150, (('journal'::regclass)::oid::bigint & 2147483647)::int);
    SELECT beat, gone_at INTO me FROM nodes WHERE epoch = my_epoch AND token = my_token;  -- a snapshot of its own
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node % is not known to this database', my_epoch USING ERRCODE = 'TK002';
    ELSIF me.gone_at IS NOT NULL THEN
        RAISE EXCEPTION 'node % is not of this cluster any more', my_epoch USING ERRCODE = 'TK001';
    ELSIF me.beat < my_beat THEN
        RAISE EXCEPTION 'node % was at beat % before, not at %', my_epoch, my_beat, me.beat USING ERRCODE = 'TK002';
    ELSIF my_place > (SELECT greatest((SELECT max(place) FROM journal), value) FROM meta WHERE name = 'journal') THEN
        RAISE EXCEPTION 'the journal ended at % before', my_place USING ERRCODE = 'TK002';
    END IF;
END $$;
