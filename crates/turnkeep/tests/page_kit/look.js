// What a test can ask of the page; stands before every condition. Looks only.

const facts = (node) => ({
  role: node.dataset.role,
  kind: node.dataset.testid,
  status: node.dataset.status,
  turn: node.dataset.turn ?? "",
  seq: Number(node.dataset.seq ?? 0),
  text: (node.querySelector(".bubble, .body, p, .divider-text") ?? node).innerText,
  chip: node.querySelector("[data-testid=status]")?.textContent ?? "",
});
const rows = () => Array.from(document.querySelectorAll("#rows .row"), facts);
const user = (text) => rows().find((row) => row.role === "user" && row.text === text);
const status = (text) => user(text)?.status;
const replies = () => rows().filter((row) => row.role === "agent" && row.kind !== "draft").map((row) => row.text);
const draft = () => rows().find((row) => row.kind === "draft")?.text ?? "";
const visible = (testid) => document.querySelector(`[data-testid="${testid}"]`)?.checkVisibility() ?? false;

// Everything that was ever drawn since `watch`, so that a state that passes quickly still counts.
const watch = () => {
  window.drawn = new Set();
  const look = () => {
    for (const row of rows()) window.drawn.add(`${row.role} ${row.status} ${row.text}`);
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
};
const wasDrawn = (start) => Array.from(window.drawn).some((one) => one.startsWith(start));

// Waits for a condition, without asking again and again: looks at it after every change.
const until = (holds, deadlineMs, done) => {
  let over = false;
  const end = (held) => {
    if (over) return;
    over = true;
    observer.disconnect();
    clearTimeout(deadline);
    done(held);
  };
  const look = () => {
    if (holds()) end(true);
  };
  const observer = new MutationObserver(look);
  observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  const deadline = setTimeout(() => end(false), deadlineMs);
  look();
};
