// What the journal of one session says, as blocks of rows. Pure: no DOM, no clock, no network.
//
// A block is one turn (its messages, then what the agent said), a notice, or the divider of a
// new conversation. Rows move between blocks as messages join, leave and supersede turns; each
// row has a `rev` that grows with every change, so the view touches only what changed.

const OPEN_STATES = new Set(["accumulating", "processing", "waiting_for_input", "waiting_for_operator"]);

export class Conversation {
  constructor() {
    this.clear();
  }

  clear() {
    /** The last journal number applied; everything up to it is in here, once. */
    this.lastSeq = 0;
    this.blocks = [];
    /** Accepted messages that no turn has taken. */
    this.loose = [];
    this.turns = new Map();
    this.messages = new Map();
    /** What tools were called for, by the places of their intents. */
    this.calls = new Map();
    this.keys = new Set();
    this.drafts = new Map();
    this.freshDrafts = true;
    this.openTurnId = null;
    this.closed = false;
    /** Whoever answers in the agent's place, if somebody does. */
    this.operator = null;
    this.typing = false;
  }

  /** The turn that gathers, runs or asks now, if there is one. */
  get openTurn() {
    return this.openTurnId === null ? null : this.turns.get(this.openTurnId);
  }

  /** Applies one journal event. Returns whether it was new. */
  apply(event) {
    if (event.seq <= this.lastSeq) return false;
    this.lastSeq = event.seq;
    HANDLERS[event.type]?.(this, { ...event, at: instant(event.at) });
    return true;
  }

  /** Streamed text and typing: never journalled, and forgotten with the turn. */
  applyEphemeral(type, data) {
    if (type === "typing") {
      this.typing = Boolean(data.on);
      return;
    }
    const known = this.drafts.get(data.turn_id);
    if (known && data.attempt < known.attempt) return;
    const turn = this.turns.get(data.turn_id);
    if (turn && !OPEN_STATES.has(turn.state) && turn.state !== "announced") return;
    // The first piece after connecting is the whole draft so far.
    const continues = type === "draft" && known && !known.stale && known.attempt === data.attempt;
    this.drafts.set(data.turn_id, {
      attempt: data.attempt,
      text: (continues ? known.text : "") + (data.text ?? ""),
      stale: false,
      rev: (known?.rev ?? 0) + 1,
    });
  }

  /** A new connection: drafts will be sent again, whole. */
  connected() {
    this.typing = false;
    for (const draft of this.drafts.values()) draft.stale = true;
  }

  /** Starts from the message list, where the journal can't be replayed from its beginning. */
  restore(messages, session, lastSeq) {
    this.clear();
    const answered = new Set(messages.filter(({ role }) => role === "agent" || role === "operator").map((one) => one.turn_id));
    // What is newer than the stream's starting point comes again as events.
    for (const one of messages.filter(({ seq }) => seq <= lastSeq)) {
      const at = instant(one.at);
      if (one.role === "user") {
        const row = addMessage(this, { ...one, at });
        if (!one.turn_id) standAlone(this, row);
        else place(this, row, ensureTurn(this, one.turn_id, one.seq, at));
        if (one.turn_id && one.turn_id !== session?.open_turn_id) {
          row.final = answered.has(one.turn_id) ? "answered" : "sent";
        }
      } else if (one.role === "agent" || one.role === "operator") {
        const row = agentRow(one.seq, at, one.text, "complete", one.by);
        if (one.turn_id) addToTurn(this, ensureTurn(this, one.turn_id, one.seq, at), row);
        else addBlock(this, "notice", row);
      } else {
        addBlock(this, "notice", noticeRow(one.seq, at, one.text, "info"));
      }
    }
    for (const turn of this.turns.values()) turn.state = "complete";
    if (session?.open_turn_id) {
      const turn = ensureTurn(this, session.open_turn_id, lastSeq, instant(session.updated_at));
      turn.state = OPEN_STATES.has(session.state) ? session.state : "processing";
      this.openTurnId = turn.id;
    }
    this.closed = session?.state === "closed";
    this.lastSeq = lastSeq;
  }
}

