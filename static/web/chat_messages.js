// A question and an answer on the page. What their buttons do, the page decides: `on` has a function for each.
import { copyFrom } from "../homelab/copy.js";
import { loadingWords } from "../homelab/presences.js";
import { duration } from "../homelab/words.js";
import { MarkdownView } from "./chat_markdown.js";

const PATIENT_SECONDS = 3;
const RENDER_SHARE = 4; // of four moments the reader has three, however long the text is

const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

export class QuestionView {
  constructor(message, { on }) {
    this.element = clone("chat-question");
    this.message = message;
    this.bubble = this.element.querySelector(".chat-bubble");
    this.form = this.element.querySelector("form");
    this.field = this.form.querySelector("textarea");
    this.bubble.textContent = message.content;
    this.listen(on);
  }

  listen(on) {
    const [copyButton, editButton] = ["copy", "edit"].map((what) => this.button(what));
    copyButton.addEventListener("click", () => copyFrom(copyButton, this.message.content));
    editButton.addEventListener("click", () => this.edit());
    this.button("leave").addEventListener("click", () => this.leave());
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.leave();
      if (isSending(event)) this.form.requestSubmit();
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.field.value.trim()) on.resend(this.field.value, this.element);
    });
  }

  button(what) {
    return this.element.querySelector(`[data-do=${what}]`);
  }

  edit() {
    this.field.value = this.message.content;
    this.toggle(true);
    this.field.focus();
  }

  leave() {
    this.toggle(false);
    this.button("edit").focus();
  }

  toggle(isEditing) {
    this.form.hidden = !isEditing;
    this.bubble.hidden = isEditing;
    this.element.classList.toggle("chat-is-edited", isEditing);
  }
}

// Enter sends, but not the one that ends a word of an input method.
export function isSending(event) {
  const isEnter = event.key === "Enter" && !event.shiftKey && !event.isComposing;
  if (isEnter) event.preventDefault();
  return isEnter;
}

export class AnswerView {
  constructor(message, { on, onSettled }) {
    this.element = clone("chat-answer");
    this.message = message;
    this.find = (selector) => this.element.querySelector(selector);
    this.find(".chat-who").textContent = message.model;
    this.markdown = new MarkdownView(this.find(".chat-text"), { onSettled });
    this.listen(on);
    if (message.stats) this.finish();
  }

  listen(on) {
    const copyButton = this.find("[data-do=copy]");
    copyButton.addEventListener("click", () => copyFrom(copyButton, this.message.content));
    this.find("[data-do=again]").addEventListener("click", on.again);
    this.find("[data-do=retry]").addEventListener("click", on.again);
    this.find(".chat-text").addEventListener("click", (event) => {
      const button = event.target.closest("[data-do=copy-code]");
      if (button) copyFrom(button, button.closest(".chat-code").querySelector("code").textContent);
    });
  }

  // Growing

  grow(onShown) {
    if (this.isAsked) return;
    this.isAsked = true;
    const draw = () => {
      this.isAsked = false;
      if (!this.isFinished) this.draw(onShown);
    };
    setTimeout(() => requestAnimationFrame(draw), this.pause ?? 0);
  }

  draw(onShown) {
    const began = performance.now();
    this.find(".chat-wait").hidden = true;
    this.markdown.show(this.message.content);
    onShown();
    this.pause = (performance.now() - began) * (RENDER_SHARE - 1);
  }

  // Before the first word: what is the server doing?
  wait(presence, seconds) {
    this.find(".chat-wait").hidden = false;
    const words = [waitingWords(presence), seconds >= PATIENT_SECONDS ? duration(seconds) : ""];
    this.find(".chat-wait-words").textContent = words.filter(Boolean).join(" · ");
    const bar = this.find(".chat-wait progress");
    bar.hidden = !(presence.status === "loading" && presence.bytes_total > 0);
    if (!bar.hidden) bar.value = (presence.bytes_done / presence.bytes_total) * 100;
  }

  // Ended

  finish() {
    this.isFinished = true;
    this.element.classList.add("chat-has-ended");
    this.find(".chat-wait").hidden = true;
    this.markdown.finish(this.message.content);
    this.find(".chat-stats").textContent = statsWords(this.message.stats);
  }

  fail(words, advice) {
    this.find(".hl-trouble").hidden = false;
    this.find(".chat-error-words").textContent = words;
    this.find(".chat-error-help").textContent = advice.words;
    const link = this.find(".chat-error-link");
    link.hidden = advice.link === null;
    if (advice.link) [link.textContent, link.href] = [advice.link.words, advice.link.href];
  }
}

function waitingWords(presence) {
  if (presence.status === "loading") return `Loading the model: ${loadingWords(presence)}`;
  if (presence.status === "loaded") return "Waiting for the first word";
  return "Asking for the model";
}

// { tokens, isExact, firstSeconds, perSecond, end }: `end` is stop, length, stopped or error.
export function statsWords(stats) {
  const words = [];
  if (stats.tokens) words.push(`${stats.isExact ? "" : "about "}${stats.tokens} ${stats.tokens === 1 ? "token" : "tokens"}`);
  if (stats.perSecond) words.push(`${stats.perSecond.toFixed(1)} tokens/s`);
  if (stats.firstSeconds) words.push(`first after ${stats.firstSeconds.toFixed(1)} s`);
  if (stats.end === "stop" && !stats.firstSeconds) words.push("it ended without a word");
  if (stats.end === "stopped") words.push("stopped");
  if (stats.end === "length") words.push("ended at its limit of tokens");
  return words.join(" · ");
}
