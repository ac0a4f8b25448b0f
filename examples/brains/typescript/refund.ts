/** Refunds orders, each once. The shop is a file: a line for each refund that was really made. */

import { appendFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

import { MailFirst, Refused, run, type Message, type Turn } from "./brain.ts";

/** How long the shop takes to answer, once it has paid. */
const SECONDS = Number(process.env["SHOP_SECONDS"] ?? "0");

async function refund(order: string): Promise<string> {
  await appendFile("refunds.txt", `${order}\n`);
  await setTimeout(SECONDS * 1000);
  return `paid back order ${order}`;
}

/** The last number counts: who corrects themselves means the correction. */
function orderOf(messages: Message[]): string | undefined {
  return messages.flatMap((message) => message.text.match(/\d+/g) ?? []).at(-1);
}

async function answer(turn: Turn): Promise<string> {
  const messages = turn.messages;
  for (;;) {
    const order = orderOf(messages);
    if (order === undefined) {
      messages.push(await turn.ask("Which order shall I refund?"));
      continue;
    }
    try {
      // The order's number is the key: whatever attempt asks, it is the same act.
      const act = { tool: "refund", key: order, input: order };
      const { outcome } = await turn.call(act, () => refund(order));
      if (outcome === "done") return `Order ${order} is refunded.`;
      if (outcome === "failed") {
        return `The shop did not refund order ${order}. Nothing was paid.`;
      }
      return `I can't tell whether order ${order} was refunded. A person will look.`;
    } catch (error) {
      if (error instanceof Refused) return `Nothing was refunded: ${error.message}.`;
      if (!(error instanceof MailFirst)) throw error;
      // Something was said before it was too late.
      messages.push(...(await turn.mail()));
    }
  }
}

await run({ answer });
