// The event stream of one session, kept open across restarts of the server.
//
// Every connection asks for `?after=` the last journal number the page has applied. The
// browser's own reconnect is not used: it gives up for good on any answer but 200, and a
// draining server answers 503.

import { getSession, probe, sessionPath } from "./api.js";

const JOURNAL_TYPES = [
  "message.accepted", "message.command", "message.context", "message.cancelled", "message.expired", "message.requeued", "message.discarded",
  "guard.allowed", "guard.refused",
  "turn.started", "turn.processing", "turn.message_absorbed", "turn.waiting_for_input", "turn.answered",
  "turn.retrying", "turn.recovered", "turn.superseded", "turn.completed", "turn.cancelled", "turn.failed",
  "turn.waiting_for_operator",
  "commit.reached", "agent.event", "tool.intended", "tool.returned",
  "session.reset", "session.closed", "session.reopened", "session.notice",
  "session.paused", "session.handed_back", "session.imported", "history.imported",
];
const DRAFT_TYPES = ["draft", "draft.reset", "typing"];

const BACKOFF_MS_MIN = 250;
const BACKOFF_MS_MAX = 4_000;
/** A connection that is back within this time is not worth a word. */
const BANNER_DELAY_MS = 700;
/** A server that hangs keeps its connections, and its sign of life is a comment, which EventSource
 * hides: after so long without a word it is asked. */
const SILENCE_MS = 40_000;
/** Browsers open six connections to one server; a tab nobody looks at gives its own back. */
const HIDDEN_RELEASE_MS = 5_000;
const HIDDEN_POLL_MS = 15_000;
/** A journal is replayed at once; where nothing comes, nobody has written yet. */
const QUIET_MS = 500;

export class Stream {
  #name;
  #handlers;
  #source = null;
  #failures = 0;
  #reconnectTimer = 0;
  #bannerTimer = 0;
  #hiddenTimer = 0;
  #quietTimer = 0;
  #silenceTimer = 0;
  #released = false;
  #closed = false;
  #onVisibility = () => this.#visibilityChanged();
  #onOnline = () => this.reconnect();
  /** A page taken from the browser's back-forward cache comes without its connection. */
  #onShow = (event) => event.persisted && this.reconnect();