/** What became of a message, as the person who wrote it sees it. */
export function messageStatus(row) {
  if (row.final) return row.final;
  if (row.held) return "held";
  if (!row.turn) return row.ahead ? "queued" : "sent";
  if (row.turn.state === "accumulating" || row.turn.state === "announced") return "gathering";
  if (!OPEN_STATES.has(row.turn.state)) return "sent";
  if (row.turn.state === "waiting_for_operator") return "with_person";
  return row.joined ? "joined" : "processing";
}

const HANDLERS = {
  "message.accepted"(model, event) {
    const old = model.messages.get(event.retry_of);
    if (old) settle(old, "retried");
    const row = addMessage(model, event);
    row.held = event.held === true;
    if (event.action === "queued") row.ahead = event.queue_position ?? 1;
    else if (!event.turn_id) standAlone(model, row);
    else {
      const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
      row.joined = event.action === "event_sent" && turn.state === "processing";
      place(model, row, turn);
    }
  },
  "message.command": (model, event) => addAside(model, event),
  "message.context"(model, event) {
    // One that was held stands there already.
    if (event.of) settleAll(model, [event.of], "sent");
    else addAside(model, event);
  },
  "message.requeued"(model, event) {
    for (const row of rowsOf(model, event.messages)) {
      row.joined = false;
      row.ahead = 1;
      place(model, row, null);
    }
  },
  "message.cancelled": (model, event) => settleAll(model, event.messages, "cancelled"),
  "message.expired": (model, event) => settleAll(model, event.messages, "expired"),
  "message.discarded": (model, event) => settleAll(model, [event.message], "discarded"),
  "guard.allowed"(model, event) {
    for (const row of rowsOf(model, [event.message])) {
      row.held = false;
      row.rev += 1;
    }
  },
  "guard.refused": (model, event) => settleAll(model, [event.message], "withheld"),

  "turn.started"(model, event) {
    const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
    takeInto(model, turn, event.messages, false);
    setState(model, turn, "accumulating");
  },
  "turn.processing"(model, event) {
    const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
    for (const row of rowsOf(model, event.messages)) if (row.turn !== turn) place(model, row, turn);
    turn.attempt = event.attempt;
    if (event.attempt > (model.drafts.get(turn.id)?.attempt ?? event.attempt)) model.drafts.delete(turn.id);
    turn.activity = event.attempt === 1 ? "" : turn.recovered ? "picked up again after a restart" : `trying again, attempt ${event.attempt}`;
    turn.recovered = false;
    setState(model, turn, "processing");
  },
  "turn.message_absorbed"(model, event) {
    takeInto(model, ensureTurn(model, event.turn_id, event.seq, event.at), event.messages, true);
  },
  "turn.waiting_for_input"(model, event) {
    const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
    const row = agentRow(event.seq, event.at, event.text, "waiting");
    row.questionId = event.question_id;
    row.confirm = event.confirm === true;
    addToTurn(model, turn, row);
    model.drafts.delete(turn.id);
    model.typing = false;
    setState(model, turn, "waiting_for_input");
  },
  "turn.waiting_for_operator"(model, event) {
    const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
    closeQuestions(turn);
    takeInto(model, turn, event.messages, false);
    model.drafts.delete(turn.id);
    model.typing = false;
    setState(model, turn, "waiting_for_operator");
  },
  "turn.answered"(model, event) {
    const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
    closeQuestions(turn);
    takeInto(model, turn, [event.message], false);
    setState(model, turn, "processing");
  },
  "turn.retrying"(model, event) {
    const turn = model.turns.get(event.turn_id);
    if (!turn) return;
    model.drafts.delete(turn.id);
    turn.activity = `attempt ${event.attempt} failed, trying again`;
  },
  "turn.recovered"(model, event) {
    const turn = model.turns.get(event.turn_id);
    if (turn) turn.recovered = true;
  },
  "tool.intended"(model, event) {
    const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
    const row = toolRow(event);
    model.calls.set(event.seq, row);
    addToTurn(model, turn, row);
  },
  "tool.returned"(model, event) {
    const row = model.calls.get(event.call);
    if (!row) return;
    model.calls.delete(event.call);
    row.status = event.outcome;
    row.output = event.output;
    row.rev += 1;
  },
  "agent.event"(model, event) {
    const turn = model.turns.get(event.turn_id);
    if (turn) turn.activity = event.detail ? `${event.name}: ${event.detail}` : event.name;
  },
  "turn.superseded"(model, event) {
    const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
    const next = ensureTurn(model, event.by, event.seq, event.at);
    for (const row of turn.rows.filter((one) => one.role === "user" && !one.final)) place(model, row, next);
    endTurn(model, turn, "superseded");
  },
  "turn.completed"(model, event) {
    const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
    for (const row of rowsOf(model, event.messages)) {
      place(model, row, turn);
      settle(row, "answered");
    }
    const silent = event.reply === undefined || event.reply === null;
    addToTurn(
      model,
      turn,
      silent
        ? noticeRow(event.seq, event.at, "The agent read this and chose not to reply.", "info")
        : agentRow(event.seq, event.at, event.reply, "complete", event.by),
    );
    endTurn(model, turn, "complete");
    moveUp(model);
  },
  "turn.cancelled"(model, event) {
    const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
    for (const row of rowsOf(model, event.messages)) {
      place(model, row, turn);
      settle(row, event.reason === "stopped" ? "stopped" : "cancelled");
    }
    if (event.reply) addToTurn(model, turn, agentRow(event.seq, event.at, event.reply, "stopped"));
    endTurn(model, turn, "cancelled");
    moveUp(model);
  },
  "turn.failed"(model, event) {
    const turn = ensureTurn(model, event.turn_id, event.seq, event.at);
    for (const row of rowsOf(model, event.messages)) {
      place(model, row, turn);
      settle(row, "failed");
    }
    addToTurn(model, turn, noticeRow(event.seq, event.at, failureText(event), "error"));
    endTurn(model, turn, "failed");
    moveUp(model);
  },

  "session.reset"(model, event) {
    addBlock(model, "divider", { ...noticeRow(event.seq, event.at, "New conversation", "divider") });
  },
  "session.closed"(model, event) {
    model.closed = true;
    addBlock(model, "notice", noticeRow(event.seq, event.at, "This conversation was closed. Write to open it again.", "info"));
  },
  "session.reopened"(model) {
    model.closed = false;
  },
  "session.notice"(model, event) {
    const row = event.by
      ? agentRow(event.seq, event.at, event.text, "complete", event.by)
      : noticeRow(event.seq, event.at, event.text, "info");
    addBlock(model, "notice", row);
  },
  "session.paused"(model, event) {
    model.operator = event.by ?? "A person";
    addBlock(model, "notice", noticeRow(event.seq, event.at, `${model.operator} answers here now.`, "info"));
  },
  "session.imported"(model, event) {
    addBlock(model, "divider", { ...noticeRow(event.seq, event.at, "Imported from another conversation", "divider") });
  },
  "history.imported"(model, event) {
    const { seq, text, said_at: at } = event;
    if (event.role === "user") return addAside(model, { seq, at, text, message_id: `imported:${seq}` });
    const told = event.role === "notice";
    addBlock(model, "notice", told ? noticeRow(seq, at, text, "info") : agentRow(seq, at, text, "complete", event.by));
  },
  "session.handed_back"(model, event) {
    model.operator = null;
    addBlock(model, "notice", noticeRow(event.seq, event.at, "The agent answers again.", "info"));
  },
};

