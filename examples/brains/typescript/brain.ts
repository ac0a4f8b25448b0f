/**
 * A brain of Turnkeep: answers one turn as a process, or many at once as a server.
 *
 * Copy this file beside your brain, and `http_brain.ts` if it is to be a server. The contract is
 * docs/brains.md. It needs Node 22.18 or newer, and no package.
 */

import { createInterface } from "node:readline";

export type Effects = "pure" | "idempotent" | "compensatable" | "irreversible";
export type Outcome = "done" | "failed" | "unknown";
export type Choice =
  | "supersede"
  | "absorb_continue"
  | "absorb_restart"
  | "queue"
  | "force_complete";
export type Hint = "none" | "awaiting_field" | "followup_expected";

export interface Message {
  seq: number;
  message_id: string;
  sender: string;
  text: string;
  at: number;
}

export interface Recorded {
  call: number;
  tool: string;
  effects: Effects;
  input: string;
  outcome: Outcome;
  output: string;
  /** The call that this one took back, and the one that took this one back. */
  compensates?: number;
  compensated_by?: number;
}

/** What to answer; the first that a brain is told. */
export interface Facts {
  version: number;
  turn_id: string;
  attempt: number;
  turn_group_id: string;
  session: string;
  tenant_id: string;
  agent_id: string;
  channel: string;
  trust: "public" | "familiar" | "inner" | "full" | "owner";
  resume: boolean;
  traceparent?: string;
  facts: { chars_max: number | null; markdown: boolean; media: boolean; typing: boolean };
  messages: Message[];
  history: { seq: number; role: string; text: string }[];
  recorded: Recorded[];
}

/** What something was made from: messages of this turn by their `seq`, and whatever else there is. */
export interface Inputs {
  messages?: number[];
  text?: string;
}

/** What a request to a model used. */
export interface Usage {
  model: string;
  input_tokens: number;
  output_tokens: number;
  cached_tokens?: number;
  cache_write_tokens?: number;
  cost_micros?: number;
}

/** What came of an act; `known` if this call did nothing. */
export interface Result {
  outcome: Outcome;
  output: string;
  known: boolean;
}

/** What was asked for may not be done. */
export class Refused extends Error {}
/** Take the mail, think again, then ask again. */
export class MailFirst extends Error {}
/** Thrown by a tool that certainly did nothing: it may be tried again. */
export class NotDone extends Error {}
/** Nobody waits for this turn any more. */
export class Gone extends Error {}

/** The answers to requests, by their `type`. */
interface Answers {
  mail: { messages: Message[] };
  granted: object;
  refused: { reason: string };
  call: { call: number };
  known: Recorded;
  mail_first: object;
  recorded: object;
  kept: { content: string };
  none: { why: "missing" | "inputs_changed" | "dependency_changed" };
  answer: { message: Message };
}
type Answer = { [Type in keyof Answers]: { type: Type } & Answers[Type] }[keyof Answers];
/** The rest of what a brain is told. A type that is not here is ignored. */
type News =
  | { type: "mail_waiting" }
  | { type: "finish_now"; reason: string }
  | { type: "question"; question_id: number; message: Message };
export type Told = News | (Answer & { id: string });

export type Say = (object: Record<string, unknown>) => void;
interface Waiter {
  resolve: (answer: Answer) => void;
  reject: (error: Error) => void;
}

/** The turn to answer, and the way back. */
export class Turn {
  readonly facts: Facts;
  readonly messages: Message[];
  finishNow = false;
  private mailWaits = false;
  private requests = 0;
  private gone = false;
  private readonly waiting = new Map<string, Waiter>();
  private readonly listeners: (() => void)[] = [];
  private readonly tell: Say;
  private readonly decide: (arrived: Message) => Choice;

  constructor(facts: Facts, tell: Say, decide: (arrived: Message) => Choice) {
    this.facts = facts;
    this.messages = [...facts.messages];
    this.tell = tell;
    this.decide = decide;
  }

  /** Text that the user sees growing; empty, it is a sign of life. */
  say(text: string): void {
    this.tell({ type: "say", text });
  }

  emit(name: string, detail = ""): void {
    this.tell({ type: "emit", name, detail });
  }

  used(usage: Usage): void {
    this.tell({ type: "used", ...usage });
  }

  hasMail(): boolean {
    return this.mailWaits;
  }

  /** Waits; false if it is time to finish instead. */
  async waitForMail(): Promise<boolean> {
    while (!this.mailWaits && !this.finishNow) {
      await new Promise<void>((resolve) => this.listeners.push(resolve));
      if (this.gone) throw new Gone();
    }
    return this.mailWaits;
  }

  async mail(): Promise<Message[]> {
    this.mailWaits = false;
    return (await this.request("mail", { type: "take_mail" })).messages;
  }

  /** Asks the user. With `confirm` only what is said after the question is an answer. */
  async ask(text: string, confirm = false): Promise<Message> {
    const said = await this.demand({ type: "ask", text, confirm });
    if (said.type === "mail_first") throw new MailFirst();
    if (said.type !== "answer") throw new Error(`ask is answered by ${said.type}`);
    return said.message;
  }

  async commitPoint(): Promise<void> {
    await this.request("granted", { type: "commit_point" });
  }

  /** Keeps what a later attempt may use; `depends` names what else was kept that it was made from. */
  async keep(
    name: string,
    content: string,
    inputs: Inputs = {},
    depends: string[] = [],
  ): Promise<void> {
    await this.demand({ type: "keep", name, inputs, depends, content });
  }

