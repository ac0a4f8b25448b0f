// The chat page: who writes, and the wiring between stream, model, view and composer.

import {
  allMessages, getSession, getSignIn, newConversation, refusalText, setHome, signIn, signOut, stopTurn,
} from "./api.js";
import { Composer } from "./composer.js";
import { Conversation, messageStatus } from "./model.js";
import { cleanName, nameTrouble } from "./name.js";
import { Outbox } from "./outbox.js";
import { ScrollKeeper } from "./scroll.js";
import { forgetAll, remember, remembered } from "./storage.js";
import { Stream } from "./stream.js";
import { LogView, statusText } from "./view.js";

const NAME_KEY = "turnkeep.name";
/** What tells that a message is the gateway's. */
const WRITTEN = new Set(["message.accepted", "message.command", "message.context"]);
/** Here the agent's work ends or halts, and the log says how. */
const SETTLED = new Set(["turn.failed", "turn.waiting_for_input", "turn.waiting_for_operator"]);
const RENDER_INTERVAL_MS = 30;
/** An accepted message shows up in the journal at once; if it doesn't, the stream is suspect. */
const CONFIRM_MS = 4_000;
const STOP_AGAIN_MS = 5_000;
const TROUBLE_MS = 8_000;

const STATE_TEXT = { accumulating: "gathering", processing: "working", waiting_for_input: "waiting for you", waiting_for_operator: "with a person" };

const $ = (id) => document.getElementById(id);

