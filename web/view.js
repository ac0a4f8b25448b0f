// The log: turns the conversation's blocks and rows into elements, touching only what changed.
//
// An element lives as long as its row's key, so a message goes from "sending" to "answered"
// in one element. The draft is the exception: the committed reply is a new element, because
// screen readers announce additions and stay silent about the draft.

import { renderMarkdown } from "./markdown.js";
import { messageStatus } from "./model.js";
import { visibleBlocks } from "./order.js";

const BLOCKS_PER_PAGE = 150;

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });

const STATUS_TEXT = {
  sending: "sending…",
  sent: "sent",
  retrying: "not sent, retrying…",
  gathering: "gathering",
  processing: "being answered",
  with_person: "a person will answer",
  joined: "joined this answer",
  answered: "answered",
  stopped: "stopped",
  failed: "failed, kept as dead letter",
  expired: "waited too long, kept as dead letter",
  cancelled: "cancelled",
  discarded: "discarded",
  held: "being checked",
  withheld: "not passed on",
  retried: "failed, tried again below",
};

const TOOL_TEXT = {
  calling: "under way…",
  done: "done",
  failed: "not done",
  unknown: "nobody knows whether it was done",
};
/** What a tool is given and says can be long; the whole of it is in the journal. */
const TOOL_CHARS_MAX = 4000;

const ROLE_TEXT = { user: "You wrote:", agent: "Agent:", notice: "Notice:" };
const AGENT_TAGS = { waiting: "waiting for your answer", asked: "question", stopped: "stopped" };

/** The words of a message's status chip. */
export function statusText(status, row) {
  if (status === "queued") return `queued · ${row.ahead} ahead`;
  if (status === "refused") return `refused: ${row.reason}`;
  return STATUS_TEXT[status] ?? status;
}

export class LogView {
  #root;
  #earlier;
  #actions;
  #elements = new Map();
  #pages = 1;

  /** `actions`: `retry(id)`, `edit(id)`, `discard(id)` for refused messages, `answer(text)` to a question. */
  constructor(root, earlier, actions) {
    this.#root = root;
    this.#earlier = earlier;
    this.#actions = actions;
  }

  showEarlier() {
    this.#pages += 1;
  }

  clear() {
    this.#elements.clear();
    this.#root.replaceChildren();
    this.#pages = 1;
  }