/** Milliseconds since the epoch: events give them as they are, the other answers as RFC 3339. */
function instant(at) {
  const known = typeof at === "number" ? at : Date.parse(at);
  return Number.isFinite(known) ? known : 0;
}

function failureText({ reason, error }) {
  const why = {
    agent_failed: "The agent could not answer.",
    crash_loop: "The answer was interrupted too often.",
    input_timeout: "The question stayed open for too long.",
    expired: "This waited for too long.",
  }[reason] ?? "This could not be answered.";
  const kept = "What you wrote is kept as a dead letter and can be retried.";
  return error ? `${why} ${kept} (${error})` : `${why} ${kept}`;
}

/** `by` is the operator who answered in the place of the agent, if one did. */
function agentRow(seq, at, text, status, by = null) {
  return { key: `a:${seq}`, role: "agent", seq, at, text, status, by, rev: 0, turn: null };
}

/** A call of a tool. Its status is what came of it: `done`, `failed`, `unknown`, or `calling` until then. */
function toolRow({ seq, at, tool, effects, input }) {
  return { key: `c:${seq}`, role: "tool", testid: "tool", seq, at, tool, effects, input, output: "", status: "calling", rev: 0, turn: null };
}

function noticeRow(seq, at, text, status) {
  return { key: `n:${seq}`, role: "notice", seq, at, text, status, rev: 0, turn: null };
}

