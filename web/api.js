// The HTTP API as the page uses it. Knows addresses and shapes; decides nothing.

const REQUEST_TIMEOUT_MS = 20_000;
const PROBE_TIMEOUT_MS = 10_000;

/** Escapes the two characters that would make two different session keys print alike. */
function segment(text) {
  return text.replace(/%/g, "%25").replace(/:/g, "%3A");
}

/** Whose customer somebody is who signed in, and which agent answers. */
let home = { tenant: "default", agent: "default" };

export function setHome(tenant, agent) {
  home = { tenant, agent };
}

/** The session key of a person who writes through this page. */
export function sessionKey(name) {
  return `${segment(home.tenant)}:${segment(home.agent)}:web:dm:${segment(name)}`;
}

/** The path of a person's session; the key is a path segment, so it is encoded once more. */
export function sessionPath(name) {
  return `/v1/sessions/${encodeURIComponent(sessionKey(name))}`;
}

/**
 * A new message id. `crypto.randomUUID` exists only in secure contexts, and a gateway on a
 * home network is often reached over plain http.
 */
export function newMessageId() {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/**
 * One request. Resolves to `{status, body, retryAfterMs}`; status 0 means that nobody knows
 * whether the request arrived.
 */
async function request(method, path, body, timeoutMs = REQUEST_TIMEOUT_MS) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeoutMs);
  const init = { method, signal: abort.signal, headers: { Accept: "application/json" }, cache: "no-store" };
  if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  try {
    const response = await fetch(path, init);
    const parsed = await readJson(response);
    return { status: response.status, body: parsed, retryAfterMs: retryAfterMs(response, parsed) };
  } catch {
    return { status: 0, body: null, retryAfterMs: null };
  } finally {
    clearTimeout(timer);
  }
}

/** A body that is cut off throws: the answer is then as unknown as a lost connection. */
async function readJson(response) {
  const text = await response.text();
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    if (response.ok) throw new Error("cut off");
    return null;
  }
}

function retryAfterMs(response, body) {
  const seconds = Number(body?.retry_after_s ?? response.headers.get("Retry-After") ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : null;
}

export function postMessage(name, id, text) {
  const { tenant: tenant_id, agent: agent_id } = home;
  return request("POST", "/v1/chat", { tenant_id, agent_id, customer_id: name, channel: "web", message: text, id });
}

/** Whether one has to sign in here, and who did: `{needed, person}`. */
export function getSignIn() {
  return request("GET", "/v1/sign-in");
}

export function signIn(code) {
  return request("POST", "/v1/sign-in", { code });
}

export function signOut() {
  return request("POST", "/v1/sign-out", {});
}

export function getSession(name) {
  return request("GET", sessionPath(name));
}

/**
 * Whether the server answers at all, and what a known session says. One that nobody has written in is
 * an error in the browser's log, so then something else is asked.
 */
export function probe(name, known) {
  return request("GET", known ? sessionPath(name) : "/v1/sign-in", undefined, PROBE_TIMEOUT_MS);
}

export function stopTurn(name, turnId) {
  return request("POST", `${sessionPath(name)}/stop`, { turn_id: turnId });
}

export function newConversation(name) {
  return request("POST", `${sessionPath(name)}/new`, {});
}

export function tellTyping(name) {
  return request("POST", `${sessionPath(name)}/typing`, {});
}

/** The whole history, oldest first, or null if it can't be read now. */
export async function allMessages(name) {
  const messages = [];
  let after = 0;
  for (;;) {
    const { status, body } = await request("GET", `${sessionPath(name)}/messages?after=${after}&limit=200`);
    if (status === 404) return [];
    if (status !== 200 || !body) return null;
    messages.push(...body.messages);
    if (body.next === null || body.next === undefined || body.next === after) return messages;
    after = body.next;
  }
}

const REFUSALS = {
  rate_limit_exceeded: "too many messages at once",
  queue_full: "too many messages are waiting already",
  session_busy: "the agent is busy with your last message",
  unauthorized: "this server does not admit you",
};

/** A refusal in words that help the person who reads them. */
export function refusalText({ status, body, retryAfterMs: wait }) {
  const reason = body?.rejection_reason;
  const known = REFUSALS[reason];
  let text = known ?? body?.detail ?? body?.title ?? reason;
  if (!text && status === 413) text = "the message is too long";
  if (!text) text = `the server answered ${status}`;
  if (wait) text += `, try again in ${Math.max(1, Math.ceil(wait / 1000))} s`;
  return text;
}
