/** Repeats what it was told. A message that ends in `...` is not the last one: it waits for more. */

import { setTimeout } from "node:timers/promises";

import { run, type Choice, type Message, type Turn } from "./brain.ts";

/** How long it thinks; for those who measure. */
const SECONDS = Number(process.env["ECHO_SECONDS"] ?? 0);

/** With `busy_policy = "agent"`: who changes their mind starts over. */
function decide(arrived: Message): Choice {
  return arrived.text.toLowerCase().startsWith("no,") ? "supersede" : "absorb_continue";
}

async function answer(turn: Turn): Promise<string> {
  const messages = turn.messages;
  turn.say("echo: ");
  await setTimeout(SECONDS * 1000);
  while (messages.at(-1)?.text.endsWith("...") && (await turn.waitForMail())) {
    messages.push(...(await turn.mail()));
  }
  while (turn.hasMail()) messages.push(...(await turn.mail()));
  const text = messages.map((message) => message.text).join("\n");
  turn.say(text);
  return `echo: ${text}`;
}

await run({ answer, decide });