/** The key is the one its unsent row had, so that the same element goes on; a retried dead letter is a second row. */
function addMessage(model, { seq, at, text, message_id: messageId }) {
  let key = `u:${messageId}`;
  if (model.keys.has(key)) key = `u:${messageId}:${seq}`;
  model.keys.add(key);
  const row = { key, role: "user", seq, at, text, messageId, rev: 0, turn: null, joined: false, held: false, ahead: null, final: null };
  model.messages.set(seq, row);
  model.loose.push(row);
  return row;
}

/** What is not said to the agent: it waits for nothing. */
function addAside(model, event) {
  const row = addMessage(model, event);
  settle(row, "sent");
  standAlone(model, row);
}

function rowsOf(model, seqs) {
  return (seqs ?? []).map((seq) => model.messages.get(seq)).filter(Boolean);
}

function ensureTurn(model, id, seq, at) {
  let turn = model.turns.get(id);
  if (!turn) {
    turn = { key: `t:${id}`, kind: "turn", id, seq, at, state: "announced", attempt: 1, activity: "", recovered: false, rows: [] };
    model.turns.set(id, turn);
    model.blocks.push(turn);
  }
  return turn;
}

function addBlock(model, kind, row) {
  model.blocks.push({ key: `b:${row.seq}`, kind, id: null, seq: row.seq, at: row.at, state: kind, rows: [row] });
}

/** A message that no turn will take, or none yet: it keeps its own place among the blocks. */
function standAlone(model, row) {
  const key = `alone:${row.seq}`;
  const block = { key, kind: "turn", id: null, seq: row.seq, at: row.at, state: "alone", rows: [] };
  // A turn stands where its first message stands, not where it started.
  const first = ({ rows, seq }) => rows[0]?.seq ?? seq;
  let at = model.blocks.length;
  while (at > 0 && first(model.blocks[at - 1]) > row.seq) at -= 1;
  model.blocks.splice(at, 0, block);
  place(model, row, block);
}

/** Moves a message into a turn, or out of every turn with null. */
function place(model, row, turn) {
  if (row.turn === turn && (turn || model.loose.includes(row))) return;
  const from = row.turn ? row.turn.rows : model.loose;
  const at = from.indexOf(row);
  if (at >= 0) from.splice(at, 1);
  row.turn = turn;
  row.rev += 1;
  insertBySeq(turn ? turn.rows : model.loose, row);
}

function addToTurn(model, turn, row) {
  row.turn = turn;
  insertBySeq(turn.rows, row);
}

function insertBySeq(rows, row) {
  let at = rows.length;
  while (at > 0 && rows[at - 1].seq > row.seq) at -= 1;
  rows.splice(at, 0, row);
}

function takeInto(model, turn, seqs, joined) {
  for (const row of rowsOf(model, seqs)) {
    row.joined = joined;
    row.ahead = null;
    row.final = null;
    row.rev += 1;
    place(model, row, turn);
  }
}

function settle(row, final) {
  row.final = final;
  row.ahead = null;
  row.rev += 1;
}

function settleAll(model, seqs, final) {
  for (const row of rowsOf(model, seqs)) {
    settle(row, final);
    if (!row.turn) standAlone(model, row);
  }
}

function setState(model, turn, state) {
  turn.state = state;
  model.openTurnId = turn.id;
  for (const row of turn.rows) row.rev += 1;
}

function endTurn(model, turn, state) {
  turn.state = state;
  turn.activity = "";
  closeQuestions(turn);
  model.drafts.delete(turn.id);
  model.typing = false;
  if (model.openTurnId === turn.id) model.openTurnId = null;
  for (const row of turn.rows) row.rev += 1;
}

function closeQuestions(turn) {
  for (const row of turn.rows) {
    if (row.status !== "waiting") continue;
    row.status = "asked";
    row.rev += 1;
  }
}

/** One turn less is ahead of whatever is still queued. */
function moveUp(model) {
  for (const row of model.loose) {
    if (row.ahead === null || row.ahead <= 1) continue;
    row.ahead -= 1;
    row.rev += 1;
  }
}
