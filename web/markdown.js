// A small markdown renderer for agents' replies. It only ever creates elements and text nodes,
// so nothing in a reply can become markup; links go to http and https addresses only.

/** Longer replies are shown as they are: a hostile one must not freeze the page. */
const MARKDOWN_CHARS_MAX = 200_000;
const NESTING_MAX = 8;

const FENCE = /^ {0,3}(```+|~~~+)\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)+\|?\s*$/;

/** Renders `text` into a fragment. */
export function renderMarkdown(text) {
  const fragment = document.createDocumentFragment();
  if (text.length > MARKDOWN_CHARS_MAX) {
    fragment.append(element("p", "plain", text));
    return fragment;
  }
  renderBlocks(fragment, text.replace(/\r\n?/g, "\n").split("\n"), 0);
  return fragment;
}

function element(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

function renderBlocks(parent, lines, depth) {
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (!line.trim()) at += 1;
    else if (FENCE.test(line)) at = renderFence(parent, lines, at);
    else if (HEADING.test(line)) {
      const [, marks, title] = line.match(HEADING);
      // The page has its own h1 and h2.
      renderInline(parent.appendChild(element(`h${Math.min(6, marks.length + 2)}`)), title, 0);
      at += 1;
    } else if (RULE.test(line)) {
      parent.append(element("hr"));
      at += 1;
    } else if (QUOTE.test(line) && depth < NESTING_MAX) at = renderQuote(parent, lines, at, depth);
    else if (ITEM.test(line) && depth < NESTING_MAX) at = renderList(parent, lines, at, depth);
    else if (line.includes("|") && TABLE_RULE.test(lines[at + 1] ?? "")) at = renderTable(parent, lines, at);
    else at = renderParagraph(parent, lines, at);
  }
}

function renderFence(parent, lines, at) {
  const [, fence, language] = lines[at].match(FENCE);
  const closing = new RegExp(`^ {0,3}\\${fence[0]}{${fence.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) end += 1;
  const code = lines.slice(at + 1, end).join("\n");
  const figure = element("div", "code");
  const head = figure.appendChild(element("div", "code-head"));
  head.append(element("span", "", language || "code"));
  if (navigator.clipboard) head.append(copyButton(code));
  const pre = figure.appendChild(element("pre"));
  pre.tabIndex = 0;
  pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  pre.setAttribute("role", "region");
  pre.append(element("code", "", code));
  parent.append(figure);
  return end + 1;
}

function copyButton(code) {
  const button = element("button", "copy", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = "Copy"), 1_500);
  });
  return button;
}

function renderQuote(parent, lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  renderBlocks(parent.appendChild(element("blockquote")), inner, depth + 1);
  return end;
}

function renderList(parent, lines, at, depth) {
  const [, indent, marker] = lines[at].match(ITEM);
  const ordered = /\d/.test(marker);
  const list = element(ordered ? "ol" : "ul");
  if (ordered && parseInt(marker, 10) !== 1) list.start = parseInt(marker, 10);
  while (at < lines.length) {
    const found = lines[at].match(ITEM);
    if (!found || found[1].length < indent.length || /\d/.test(found[2]) !== ordered || RULE.test(lines[at])) break;
    const inner = [found[3]];
    const inside = found[1].length + 1;
    at += 1;
    while (at < lines.length && belongsToItem(lines, at, inside)) {
      inner.push(lines[at].slice(Math.min(leading(lines[at]), inside + found[2].length)));
      at += 1;
    }
    renderItem(list.appendChild(element("li")), inner, depth);
    while (at < lines.length && !lines[at].trim() && ITEM.test(lines[at + 1] ?? "")) at += 1;
  }
  parent.append(list);
  return at;
}

/** Indented lines, the blank ones before them, and the lazy continuation of a paragraph. */
function belongsToItem(lines, at, inside) {
  const line = lines[at];
  if (!line.trim()) return leading(lines[at + 1] ?? "") >= inside && Boolean(lines[at + 1].trim());
  if (leading(line) >= inside) return true;
  const starts = [FENCE, HEADING, RULE, QUOTE, ITEM].some((form) => form.test(line));
  return !starts && Boolean(lines[at - 1].trim());
}

