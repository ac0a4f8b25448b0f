/**
 * Plans a trip in steps and books it. After a change of mind, what is still right is not made again,
 * and a booking that is wrong is undone before the next one is made.
 *
 * Every step and every booking is a line in trip.txt.
 */

import { appendFile } from "node:fs/promises";

import { MailFirst, Refused, run, type Choice, type Message, type Turn } from "./brain.ts";

async function note(line: string): Promise<string> {
  await appendFile("trip.txt", `${line}\n`);
  return line;
}

async function make(name: string, content: string): Promise<string> {
  await note(`made ${name}`);
  return content;
}

/** Who corrects themselves means the correction. */
function last(messages: Message[], pattern: RegExp, otherwise: string): string {
  const found = messages.flatMap((message) => [...message.text.matchAll(pattern)]);
  return found.at(-1)?.[1] ?? otherwise;
}

/** With `busy_policy = "agent"`: who changes their mind starts over. */
function decide(arrived: Message): Choice {
  return arrived.text.toLowerCase().startsWith("no,") ? "supersede" : "absorb_continue";
}

/** Takes back what was booked for another plan. False if nobody knows whether that worked. */
async function undo(turn: Turn, plan: string): Promise<boolean> {
  for (const booked of turn.facts.recorded) {
    const stands = booked.outcome !== "failed" && booked.compensated_by === undefined;
    if (booked.tool !== "book" || booked.input === plan || !stands) continue;
    // It names what it takes back, so the hotel can also refuse it if it comes later.
    const { outcome } = await turn.call(
      { tool: "cancel", key: "trip", effects: "idempotent", compensates: booked.call },
      () => note(`cancelled ${booked.input}`),
    );
    if (outcome !== "done") return false;
  }
  return true;
}

async function travel(turn: Turn): Promise<string> {
  const messages = turn.messages;
  const days = last(messages, /\b(weekend|week)\b/g, "weekend");
  const city = last(messages, /\bin (\w+)/g, "Rome");
  const dates = await turn.step("dates", () => make("dates", `a ${days}`), { text: days });
  const hotel = await turn.step("hotel", () => make("hotel", `Hotel ${city}`), { text: city });
  const depends = ["dates", "hotel"];
  const plan = await turn.step("plan", () => make("plan", `${dates}, ${hotel}`), { depends });
  if (!(await undo(turn, plan))) return "I can't tell what is booked. A person will look.";
  const booked = await turn.call(
    { tool: "book", key: "trip", effects: "compensatable", input: plan },
    () => note(`booked ${plan}`),
  );
  while (messages.at(-1)?.text.endsWith("...") && (await turn.waitForMail())) {
    messages.push(...(await turn.mail()));
  }
  return `${plan}: ${booked.outcome}`;
}

async function answer(turn: Turn): Promise<string> {
  for (;;) {
    try {
      return await travel(turn);
    } catch (error) {
      if (error instanceof Refused) return `Nothing was booked: ${error.message}.`;
      if (!(error instanceof MailFirst)) throw error;
      // What came meanwhile may change everything.
      turn.messages.push(...(await turn.mail()));
    }
  }
}

await run({ answer, decide });