class Chat {
  constructor() {
    this.conversation = new Conversation();
    this.view = new LogView($("rows"), $("earlier"), {
      retry: (id) => this.outbox.retry(id),
      edit: (id) => this.composer.putBack(this.outbox.takeBack(id) ?? ""),
      discard: (id) => {
        this.outbox.takeBack(id);
        this.composer.focus();
      },
      answer: (text) => this.send(text),
    });
    this.scroll = new ScrollKeeper($("log"), $("jump"));
    this.composer = new Composer($("composer"), $("message-input"), $("send"), (text) => this.send(text));
    this.name = null;
    this.outbox = null;
    this.stream = null;
    this.liveSeq = null;
    this.stopping = null;
    this.unread = 0;
    this.renderTimer = 0;
    $("stop").addEventListener("click", () => this.stop());
    $("new").addEventListener("click", () => this.startAnew());
    $("earlier").addEventListener("click", () => this.showEarlier());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing && this.name) this.stop();
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.countUnread(0);
    });
  }

  open(name) {
    this.close();
    this.name = name;
    this.liveSeq = null;
    this.conversation.clear();
    this.view.clear();
    $("log").setAttribute("aria-busy", "true");
    $("person-name").textContent = name;
    $("person-initial").textContent = [...name][0].toLocaleUpperCase();
    $("empty-name").textContent = name;
    $("announcer").textContent = "";
    this.countUnread(0);
    this.outbox = new Outbox(name, () => this.outboxChanged());
    this.stream = new Stream(name, {
      lastSeq: () => this.conversation.lastSeq,
      journal: (event) => this.journal(event),
      ephemeral: (type, data) => {
        this.conversation.applyEphemeral(type, data);
        this.changed();
      },
      opened: () => {
        this.conversation.connected();
        this.outbox.hurry();
      },
      session: (snapshot) => this.sessionKnown(snapshot?.last_seq ?? 0),
      rebuild: (lastSeq) => this.rebuild(lastSeq),
      connection: (trouble) => showText($("offline"), $("offline-text"), trouble),
      refused: () => begin(),
    });
    this.composer.open(name);
    this.scroll.toEnd();
    this.changed();
  }

  close() {
    this.stream?.close();
    this.outbox?.close();
    this.stream = this.outbox = this.name = null;
    showText($("offline"), $("offline-text"), null);
    this.say(null);
  }

  send(text) {
    this.outbox.add(text);
    this.scroll.toEnd();
  }

  get live() {
    return this.liveSeq !== null && this.conversation.lastSeq >= this.liveSeq;
  }

  sessionKnown(lastSeq) {
    this.liveSeq ??= lastSeq;
    this.changed();
  }

  journal(event) {
    const live = this.live;
    if (!this.conversation.apply(event)) return;
    if (WRITTEN.has(event.type)) this.outbox.confirmed(event.message_id);
    if (live) this.announceEvent(event);
    this.changed();
  }

  async rebuild(lastSeq) {
    const name = this.name;
    const [messages, session] = await Promise.all([allMessages(name), getSession(name)]);
    if (this.name !== name || messages === null) return false;
    this.conversation.restore(messages, session.status === 200 ? session.body : null, lastSeq ?? 0);
    for (const one of messages) if (one.role === "user") this.outbox.confirmed(one.message_id);
    this.liveSeq = this.conversation.lastSeq;
    $("announcer").textContent = "";
    this.changed();
    return true;
  }

  outboxChanged() {
    for (const entry of this.outbox?.entries ?? []) {
      if (entry.status !== "sent" || entry.watched) continue;
      entry.watched = true;
      setTimeout(() => this.checkConfirmed(entry), CONFIRM_MS);
    }
    this.changed();
  }

  /** Commands leave no message behind; anything else missing means a stream that went silent. */
  checkConfirmed(entry) {
    if (!this.outbox?.entries.includes(entry)) return;
    if (entry.text.startsWith("/")) this.outbox.confirmed(entry.id);
    else this.stream.reconnect();
  }

  async stop() {
    const turn = this.conversation.openTurn;
    if (!turn || this.stopping === turn.id) return;
    const name = this.name;
    this.stopping = turn.id;
    this.changed();
    const answer = await stopTurn(name, turn.id);
    if (this.name !== name || this.conversation.openTurn !== turn) return;
    // After a commit point the turn ends only when its call has; let people ask again.
    setTimeout(() => this.stopSettled(turn.id), STOP_AGAIN_MS);
    if (answer.status < 200 || answer.status >= 300) {
      this.stopSettled(turn.id);
      this.say(answer.status === 0 ? "Could not stop: no connection to the server." : `Could not stop: ${refusalText(answer)}.`);
    }
  }

  stopSettled(turnId) {
    if (this.stopping === turnId) this.stopping = null;
    this.changed();
  }

  async startAnew() {
    this.composer.focus();
    const name = this.name;
    const answer = await newConversation(name);
    const ok = (answer.status >= 200 && answer.status < 300) || answer.status === 404;
    if (this.name !== name || ok) return;
    const why = answer.status === 0 ? "no connection to the server" : refusalText(answer);
    this.say(`Could not begin a new conversation: ${why}.`);
  }

  showEarlier() {
    const log = $("log");
    const fromEnd = log.scrollHeight - log.scrollTop;
    this.view.showEarlier();
    this.render();
    log.scrollTop = log.scrollHeight - fromEnd;
  }

  /** A line above the message box, for a while; null takes it away. */
  say(text) {
    clearTimeout(this.troubleTimer);
    showText($("trouble"), $("trouble"), text);
    if (text) this.troubleTimer = setTimeout(() => this.say(null), TROUBLE_MS);
  }

  announceEvent(event) {
    const { conversation } = this;
    const own = conversation.messages.get(event.seq);
    if (own) $("announcer").textContent = `Your message: ${statusText(messageStatus(own), own)}`;
    else if (event.type === "turn.processing") $("announcer").textContent = "The agent is working";
    else if (event.type === "turn.cancelled") $("announcer").textContent = "Stopped";
    else if (event.type === "turn.completed") $("announcer").textContent = "Answered";
    // The log says what these say; the agent is at work no longer.
    else if (SETTLED.has(event.type)) $("announcer").textContent = "";
    const speaks = ["turn.completed", "turn.failed", "turn.waiting_for_input", "session.notice"].includes(event.type);
    if (speaks && document.hidden) this.countUnread(this.unread + 1);
  }

  countUnread(count) {
    this.unread = count;
    const title = this.name ? `${this.name} · Turnkeep` : "Turnkeep";
    document.title = count ? `(${count}) ${title}` : title;
  }

  /** Draws soon: a replay or a fast stream is drawn in steps, not event by event. */
  changed() {
    this.renderTimer ||= setTimeout(() => this.render(), RENDER_INTERVAL_MS);
  }

  render() {
    clearTimeout(this.renderTimer);
    this.renderTimer = 0;
    if (!this.name) return;
    const { conversation } = this;
    if (this.live) this.outbox.settle(conversation.lastSeq);
    const pending = this.outbox.entries;
    const added = this.view.render(conversation, pending);
    this.scroll.settle(added);
    $("log").setAttribute("aria-busy", String(!this.live));
    $("empty").hidden = !this.live || conversation.blocks.length + conversation.loose.length + pending.length > 0;
    const turn = conversation.openTurn;
    if (this.stopping !== turn?.id) this.stopping = null;
    $("stop").hidden = !turn;
    $("stop").disabled = Boolean(this.stopping);
    $("stop-text").textContent = this.stopping ? "Stopping…" : "Stop";
    const state = turn ? turn.state : conversation.closed ? "closed" : "idle";
    $("state").dataset.state = state;
    $("state").textContent = STATE_TEXT[state] ?? (state === "closed" ? "closed" : "");
    this.composer.ask(state === "waiting_for_input" ? "Answer the question" : "Write a message");
  }
}