function renderItem(item, inner, depth) {
  const simple = inner.every((line, index) => index === 0 || (line.trim() && !ITEM.test(line) && !FENCE.test(line)));
  const task = inner[0].match(/^\[([ xX])\]\s+(.*)$/);
  if (task) {
    const box = item.appendChild(element("input"));
    box.type = "checkbox";
    box.disabled = true;
    box.checked = task[1] !== " ";
    item.className = "task";
    inner = [task[2], ...inner.slice(1)];
  }
  if (simple) renderLines(item, inner);
  else renderBlocks(item, inner, depth + 1);
}

const leading = (line) => line.length - line.trimStart().length;

function renderTable(parent, lines, at) {
  const wrap = element("div", "table");
  wrap.tabIndex = 0;
  wrap.setAttribute("role", "region");
  wrap.setAttribute("aria-label", "Table");
  const table = wrap.appendChild(element("table"));
  const addRow = (section, line, tag) => {
    const row = section.appendChild(element("tr"));
    for (const cell of cells(line)) renderInline(row.appendChild(element(tag)), cell, 0);
  };
  addRow(table.appendChild(element("thead")), lines[at], "th");
  const body = table.appendChild(element("tbody"));
  at += 2;
  while (at < lines.length && lines[at].includes("|") && lines[at].trim()) {
    addRow(body, lines[at], "td");
    at += 1;
  }
  parent.append(wrap);
  return at;
}

function cells(line) {
  return line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").map((cell) => cell.trim());
}

function renderParagraph(parent, lines, at) {
  let end = at + 1;
  const stops = [FENCE, HEADING, RULE, QUOTE];
  while (end < lines.length && lines[end].trim() && !stops.some((form) => form.test(lines[end]))) {
    const item = lines[end].match(ITEM);
    if (item && item[1].length < 4) break;
    end += 1;
  }
  renderLines(parent.appendChild(element("p")), lines.slice(at, end));
  return end;
}

/** In a chat a line break is meant. */
function renderLines(parent, lines) {
  renderInline(parent, lines.map((line) => line.trim()).join("\n"), 0);
}

const MARKS = [
  ["***", "strong"],
  ["**", "strong"],
  ["__", "strong"],
  ["~~", "s"],
  ["*", "em"],
  ["_", "em"],
];
const WORD = /[\p{L}\p{N}]/u;

