// The models: which one is chosen, what can be chosen instead, and how far each is on its way into memory.
import { presenceWords, watchPresences } from "../homelab/presences.js";

const CHECK_MS = 5_000;
const byId = (id) => document.getElementById(id);
const clone = (id) => byId(id).content.firstElementChild.cloneNode(true);

export class Models {
  // `onChange` hears of another model and of any news, `onChoose` of somebody's choice.
  constructor(choices, { onChange, onChoose }) {
    this.choices = choices;
    this.name = "";
    this.onChange = onChange;
    this.onChoose = onChoose;
    this.presenceOf = (name) => ({ model: name, status: "unloaded" });
  }

  start(wanted) {
    this.name = this.ready[0]?.name ?? "";
    this.choose(wanted);
    this.listen();
  }

  get ready() {
    return this.choices.filter((choice) => !choice.why_not);
  }

  get presence() {
    return this.presenceOf(this.name);
  }

  // One that cannot be chosen changes nothing.
  choose(name) {
    if (this.ready.some((choice) => choice.name === name)) this.name = name;
    this.show();
  }

  // Watching

  listen() {
    const changed = (presenceOf) => {
      this.presenceOf = presenceOf;
      this.show();
    };
    watchPresences(changed, (state) => (byId("chat-lost").hidden = state === "live"));
    byId("chat-models").addEventListener("toggle", (event) => event.newState === "open" && this.open());
    byId("chat-find").addEventListener("input", () => this.list());
    byId("chat-find").addEventListener("keydown", (event) => this.pressInSearch(event));
    byId("chat-choices").addEventListener("keydown", (event) => this.pressInList(event));
    document.addEventListener("visibilitychange", () => this.refresh());
    setInterval(() => this.ready.length === 0 && this.refresh(), CHECK_MS);
  }

  // What is ready may be another thing since the page was opened.
  async refresh() {
    if (document.hidden) return;
    const answer = await fetch("/chat?part=models").catch(() => null);
    if (!answer?.ok) return;
    this.choices = await answer.json();
    if (!this.ready.some(({ name }) => name === this.name)) this.name = this.ready[0]?.name ?? "";
    this.show();
  }

  // Showing

  show() {
    const presence = this.presence;
    const chosen = this.choices.find(({ name }) => name === this.name);
    byId("chat-model-name").textContent = this.name || "No model";
    byId("chat-model-state").textContent = chosen ? wordsFor(chosen, presence) : "none is ready";
    byId("chat-model").title = byId("chat-model-state").textContent;
    byId("chat-model-dot").dataset.status = presence.status;
    if (byId("chat-models").matches(":popover-open")) this.list();
    showUnready(byId("chat-none-list"), this.choices);
    this.onChange();
  }

  open() {
    byId("chat-find").value = "";
    this.list();
    this.refresh();
  }

  list() {
    const sought = byId("chat-find").value.trim().toLowerCase();
    const fits = ({ name, repo }) => `${name} ${repo}`.toLowerCase().includes(sought);
    const shown = this.ready.filter(fits).sort((one, other) => this.rank(one) - this.rank(other));
    this.blend(byId("chat-choices"), shown);
    byId("chat-no-choice").hidden = shown.length > 0 || sought === "";
    byId("chat-unready").hidden = showUnready(byId("chat-unready-list"), this.choices.filter(fits)) === 0;
  }

  // Those in memory first; the server's order otherwise.
  rank({ name }) {
    return { loaded: 0, loading: 1 }[this.presenceOf(name).status] ?? 2;
  }

  // An item that somebody has the focus on stays the same element.
  blend(list, shown) {
    const known = new Map([...list.children].map((item) => [item.dataset.model, item]));
    const items = shown.map((choice) => this.fill(known.get(choice.name) ?? this.makeItem(choice.name), choice));
    const stays = new Set(items);
    [...list.children].filter((item) => !stays.has(item)).forEach((item) => item.remove());
    items.forEach((item, index) => list.children[index] !== item && list.insertBefore(item, list.children[index] ?? null));
  }

  makeItem(name) {
    const item = clone("chat-choice");
    item.dataset.model = name;
    item.querySelector("button").addEventListener("click", () => {
      this.choose(name);
      this.onChoose(name);
      byId("chat-models").hidePopover();
    });
    return item;
  }

  fill(item, choice) {
    const presence = this.presenceOf(choice.name);
    item.querySelector("strong").textContent = choice.name;
    item.querySelector(".hl-note").textContent = `${choice.repo} · ${wordsFor(choice, presence)}`;
    item.querySelector(".chat-dot").dataset.status = presence.status;
    item.querySelector("button").setAttribute("aria-current", String(choice.name === this.name));
    return item;
  }

  // The keyboard

  pressInSearch(event) {
    const first = byId("chat-choices").querySelector("button");
    if (event.key === "ArrowDown" && first) {
      event.preventDefault();
      first.focus();
    } else if (event.key === "Enter" && first) {
      event.preventDefault();
      first.click();
    }
  }

  pressInList(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...byId("chat-choices").querySelectorAll("button")];
    const next = buttons.indexOf(document.activeElement) + step;
    (next < 0 ? byId("chat-find") : buttons[Math.min(next, buttons.length - 1)]).focus();
  }
}

function wordsFor(choice, presence) {
  return presence.status === "unloaded" && choice.note ? choice.note : presenceWords(presence);
}

// Answers how many.
function showUnready(list, choices) {
  const unready = choices.filter((choice) => choice.why_not);
  list.replaceChildren(
    ...unready.map((choice) => {
      const item = clone("chat-unready-item");
      const link = item.querySelector("a");
      [link.textContent, link.href] = [choice.name, choice.page];
      item.querySelector(".hl-note").textContent = choice.why_not;
      return item;
    }),
  );
  return unready.length;
}
