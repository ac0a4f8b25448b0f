// What stands where: the journal's blocks, oldest first, and between them what is not in the
// journal. Pure: no DOM, no clock, no network.
//
// A turn stands where its first message stands, and a message that was refused stands after what
// was known when it was. What comes into a turn after something else stands below that, so a turn
// may be drawn in several pieces.

/** The blocks to draw now. `pending` is what the outbox holds. */
export function visibleBlocks(conversation, pending, limit) {
  const { openTurn: open, loose } = conversation;
  const local = pending.map(pendingRow);
  const refused = local.filter((row) => row.status === "refused").sort(byPlace);
  const unsent = local.filter((row) => row.status !== "refused");
  // Most likely these will join the open turn; shown there they don't jump when they do.
  const joins = open && loose.length === 0;
  const tail = open ? [...(joins ? unsent : []), ...underWay(open, conversation)] : [];
  const waits = (row) => loose.length > 0 && loose[0].seq <= placeOf(row);
  const full = conversation.blocks.filter((block) => block.rows.length > 0 || block === open);
  const placed = withRefused(full, refused.filter((row) => !waits(row)));
  const drawn = inPieces(placed, open, tail);
  const rest = [...merged(loose, refused.filter(waits)), ...(joins ? [] : unsent)];
  if (rest.length) {
    drawn.push({ key: "waiting", kind: "waiting", id: null, at: rest[0].at, state: "waiting", rows: rest });
  }
  return { blocks: drawn.slice(-limit), hidden: drawn.length > limit };
}

function pendingRow(entry) {
  return { ...entry, key: `u:${entry.id}`, role: "user", local: true, messageId: entry.id };
}

/** The place in the journal after which a refused message stands; behind everything until it is known. */
function placeOf({ after }) {
  return after ?? Number.MAX_SAFE_INTEGER;
}

function byPlace(one, other) {
  return placeOf(one) - placeOf(other);
}

/** What the agent is at, below everything else in the open turn. */
function underWay(turn, conversation) {
  const draft = conversation.drafts.get(turn.id);
  if (draft?.text) {
    return [{ key: `d:${turn.id}:${draft.attempt}`, role: "agent", testid: "draft", text: draft.text, status: "streaming", rev: draft.rev }];
  }
  if (turn.state === "processing" || (conversation.typing && turn.state === "accumulating")) {
    return [{ key: `y:${turn.id}`, role: "typing", testid: "typing", text: turn.activity, status: "typing", rev: turn.activity }];
  }
  return [];
}

/** Refused messages among the queued ones. */
function merged(loose, refused) {
  const rows = [];
  const left = [...refused];
  for (const row of loose) {
    while (left.length > 0 && placeOf(left[0]) < row.seq) rows.push(left.shift());
    rows.push(row);
  }
  return [...rows, ...left];
}

/** Every refused message as a block of its own, after the last one that began before it. */
function withRefused(blocks, refused) {
  const placed = [...blocks];
  for (const row of refused) {
    const seq = placeOf(row);
    let at = placed.length;
    while (at > 0 && (placed[at - 1].rows[0]?.seq ?? placed[at - 1].seq) > seq) at -= 1;
    // The server's clock tells the days; this one comes from the browser's.
    const day = placed[at - 1]?.at ?? row.at;
    placed.splice(at, 0, { key: `r:${row.key}`, kind: "refused", id: null, seq, at: day, state: "refused", rows: [row] });
  }
  return placed;
}

/** Cuts turns where something else that stands behind them came in between. */
function inPieces(blocks, open, tail) {
  const drawn = [];
  let turn = null;
  let left = [];
  let before = null;
  /** Draws what is left of the turn, up to this place. */
  const piece = (upTo) => {
    const count = left.findIndex((row) => (row.seq ?? Infinity) > upTo);
    const rows = left.splice(0, count < 0 ? left.length : count);
    if (rows.length === 0) return;
    const first = before === null;
    drawn.push({ ...turn, key: first ? turn.key : `${turn.key}:${before.key}`, at: first ? turn.at : (rows[0].at ?? before.at), rows });
  };
  for (const block of blocks) {
    if (block.id !== null) {
      piece(Infinity);
      [turn, left, before] = [block, [...block.rows, ...(block === open ? tail : [])], null];
      continue;
    }
    piece(block.seq);
    drawn.push(block);
    before = block;
  }
  piece(Infinity);
  return drawn;
}