  /** Draws the conversation and what is still on its way. Returns whether rows were added. */
  render(conversation, pending) {
    const { blocks, hidden } = visibleBlocks(conversation, pending, this.#pages * BLOCKS_PER_PAGE);
    this.#earlier.hidden = !hidden;
    const used = new Set();
    const before = this.#elements.size;
    let day = "";
    const nodes = [];
    for (const block of blocks) {
      const blockDay = new Date(block.at).toDateString();
      if (blockDay !== day) nodes.push(this.#dayElement(blockDay, block.at, used));
      day = blockDay;
      nodes.push(this.#blockElement(block, used));
    }
    arrange(this.#root, nodes);
    for (const [key, known] of this.#elements) {
      if (used.has(key)) continue;
      known.node.remove();
      this.#elements.delete(key);
    }
    return this.#elements.size > before;
  }

  #keep(key, used, create) {
    used.add(key);
    let known = this.#elements.get(key);
    if (!known) {
      known = { node: create(), stamp: null };
      this.#elements.set(key, known);
    }
    return known;
  }

  #dayElement(day, at, used) {
    const create = () => make("div", "day", [make("span", "", DAY.format(at))]);
    return this.#keep(`day:${day}`, used, create).node;
  }

  #blockElement(block, used) {
    const known = this.#keep(block.key, used, () => make("section", "block"));
    const { node } = known;
    node.className = `block ${block.kind}`;
    node.dataset.state = block.state;
    if (block.id) node.dataset.turn = block.id;
    const count = block.rows.filter((row) => row.role === "user").length;
    const caption = block.kind === "turn" && count > 1 ? `${count} messages, one turn` : "";
    if (caption) {
      node.setAttribute("role", "group");
      node.setAttribute("aria-label", caption);
    } else {
      node.removeAttribute("role");
      node.removeAttribute("aria-label");
    }
    arrange(node, block.rows.map((row, index) => this.#rowElement(row, block, index, used)));
    return node;
  }

  #rowElement(row, block, index, used) {
    const known = this.#keep(row.key, used, () => make("article", "row"));
    const next = block.rows[index + 1];
    const tail = row.role !== "user" || next?.role !== "user";
    const status = statusOf(row);
    // What the next message says as well is said once.
    const saidBelow = !tail && metaText(row) === metaText(next);
    const stamp = `${row.rev}|${status}|${row.seq ?? ""}|${row.ahead ?? ""}|${block.id ?? ""}|${tail}|${saidBelow}`;
    if (known.stamp === stamp) return known.node;
    known.stamp = stamp;
    this.#fill(known.node, row, status, block);
    known.node.classList.toggle("tail", tail);
    known.node.classList.toggle("said-below", saidBelow);
    return known.node;
  }

  #fill(node, row, status, block) {
    node.className = `row ${row.role}`;
    node.dataset.testid = row.testid ?? "message";
    node.dataset.role = row.role;
    node.dataset.status = status;
    node.dataset.turn = row.local ? "" : (block.id ?? "");
    if (row.seq) node.dataset.seq = row.seq;
    if (row.messageId) node.dataset.messageId = row.messageId;
    if (row.role === "typing") fillTyping(node, row);
    else if (row.role === "user") this.#fillUser(node, row, status);
    else if (row.role === "agent") fillAgent(node, row, status, this.#actions.answer);
    else if (row.role === "tool") fillTool(node, row, status);
    else fillNotice(node, row, status);
  }

  #fillUser(node, row, status) {
    // The bubble is filled once: its text never changes, and a reader may have selected it.
    if (!node.firstChild) {
      node.append(make("span", "sr", ROLE_TEXT.user), make("div", "bubble", row.text), make("div", "meta"));
    }
    const chip = make("span", "chip", statusText(status, row));
    chip.dataset.testid = "status";
    const parts = [timeElement(row.at), chip];
    if (status === "refused") {
      const retry = button("Retry", "retry", () => this.#actions.retry(row.messageId));
      const edit = button("Edit", "edit", () => this.#actions.edit(row.messageId));
      const discard = button("Discard", "discard", () => this.#actions.discard(row.messageId));
      parts.push(make("span", "choices", [retry, edit, discard]));
    }
    // A refused one may be very long: it is folded, and the keyboard scrolls it.
    const bubble = node.querySelector(".bubble");
    if (status === "refused") bubble.tabIndex = 0;
    else bubble.removeAttribute("tabindex");
    node.querySelector(".meta").replaceChildren(...parts);
  }
}

function statusOf(row) {
  return row.role === "user" && !row.local ? messageStatus(row) : row.status;
}

/** The line under a message; a refused one has buttons of its own there. */
function metaText(row) {
  const status = statusOf(row);
  return status === "refused" ? row.key : `${TIME.format(row.at)} ${statusText(status, row)}`;
}

function fillAgent(node, row, status, answer) {
  const body = make("div", "body markdown");
  body.append(renderMarkdown(row.text));
  const parts = [make("span", "sr", row.by ? `${row.by}:` : ROLE_TEXT.agent), body];
  if (row.testid === "draft") {
    node.setAttribute("aria-live", "off");
    node.setAttribute("aria-busy", "true");
  } else {
    const meta = make("div", "meta", [timeElement(row.at)]);
    if (row.by) meta.append(make("span", "chip person-chip", row.by));
    if (AGENT_TAGS[status]) meta.append(make("span", "chip", AGENT_TAGS[status]));
    parts.push(meta);
    if (row.confirm && status === "waiting") {
      const answers = ["Yes", "No"].map((word) => button(word, word.toLowerCase(), () => answer(word)));
      parts.push(make("div", "choices answers", answers));
    }
  }
  node.replaceChildren(...parts);
}

/** One line a call, which opens to what went in and what came out. */
function fillTool(node, row, status) {
  const state = make("span", "chip", TOOL_TEXT[status] ?? status);
  state.dataset.testid = "outcome";
  const summary = make("summary", "", [make("span", "sr", "Tool:"), make("span", "tool-name", row.tool), state]);
  const details = make("details", "", [summary]);
  details.open = node.querySelector("details")?.open ?? false;
  for (const [name, text] of [["asked", row.input], ["answered", row.output]]) {
    if (text) details.append(make("div", "tool-part", name), make("pre", "", shortened(text)));
  }
  node.dataset.effects = row.effects;
  node.replaceChildren(details);
}

function shortened(text) {
  return text.length > TOOL_CHARS_MAX ? `${text.slice(0, TOOL_CHARS_MAX)}…` : text;
}

function fillNotice(node, row, status) {
  if (status === "divider") {
    node.replaceChildren(make("span", "divider-text", row.text), timeElement(row.at));
    return;
  }
  node.replaceChildren(make("span", "sr", ROLE_TEXT.notice), make("p", "", row.text), timeElement(row.at));
}

function fillTyping(node, row) {
  node.setAttribute("aria-live", "off");
  const dots = make("span", "dots", [make("i"), make("i"), make("i")]);
  dots.setAttribute("aria-hidden", "true");
  node.replaceChildren(dots, make("span", row.text ? "activity" : "sr", row.text || "The agent is working"));
}

/** Makes `nodes` the children of `parent`, moving as few as possible. */
function arrange(parent, nodes) {
  let at = parent.firstChild;
  const wanted = new Set(nodes);
  for (const node of nodes) {
    while (at && at !== node && !wanted.has(at)) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
    if (at === node) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function make(tag, className = "", content = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (Array.isArray(content)) node.append(...content);
  else if (content) node.textContent = content;
  return node;
}

function button(text, testid, act) {
  const node = make("button", "link", text);
  node.type = "button";
  node.dataset.testid = testid;
  node.addEventListener("click", act);
  return node;
}

function timeElement(at) {
  const date = new Date(at);
  const node = make("time", "", TIME.format(date));
  node.dateTime = date.toISOString();
  node.title = date.toLocaleString();
  return node;
}