  /**
   * `handlers`: `lastSeq()`, `journal(event)`, `ephemeral(type, data)`, `opened()`,
   * `session(snapshot or null)`, `rebuild(lastSeq)`, `connection(trouble or null)`, `refused()`.
   */
  constructor(name, handlers) {
    this.#name = name;
    this.#handlers = handlers;
    document.addEventListener("visibilitychange", this.#onVisibility);
    window.addEventListener("online", this.#onOnline);
    window.addEventListener("pageshow", this.#onShow);
    this.#connect();
  }

  /** Drops the connection, which may be half dead, and opens another at once. */
  reconnect() {
    if (this.#closed || this.#released) return;
    this.#failures = 0;
    this.#connect();
  }

  close() {
    this.#closed = true;
    document.removeEventListener("visibilitychange", this.#onVisibility);
    window.removeEventListener("online", this.#onOnline);
    window.removeEventListener("pageshow", this.#onShow);
    clearTimeout(this.#hiddenTimer);
    clearTimeout(this.#bannerTimer);
    this.#drop();
  }

  #drop() {
    clearTimeout(this.#reconnectTimer);
    clearTimeout(this.#silenceTimer);
    this.#heard();
    this.#source?.close();
    this.#source = null;
  }

  #connect() {
    this.#drop();
    if (this.#closed) return;
    const source = new EventSource(`${sessionPath(this.#name)}/events?after=${this.#handlers.lastSeq()}`);
    this.#source = source;
    this.#waitForWord();
    const listen = (type, handle) =>
      source.addEventListener(type, (message) => {
        if (source !== this.#source) return;
        this.#waitForWord();
        const data = parse(message.data);
        if (data) handle(data, message.lastEventId);
      });
    for (const type of JOURNAL_TYPES) {
      listen(type, (data, id) => {
        if (this.#heard()) this.#compare();
        this.#handlers.journal({ ...data, type, seq: data.seq ?? Number(id) });
      });
    }
    for (const type of DRAFT_TYPES) listen(type, (data) => this.#handlers.ephemeral(type, data));
    listen("reset", (data) => {
      this.#drop();
      this.#rebuild(data.last_seq);
    });
    source.addEventListener("open", () => {
      if (source === this.#source) this.#opened();
    });
    source.addEventListener("error", () => {
      if (source === this.#source) this.#lost();
    });
  }

  #opened() {
    this.#failures = 0;
    this.#waitForWord();
    clearTimeout(this.#bannerTimer);
    this.#bannerTimer = 0;
    this.#handlers.connection(null);
    this.#handlers.opened();
    if (this.#handlers.lastSeq() > 0) this.#compare();
    else this.#quietTimer = setTimeout(() => this.#heard() && this.#handlers.session(null), QUIET_MS);
  }

  /** Asking for a session in which nobody has written is an error in the browser's log, so a new
   * connection first listens. Returns whether it was still listening. */
  #heard() {
    const waited = this.#quietTimer !== 0;
    clearTimeout(this.#quietTimer);
    this.#quietTimer = 0;
    return waited;
  }

  /** A server that knows less than the page has been given another store: begin anew. */
  async #compare() {
    const seen = this.#handlers.lastSeq();
    const { status, body } = await getSession(this.#name);
    if (this.#closed) return;
    if (status === 200) {
      if (body.last_seq < seen) this.#rebuild(body.last_seq);
      else this.#handlers.session(body);
    } else if (status === 404) {
      if (seen > 0) this.#rebuild(0);
      else this.#handlers.session(null);
    }
  }

  async #rebuild(lastSeq) {
    this.#drop();
    const done = await this.#handlers.rebuild(lastSeq);
    if (this.#closed) return;
    if (done) this.#connect();
    else this.#lost();
  }

  #lost() {
    this.#drop();
    if (!this.#bannerTimer) {
      this.#bannerTimer = setTimeout(() => this.#explain(), BANNER_DELAY_MS);
    }
    const wait = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.#failures) * (0.8 + Math.random() * 0.4);
    this.#failures += 1;
    this.#reconnectTimer = setTimeout(() => this.#connect(), wait);
  }

  /** EventSource hides the status, so an ordinary request finds out what the matter is. */
  async #explain() {
    this.#handlers.connection("Connection lost. Trying again; what you write is kept.");
    const { status } = await getSession(this.#name);
    if (this.#source?.readyState === EventSource.OPEN || this.#closed) return;
    if (status === 401 || status === 403) this.#handlers.refused();
    else if (status === 503) this.#handlers.connection("The server is starting or stopping. Trying again; what you write is kept.");
  }

  #visibilityChanged() {
    clearTimeout(this.#hiddenTimer);
    if (document.hidden) {
      this.#hiddenTimer = setTimeout(() => this.#release(), HIDDEN_RELEASE_MS);
    } else if (this.#released) {
      this.#released = false;
      this.#connect();
    } else if (this.#source) {
      this.#checkAlive();
    }
  }

  #release() {
    this.#released = true;
    this.#drop();
    this.#pollWhileHidden();
  }

  async #pollWhileHidden() {
    const { status, body } = await getSession(this.#name);
    if (this.#closed || !this.#released) return;
    if (status === 200 && (body.last_seq > this.#handlers.lastSeq() || body.open_turn_id)) {
      this.#released = false;
      this.#connect();
      this.#hiddenTimer = setTimeout(() => this.#release(), HIDDEN_RELEASE_MS);
      return;
    }
    this.#hiddenTimer = setTimeout(() => this.#pollWhileHidden(), HIDDEN_POLL_MS);
  }

  #waitForWord() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => this.#checkAlive(), SILENCE_MS);
  }

  /** Neither a server that hangs nor a laptop that slept says that its connection is dead: asks. */
  async #checkAlive() {
    this.#waitForWord();
    const [source, timer, seen] = [this.#source, this.#silenceTimer, this.#handlers.lastSeq()];
    const { status, body } = await probe(this.#name, seen > 0);
    // Whatever was heard meanwhile is a sign of life, and began to wait anew.
    if (source !== this.#source || timer !== this.#silenceTimer) return;
    if (status === 0 || source.readyState !== EventSource.OPEN) this.#lost();
    else if (status === 200 && body.last_seq > seen) {
      setTimeout(() => {
        if (source === this.#source && this.#handlers.lastSeq() < body.last_seq) this.reconnect();
      }, 1_000);
    }
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
