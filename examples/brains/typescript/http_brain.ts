/**
 * A brain of Turnkeep as a server: many turns at once, over signed POSTs and event streams. The
 * secret that signs stands in BRAIN_SECRET, `whsec_` and base64; several with blanks between them.
 *
 * Copy this file with `brain.ts`. The contract is docs/brains.md, "Over HTTP".
 */

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

import { Turn, absorb, work, type Brain, type Facts, type Say, type Told } from "./brain.ts";

/** How far a timestamp may be away, and how long names of POSTs and of turns are kept. */
const STALE_S = 300;
const NAMES_KEPT_MS = 600_000;
/** How long a turn without a connection is kept. */
const RESUMED_MS = 30_000;
const BODY_BYTES_MAX = 64 << 20;

/** One attempt of a turn, and everything that it said. */
class Attempt {
  readonly number: number;
  over = false;
  private readonly turn: Turn;
  private readonly events: string[] = [];
  /** The last number of what it was told. */
  private heard = 0;
  private finished = false;
  private stream: ServerResponse | undefined;
  private resting: NodeJS.Timeout | undefined;
  private readonly onOver: () => void;

  constructor(brain: Brain, facts: Facts, stream: ServerResponse, onOver: () => void) {
    this.number = facts.attempt;
    this.onOver = onOver;
    const tell: Say = (object) => this.tell(object);
    this.turn = new Turn(facts, tell, brain.decide ?? absorb);
    this.resume(stream, 0);
    void work(brain, this.turn, tell);
  }

  private tell(object: Record<string, unknown>): void {
    if (this.over || this.finished) return;
    this.finished = object["type"] === "finished" || object["type"] === "failed";
    const event = `id: ${this.events.length + 1}\ndata: ${JSON.stringify(object)}\n\n`;
    this.events.push(event);
    this.stream?.write(event);
    if (this.finished) this.stream?.end();
  }

  /** Streams from behind this event on. */
  resume(stream: ServerResponse, behind: number): void {
    clearTimeout(this.resting);
    this.stream?.end();
    this.stream = stream;
    stream.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    stream.flushHeaders();
    for (const event of this.events.slice(behind)) stream.write(event);
    stream.on("close", () => {
      if (this.stream !== stream) return;
      this.stream = undefined;
      this.resting = setTimeout(() => this.leave(), RESUMED_MS).unref();
    });
    if (this.finished) stream.end();
  }

  hear(first: number, objects: Told[]): void {
    objects.forEach((told, at) => {
      if (first + at <= this.heard) return;
      this.heard = first + at;
      this.turn.hear(told);
    });
  }

  /** Ends the work; nothing is kept of it. */
  leave(): void {
    if (this.over) return;
    this.over = true;
    this.onOver();
    clearTimeout(this.resting);
    this.events.length = 0;
    this.stream?.end();
    this.turn.leave();
  }
}

interface Named {
  turn_id: string;
  attempt: number;
}
type Posted =
  | ({ type: "turn" } & Facts)
  | ({ type: "told"; first: number; objects: Told[] } & Named)
  | ({ type: "resume"; last_event_id: number } & Named)
  | ({ type: "cancelled" } & Named);

/** Listens on this port; 0 is any. */
export function serve(brain: Brain, port: number): void {
  const secrets = (process.env["BRAIN_SECRET"] ?? "").split(/\s+/).filter(Boolean);
  if (secrets.length === 0) throw new Error("BRAIN_SECRET holds the secret that signs, whsec_…");
  const keys = secrets.map((secret) => Buffer.from(secret.replace(/^whsec_/, ""), "base64"));
  const attempts = new Map<string, Attempt>();
  const names = new Set<string>();

  /** What this POST leads to: a status, or none if a stream answers it. */
  function take(posted: Posted, name: string, response: ServerResponse): number | undefined {
    const id = posted.turn_id;
    const known = attempts.get(id);
    if (posted.type === "turn" || posted.type === "resume") {
      // What asks for a stream comes once.
      if (names.has(name)) return 409;
      names.add(name);
      setTimeout(() => names.delete(name), NAMES_KEPT_MS).unref();
    }
    if (posted.type === "turn") {
      if (known && posted.attempt <= known.number) return 409;
      known?.leave();
      // Its number is remembered, so that no older attempt can follow it.
      const forget = (): boolean => attempts.get(id) === attempt && attempts.delete(id);
      const onOver = (): unknown => setTimeout(forget, NAMES_KEPT_MS).unref();
      const attempt: Attempt = new Attempt(brain, posted, response, onOver);
      attempts.set(id, attempt);
      return undefined;
    }
    if (!["told", "resume", "cancelled"].includes(posted.type)) return 400;
    const lost = !known || known.over || known.number !== posted.attempt;
    if (lost) return posted.type === "cancelled" ? 204 : 404;
    if (posted.type === "told") known.hear(posted.first, posted.objects);
    if (posted.type === "cancelled") known.leave();
    if (posted.type !== "resume") return 204;
    known.resume(response, posted.last_event_id);
    return undefined;
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bodyOf(request);
    const status =
      body === undefined ? 413
      : request.method !== "POST" ? 405
      : !isSigned(request, body, keys) ? 401
      : take(readPosted(body), String(request.headers["webhook-id"]), response);
    if (status !== undefined) response.writeHead(status).end();
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      // What can't be read is no fault of ours.
      if (!(error instanceof SyntaxError)) console.error(error);
      if (!response.headersSent) response.writeHead(error instanceof SyntaxError ? 400 : 500);
      response.end();
    });
  });
  server.listen(port, "127.0.0.1", () => {
    const address = server.address();
    const taken = typeof address === "object" ? address?.port : port;
    console.log(`listening on http://127.0.0.1:${taken}`);
  });
}

async function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request) {
    bytes += piece.length;
    if (bytes > BODY_BYTES_MAX) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function readPosted(body: Buffer): Posted {
  const posted: unknown = JSON.parse(body.toString());
  const object = typeof posted === "object" && posted !== null && !Array.isArray(posted);
  const named = object && "turn_id" in posted && "attempt" in posted;
  if (!named || typeof posted.turn_id !== "string" || !Number.isInteger(posted.attempt))
    throw new SyntaxError("this names no attempt of a turn");
  return posted as Posted;
}

function isSigned(request: IncomingMessage, body: Buffer, keys: Buffer[]): boolean {
  const header = (name: string): string => String(request.headers[`webhook-${name}`] ?? "");
  const age = Math.abs(Date.now() / 1000 - Number(header("timestamp") || "0"));
  if (!(age <= STALE_S)) return false;
  const signed = Buffer.concat([Buffer.from(`${header("id")}.${header("timestamp")}.`), body]);
  const fitting = keys.map((key) => createHmac("sha256", key).update(signed).digest());
  return header("signature").split(" ").some((given) => {
    const bytes = Buffer.from(given.replace(/^v1,/, ""), "base64");
    return fitting.some((fits) => bytes.length === fits.length && timingSafeEqual(bytes, fits));
  });
}
