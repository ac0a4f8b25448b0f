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
const chip = (text) => user(text)?.chip ?? "";
const calls = () =>
  Array.from(document.querySelectorAll("#rows .row.tool"), (node) => ({
    tool: node.querySelector(".tool-name").textContent,
    effects: node.dataset.effects,
    status: node.dataset.status,
    outcome: node.querySelector("[data-testid=outcome]").textContent,
    told: Array.from(node.querySelectorAll("pre"), (part) => part.textContent),
    open: node.querySelector("details").open,
  }));
const replies = () => rows().filter((row) => row.role === "agent" && row.kind !== "draft").map((row) => row.text);
const notices = () => rows().filter((row) => row.role === "notice").map((row) => row.text);
const announced = () => document.querySelector("#announcer").textContent;
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
const drafts = () =>
  Array.from(window.drawn).filter((one) => one.startsWith("agent streaming ")).map((one) => one.slice(16));
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

// The contrast of two colours, by the formula of the accessibility guidelines.
const channels = (colour) => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return Array.from(canvas.getImageData(0, 0, 1, 1).data);
};
const luminance = (colour) => {
  const [red, green, blue] = channels(colour)
    .slice(0, 3)
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const contrast = (one, other) => {
  const [light, dark] = [luminance(one), luminance(other)].sort((left, right) => right - left);
  return (light + 0.05) / (dark + 0.05);
};
const background = (node) => {
  const colour = getComputedStyle(node).backgroundColor;
  return channels(colour)[3] > 250 || !node.parentElement ? colour : background(node.parentElement);
};

// Visible texts with less contrast than that; what is disabled may be faint.
const faint = (least) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest(":disabled")) continue;
    const reached = contrast(getComputedStyle(node).color, background(node));
    if (reached < least) found.push(`${walker.currentNode.data}: ${reached.toFixed(2)}`);
  }
  return found;
};