function showText(box, place, text) {
  box.hidden = !text;
  if ((text ?? "") !== place.textContent) place.textContent = text ?? "";
}

/** The name in the address, `#name=Alice`, if there is one. */
function nameInAddress() {
  return cleanName(new URLSearchParams(location.hash.slice(1)).get("name") ?? "");
}

const chat = new Chat();
/** Somebody signed in, so the name is not for choosing. */
let signedIn = false;

function show(id) {
  for (const one of ["welcome", "sign-in", "chat"]) $(one).hidden = one !== id;
}

function enter(name) {
  show("chat");
  $("person").title = signedIn ? "Sign out" : "Write under another name";
  $("person-deed").textContent = signedIn ? ". Sign out" : ". Change the name";
  if (name !== chat.name) chat.open(name);
}

function askForName(suggestion) {
  chat.close();
  chat.countUnread(0);
  show("welcome");
  $("name-input").value = suggestion;
  $("name-error").textContent = "";
  $("name-input").focus();
  $("name-input").select();
}

function askForCode(trouble) {
  chat.close();
  chat.countUnread(0);
  show("sign-in");
  $("code-error").textContent = trouble;
  $("code-input").focus();
}

function enterAs(person) {
  signedIn = true;
  setHome(person.tenant_id, person.agent_id);
  enter(person.customer_id);
}

async function useCode(code) {
  $("code-submit").disabled = true;
  const answer = await signIn(code);
  $("code-submit").disabled = false;
  if (answer.status === 200) {
    $("code-input").value = "";
    enterAs(answer.body);
  } else if (answer.status === 401) {
    askForCode("This code is not known, or was used already, or is too old. Ask for another one.");
  } else {
    askForCode(answer.status === 0 ? "No connection to the server. Please try again." : `Not signed in: ${refusalText(answer)}.`);
  }
}

/** A code in the address, `#code=…`, is used at once and taken out of it: it works only once. */
function takeCode() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code) history.replaceState(null, "", location.pathname + location.search);
  return code;
}

async function begin() {
  const code = takeCode();
  const { status, body } = await getSignIn();
  if (status === 200 && body.needed) {
    if (code) await useCode(code);
    else if (body.person) enterAs(body.person);
    else askForCode("");
    return;
  }
  // Where nobody has to sign in, one chooses a name. So it is while the server can't be asked: the
  // stream finds out.
  signedIn = false;
  setHome("default", "default");
  const name = nameInAddress() || cleanName(remembered(NAME_KEY));
  if (nameTrouble(name)) askForName("");
  else if (name !== chat.name) {
    remember(NAME_KEY, name);
    enter(name);
  }
}

$("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = cleanName($("name-input").value);
  $("name-error").textContent = nameTrouble(name);
  if (nameTrouble(name)) return;
  // The address would bring the old name back on a reload.
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  remember(NAME_KEY, name);
  enter(name);
});
$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  // Whoever pastes the whole link means the code in it.
  const text = $("code-input").value.trim();
  useCode(text.split("#code=").pop());
});
$("person").addEventListener("click", async () => {
  if (!signedIn) {
    askForName(chat.name);
    return;
  }
  const answer = await signOut();
  if (answer.status !== 204) {
    chat.say("Could not sign out: no connection to the server.");
    return;
  }
  // What was written and shown here goes with whom it belonged to.
  chat.close();
  forgetAll();
  location.reload();
});
window.addEventListener("hashchange", begin);
begin();
