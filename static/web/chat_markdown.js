// Markdown of a model as elements. Nothing of it is ever parsed as HTML: each token becomes an element of this list here,
// and each text a text. So there are no scripts, styles or pictures, and no address but those that somebody clicks.
import { Lexer } from "../vendor/marked-18.2.1/marked.esm.js";

const OPTIONS = { gfm: true, breaks: true };
const SAFE_SCHEMES = ["http:", "https:", "mailto:"];
const MOST_DEPTH = 40;

function make(name, children = [], attributes = {}) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// A block that is too deep or too odd to be parsed is shown as it was written.
export function parse(text) {
  try {
    return new Lexer(OPTIONS).lex(text);
  } catch {
    return [{ type: "plain", raw: text }];
  }
}

// Elements only.
export function render(token) {
  try {
    const nodes = block(token, 0);
    return nodes.every((node) => node instanceof Element) ? nodes : [make("p", nodes)];
  } catch {
    return [plain(token)];
  }
}

const plain = (token) => make("p", [token.raw]);

// Blocks: from a token to a list of nodes

const BLOCKS = {
  space: () => [],
  def: () => [],
  plain: (token) => [plain(token)],
  hr: () => [make("hr")],
  heading: (token, depth) => [make(`h${Math.min(6, token.depth + 2)}`, inlines(token.tokens, depth))],
  paragraph: (token, depth) => [make("p", inlines(token.tokens, depth))],
  text: (token, depth) => (token.tokens ? inlines(token.tokens, depth) : [decode(token.text)]),
  html: (token) => [make("p", [token.raw.trim()])],
  code: (token) => [makeCode(token)],
  blockquote: (token, depth) => [make("blockquote", blocks(token.tokens, depth))],
  list: (token, depth) => [makeList(token, depth)],
  table: (token, depth) => [makeTable(token, depth)],
  checkbox: (token) => [token.checked ? "☑ " : "☐ "],
};

function block(token, depth) {
  if (depth > MOST_DEPTH) throw new RangeError("too deep");
  return BLOCKS[token.type]?.(token, depth + 1) ?? inline(token, depth + 1);
}

const blocks = (tokens, depth) => tokens.flatMap((token) => block(token, depth));

function makeList(token, depth) {
  const items = token.items.map((item) => make("li", blocks(item.tokens, depth)));
  const first = Number.isSafeInteger(token.start) && token.start !== 1 ? { start: token.start } : {};
  return token.ordered ? make("ol", items, first) : make("ul", items);
}

function makeTable(token, depth) {
  const row = (cells, name) => make("tr", cells.map((cell) => makeCell(cell, name, depth)));
  const head = make("thead", [row(token.header, "th")]);
  const table = make("table", [head, make("tbody", token.rows.map((cells) => row(cells, "td")))]);
  return make("div", [table], { class: "chat-wide", tabindex: "0" });
}

function makeCell(cell, name, depth) {
  const element = make(name, inlines(cell.tokens, depth));
  if (cell.align) element.style.textAlign = cell.align;
  return element;
}

function makeCode(token) {
  const element = document.getElementById("chat-code").content.firstElementChild.cloneNode(true);
  fillCode(element, token);
  return element;
}

function fillCode(element, token) {
  const language = (token.lang ?? "").split(/\s/)[0].slice(0, 30);
  element.querySelector("span").textContent = language || "text";
  element.querySelector("code").textContent = token.text;
}

// What stands in a line

const INLINES = {
  strong: (token, depth) => [make("strong", inlines(token.tokens, depth))],
  em: (token, depth) => [make("em", inlines(token.tokens, depth))],
  del: (token, depth) => [make("del", inlines(token.tokens, depth))],
  codespan: (token) => [make("code", [token.text])],
  br: () => [make("br")],
  escape: (token) => [token.text],
  html: (token) => (/^<br\s*\/?>$/i.test(token.raw) ? [make("br")] : [token.raw]),
  link: (token, depth) => makeLink(token, inlines(token.tokens, depth)),
  image: (token) => makeLink(token, [`Picture: ${token.text || token.href}`]),
};

function inline(token, depth) {
  return INLINES[token.type]?.(token, depth) ?? [decode(token.text ?? token.raw)];
}

function inlines(tokens, depth) {
  return (tokens ?? []).flatMap((token) => (token.type === "text" ? block(token, depth) : inlineDeep(token, depth)));
}

function inlineDeep(token, depth) {
  if (depth > MOST_DEPTH) throw new RangeError("too deep");
  return BLOCKS[token.type] && !INLINES[token.type] ? block(token, depth) : inline(token, depth + 1);
}

// An address of another kind, or one of this very server, is not what a model may lead anybody to.
function makeLink(token, children) {
  if (!isSafe(token.href)) return children;
  return [make("a", children, { href: token.href, title: token.href, target: "_blank", rel: "noopener noreferrer nofollow" })];
}

function isSafe(href) {
  const url = URL.canParse(href) ? new URL(href) : null;
  return url !== null && SAFE_SCHEMES.includes(url.protocol) && url.origin !== location.origin;
}

const ENTITY = /&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z]\w{1,30});/gi;

// "&lt;" is a "<" in Markdown. Only what is an entity by its letters is read as one, in a document that is no page.
function decode(text) {
  if (!text.includes("&")) return text;
  return text.replace(ENTITY, (entity) => new DOMParser().parseFromString(entity, "text/html").body.textContent);
}

// Growing

// Shows a text that grows at its end: what stands above the last block stays as it is.
export class MarkdownView {
  constructor(place, { onSettled = () => {} } = {}) {
    this.place = place;
    this.onSettled = onSettled;
    this.settledAt = 0; // how much of the text is in blocks that stay
    this.last = []; // the blocks after it: { token, nodes }
  }

  show(text) {
    const source = text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
    const tokens = parse(source.slice(this.settledAt));
    this.last = this.blend(tokens);
    this.settle(source, tokens);
  }

  // The end: references may be defined below what refers to them.
  finish(text) {
    if (/^ {0,3}\[[^\]]+\]:/m.test(text)) {
      [this.settledAt, this.last] = [0, []];
      this.place.replaceChildren();
    }
    this.show(text);
    this.last.forEach(({ nodes }) => this.tell(nodes));
  }

  blend(tokens) {
    const kept = this.last;
    const news = tokens.map((token, index) => reuse(kept[index], token) ?? { token, nodes: render(token) });
    const stays = new Set(news.flatMap(({ nodes }) => nodes));
    kept.flatMap(({ nodes }) => nodes).filter((node) => !stays.has(node)).forEach((node) => node.remove());
    news.flatMap(({ nodes }) => nodes).filter((node) => node.parentNode !== this.place).forEach((node) => this.place.append(node));
    return news;
  }

  // All but the last block that says something; a list may go on behind an empty line.
  settle(source, tokens) {
    const end = tokens.findLastIndex((token) => token.type !== "space");
    for (const { token, nodes } of this.last.slice(0, Math.max(0, end))) {
      if (!source.startsWith(token.raw, this.settledAt)) return;
      this.settledAt += token.raw.length;
      this.last.shift();
      this.tell(nodes);
    }
  }

  tell(nodes) {
    const words = nodes.map((node) => node.textContent).join(" ").trim();
    if (words) this.onSettled(words);
  }
}

function reuse(known, token) {
  if (known === undefined || known.token.type !== token.type) return null;
  if (known.token.raw === token.raw) return { token, nodes: known.nodes };
  if (token.type !== "code") return null;
  fillCode(known.nodes[0], token); // it keeps its place in a long block, and its button
  return { token, nodes: known.nodes };
}
