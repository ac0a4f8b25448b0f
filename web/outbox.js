// Messages on their way to the server. They live in sessionStorage until the server has them,
// keep their id over every retry, and leave one at a time, in the order they were written.

import { newMessageId, postMessage, refusalText, sessionKey } from "./api.js";
import { remember, remembered } from "./storage.js";

const BACKOFF_MS_MIN = 500;
const BACKOFF_MS_MAX = 15_000;

/** Answers that say nothing about the message itself: it is sent again with the same id. Whoever has
 * to sign in anew finds it still there. */
const TRANSIENT = new Set([0, 401, 408, 425, 500, 502, 503, 504]);

export class Outbox {
  #name;
  #storageKey;
  #onChange;
  #entries = [];
  #failures = 0;
  #timer = 0;
  #busy = false;
  #closed = false;

  constructor(name, onChange) {
    this.#name = name;
    this.#storageKey = `turnkeep.outbox.${sessionKey(name)}`;
    this.#onChange = onChange;
    this.#entries = this.#load();
    this.#pump();
  }

  /** What is not in the journal yet, in the order it was written. */
  get entries() {
    return this.#entries;
  }

  add(text) {
    this.#entries.push({ id: newMessageId(), text, at: Date.now(), status: "sending", reason: "", after: null, rev: 0 });
    this.#changed();
    this.#pump();
  }

  /** A refusal leaves nothing behind on the server, so the same id may be used again. */
  retry(id) {
    const entry = this.#find(id);
    if (!entry || entry.status !== "refused") return;
    this.#mark(entry, "sending");
    this.#pump();
  }

  /** Takes a refused message back; returns its text, so that it can be written anew. */
  takeBack(id) {
    const entry = this.#find(id);
    if (!entry || entry.status !== "refused") return null;
    this.#forget(id);
    return entry.text;
  }

  /** What was refused stands after what the journal holds now; a shorter journal is another one. */
  settle(lastSeq) {
    const moved = this.#entries.filter(({ status, after }) => status === "refused" && (after === null || after > lastSeq));
    for (const entry of moved) entry.after = lastSeq;
    if (moved.length) this.#keep();
  }

  /** The journal has it: from here on the journal shows it. */
  confirmed(id) {
    if (this.#find(id)) this.#forget(id);
  }

  /** The server seems to be back: do not wait for the backoff. */
  hurry() {
    if (this.#busy || this.#closed) return;
    this.#failures = 0;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#pump();
  }

  /** Another person takes the tab over; what is stored stays stored. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #pump() {
    if (this.#busy || this.#closed || this.#timer) return;
    const entry = this.#entries.find((one) => one.status === "sending" || one.status === "retrying");
    if (!entry) return;
    this.#busy = true;
    const answer = await postMessage(this.#name, entry.id, entry.text);
    this.#busy = false;
    if (this.#closed) return;
    if (TRANSIENT.has(answer.status)) {
      this.#later(entry, answer.retryAfterMs);
      return;
    }
    this.#failures = 0;
    if (answer.status >= 200 && answer.status < 300) this.#mark(entry, "sent");
    else this.#mark(entry, "refused", refusalText(answer));
    this.#pump();
  }

  #later(entry, askedMs) {
    const backoff = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.#failures);
    this.#failures += 1;
    const wait = Math.max(askedMs ?? 0, backoff) * (0.8 + Math.random() * 0.4);
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#pump();
    }, Math.min(wait, 2 * BACKOFF_MS_MAX));
    this.#mark(entry, "retrying");
  }

  #find(id) {
    return this.#entries.find((entry) => entry.id === id);
  }

  #forget(id) {
    this.#entries = this.#entries.filter((entry) => entry.id !== id);
    this.#changed();
  }

  #mark(entry, status, reason = "") {
    entry.status = status;
    entry.reason = reason;
    entry.after = null;
    entry.rev += 1;
    this.#changed();
  }

  #changed() {
    this.#keep();
    this.#onChange();
  }

  #keep() {
    const kept = this.#entries.filter((entry) => entry.status !== "sent");
    remember(this.#storageKey, kept.length ? JSON.stringify(kept) : "");
  }

  #load() {
    try {
      const stored = JSON.parse(remembered(this.#storageKey) || "[]");
      return stored.map(({ id, text, at, status, reason, after }) => ({
        id,
        text,
        at,
        status: status === "refused" ? "refused" : "sending",
        reason: reason ?? "",
        after: after ?? null,
        rev: 0,
      }));
    } catch {
      return [];
    }
  }
}