  /** What was kept, if it was made from these inputs and from what is still the same. */
  async recall(name: string, inputs: Inputs = {}): Promise<string | undefined> {
    const said = await this.demand({ type: "recall", name, inputs });
    return said.type === "kept" ? said.content : undefined;
  }

  /**
   * What an earlier attempt made of the same, or else what `make` makes now. `depends` names steps
   * of this attempt.
   */
  async step(
    name: string,
    make: () => Promise<string>,
    { depends = [], ...inputs }: Inputs & { depends?: string[] } = {},
  ): Promise<string> {
    const kept = await this.recall(name, inputs);
    if (kept !== undefined) return kept;
    const content = await make();
    await this.keep(name, content, inputs, depends);
    return content;
  }

  /**
   * Acts, unless it was done before or may have been. `key` tells this act from others;
   * `compensates` names a call that this one takes back.
   */
  async call(
    act: { tool: string; key: string; effects?: Effects; input?: string; compensates?: number },
    doIt: () => Promise<string>,
  ): Promise<Result> {
    const said = await this.demand({ type: "intend", ...act });
    if (said.type === "mail_first") throw new MailFirst();
    if (said.type === "known") return { outcome: said.outcome, output: said.output, known: true };
    if (said.type !== "call") throw new Error(`intend is answered by ${said.type}`);
    const result = await outcomeOf(doIt);
    const { outcome, output } = result;
    await this.request("recorded", { type: "returned", call: said.call, outcome, output });
    return result;
  }

  /** Takes what the gateway says. */
  hear(told: Told): void {
    switch (told.type) {
      case "mail_waiting":
        this.mailWaits = true;
        break;
      case "finish_now":
        this.finishNow = true;
        break;
      case "question": {
        const choice = this.decide(told.message);
        this.tell({ type: "choose", question_id: told.question_id, choice });
        break;
      }
      default:
        // Whatever has the name of a request is its answer; anything else is from a later version.
        this.waiting.get(told.id)?.resolve(told);
        this.waiting.delete(told.id);
    }
    this.wake();
  }

  /** Nobody will answer any more. */
  leave(): void {
    this.gone = true;
    for (const { reject } of this.waiting.values()) reject(new Gone());
    this.waiting.clear();
    this.wake();
  }

  private wake(): void {
    for (const resolve of this.listeners.splice(0)) resolve();
  }

  private async request<Type extends Answer["type"]>(
    type: Type,
    object: Record<string, unknown>,
  ): Promise<Extract<Answer, { type: Type }>> {
    const said = await this.demand(object);
    if (said.type !== type) throw new Error(`${String(object["type"])} is answered by ${said.type}`);
    return said as Extract<Answer, { type: Type }>;
  }

  private async demand(object: Record<string, unknown>): Promise<Answer> {
    if (this.gone) throw new Gone();
    const id = String(++this.requests);
    const said = await new Promise<Answer>((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.tell({ ...object, id });
    });
    if (said.type === "refused") throw new Refused(said.reason);
    return said;
  }
}

async function outcomeOf(doIt: () => Promise<string>): Promise<Result> {
  try {
    return { outcome: "done", output: await doIt(), known: false };
  } catch (error) {
    // Whatever is not certain is unknown: nobody can say how far it got.
    const outcome = error instanceof NotDone ? "failed" : "unknown";
    return { outcome, output: error instanceof Error ? error.message : String(error), known: false };
  }
}

export interface Reply {
  /** Nothing is said to the user if it is null. */
  reply: string | null;
  /** The `seq` of the last mail that it used; all of it if there is none. */
  used?: number;
  hint?: Hint;
  /** Which version of the brain answered. */
  version?: string;
}

export interface Brain {
  answer: (turn: Turn) => Promise<Reply | string | null>;
  /** With `busy_policy = "agent"`: what shall become of a new message? */
  decide?: (arrived: Message) => Choice;
}

/** Works on a turn to its end; what is said last is `finished` or `failed`. */
export async function work(brain: Brain, turn: Turn, tell: Say): Promise<void> {
  try {
    const reply = await brain.answer(turn);
    const said = typeof reply === "string" || reply === null ? { reply } : reply;
    tell({ type: "finished", ...said });
  } catch (error) {
    if (error instanceof Gone) return;
    console.error(error);
    tell({ type: "failed", error: error instanceof Error ? error.message : String(error) });
  }
}

export const absorb = (): Choice => "absorb_continue";

/** Answers one turn over the standard streams or, with `--http PORT`, many at once. */
export async function run(brain: Brain): Promise<void> {
  const at = process.argv.indexOf("--http");
  if (at < 0) return overStreams(brain);
  const { serve } = await import("./http_brain.ts");
  serve(brain, Number(process.argv[at + 1]));
}

function overStreams(brain: Brain): void {
  let turn: Turn | undefined;
  let over = false;
  const tell: Say = (object) => {
    if (over) return;
    const last = object["type"] === "finished" || object["type"] === "failed";
    over = last;
    process.stdout.write(`${JSON.stringify(object)}\n`, () => {
      // Not when an earlier line is written: the last word may still be on its way.
      if (last) process.exit();
    });
  };
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const told = JSON.parse(line);
    if (turn) return turn.hear(told);
    turn = new Turn(told, tell, brain.decide ?? absorb);
    void work(brain, turn, tell);
  });
  // Nobody listens any more: the turn was cancelled, or the gateway is gone. After the last word it
  // is only the gateway that has heard enough.
  lines.on("close", () => over || process.exit());
}