function renderInline(parent, text, depth) {
  const { codes, seen } = codeSpans(text);
  const missing = new Set();
  let plain = "";
  let at = 0;
  const flush = () => {
    if (plain) appendText(parent, plain);
    plain = "";
  };
  while (at < text.length) {
    if (text[at] === "\\" && /[\\`*_~[\](){}#+\-.!|<>]/.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
      continue;
    }
    if (text[at] === "`" && !codes.has(at)) {
      // Backticks that nothing closes are only themselves, all of them.
      const end = at + ticksAt(text, at);
      plain += text.slice(at, end);
      at = end;
      continue;
    }
    const span = codes.get(at) ?? (depth < NESTING_MAX ? spanAt(text, seen, at, missing) : null);
    if (!span) {
      plain += text[at];
      at += 1;
      continue;
    }
    flush();
    parent.append(span.build(depth));
    at = span.end;
  }
  flush();
}

/**
 * The code spans, by where they begin, and the text with each of them blanked out: what looks like a
 * mark or a bracket in code is none. `missing` keeps this linear.
 */
function codeSpans(text) {
  const codes = new Map();
  const missing = new Set();
  let seen = "";
  let from = 0;
  let at = text.indexOf("`");
  while (at >= 0) {
    if (isEscaped(text, from, at)) {
      at = text.indexOf("`", at + 1);
      continue;
    }
    const ticks = ticksAt(text, at);
    const close = missing.has(ticks) ? -1 : closingTicks(text, at + ticks, ticks);
    if (close < 0) {
      missing.add(ticks);
      at = text.indexOf("`", at + ticks);
      continue;
    }
    const end = close + ticks;
    const code = verbatim(text.slice(at + ticks, close));
    codes.set(at, { end, build: () => element("code", "", code) });
    seen += text.slice(from, at) + BLANK.repeat(end - at);
    from = end;
    at = text.indexOf("`", end);
  }
  return { codes, seen: seen + text.slice(from) };
}

/** Stands for what is code; no message and no mark holds it. */
const BLANK = "\0";

function ticksAt(text, at) {
  let end = at;
  while (text[end] === "`") end += 1;
  return end - at;
}

/** Where exactly so many backticks stand next, or -1. */
function closingTicks(text, from, ticks) {
  let at = text.indexOf("`", from);
  while (at >= 0) {
    const found = ticksAt(text, at);
    if (found === ticks) return at;
    at = text.indexOf("`", at + found);
  }
  return -1;
}

/** Whether an odd number of backslashes stands before it, none of them in code. */
function isEscaped(text, from, at) {
  let slashes = 0;
  while (at - slashes > from && text[at - slashes - 1] === "\\") slashes += 1;
  return slashes % 2 === 1;
}

/** One blank at both ends only keeps the code from the fences. */
function verbatim(code) {
  const line = code.replace(/\n/g, " ");
  return line.startsWith(" ") && line.endsWith(" ") && /[^ ]/.test(line) ? line.slice(1, -1) : line;
}

/** Line breaks are the only thing left to say about plain text. */
function appendText(parent, text) {
  text.split("\n").forEach((line, index) => {
    if (index) parent.append(element("br"));
    if (line) parent.append(line);
  });
}

/** The span that begins at `at`, or null. `missing` remembers closers known not to follow, which keeps this linear. */
function spanAt(text, seen, at, missing) {
  const char = text[at];
  if (char === "[") return linkAt(text, seen, at);
  if (char === "h" || char === "<") return autolinkAt(text, at);
  for (const [mark, tag] of MARKS) {
    if (!text.startsWith(mark, at)) continue;
    const end = closerOf(seen, at, mark, missing);
    if (end < 0) continue;
    const inner = text.slice(at + mark.length, end);
    const emphasis = mark === "***" ? `*${inner}*` : inner;
    return { end: end + mark.length, build: (depth) => nested(element(tag), emphasis, depth) };
  }
  return null;
}

function nested(node, inner, depth) {
  renderInline(node, inner, depth + 1);
  return node;
}

function closerOf(text, at, mark, missing) {
  if (missing.has(mark) || /\s/.test(text[at + mark.length] ?? " ")) return -1;
  if (mark[0] === "_" && WORD.test(text[at - 1] ?? "")) return -1;
  let end = at + mark.length;
  while ((end = text.indexOf(mark, end)) >= 0) {
    const after = text[end + mark.length] ?? "";
    const closes = !/\s/.test(text[end - 1]) && end > at + mark.length && text[end - 1] !== "\\" && after !== mark[0];
    if (closes && !(mark[0] === "_" && WORD.test(after)) && !(mark.length === 1 && text[end - 1] === mark)) return end;
    end += mark.length;
  }
  missing.add(mark);
  return -1;
}

function linkAt(text, seen, at) {
  const found = seen.slice(at, at + 2_500).match(/^\[([^\]\n]{1,400})\]\(((?:[^\s()\0]|\([^\s()\0]*\))+)(?:\s+"[^"\n\0]{0,200}")?\)/);
  const address = found && httpAddress(found[2]);
  if (!address) return null;
  const label = text.slice(at + 1, at + 1 + found[1].length);
  return { end: at + found[0].length, build: () => nested(anchor(address), label, depthIn(label)) };
}

/** A link's text may be bold or code, but never hold another link. */
function depthIn(label) {
  return /http/i.test(label) ? NESTING_MAX : NESTING_MAX - 3;
}

function autolinkAt(text, at) {
  if (text[at] === "h" && WORD.test(text[at - 1] ?? "")) return null;
  const found = text.slice(at, at + 2_000).match(/^<?(https?:\/\/[^\s<>"`]+)>?/);
  if (!found) return null;
  let shown = found[1];
  if (text[at] !== "<") {
    shown = shown.replace(/[.,;:!?'*_]+$/, "");
    while (shown.endsWith(")") && !shown.includes("(")) shown = shown.slice(0, -1);
  } else if (!found[0].endsWith(">")) return null;
  const address = httpAddress(shown);
  if (!address) return null;
  const length = text[at] === "<" ? found[0].length : shown.length;
  return { end: at + length, build: () => Object.assign(anchor(address), { textContent: shown }) };
}

function anchor(address) {
  const link = element("a");
  link.href = address;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  return link;
}

function httpAddress(text) {
  if (!/^https?:\/\//i.test(text)) return null;
  try {
    const address = new URL(text);
    return address.protocol === "http:" || address.protocol === "https:" ? address.href : null;
  } catch {
    return null;
  }
}
