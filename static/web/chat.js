// The Chat page: what is said, and who does what about it.
import { copyFrom } from "../homelab/copy.js";
import { adviceFor, sentenceOf } from "./chat_advice.js";
import { AnswerView, isSending, QuestionView } from "./chat_messages.js";
import { Models } from "./chat_models.js";
import { openPast } from "./chat_past.js";
import { messagesFor, Run } from "./chat_run.js";
import { findProblem, openSettings, readAsked } from "./chat_settings.js";
import { curlOf, pythonOf } from "./chat_snippets.js";
import { keepChat, keepSettings, listChats, MOST_CHATS, newChat, readSettings } from "./chat_store.js";

const LOOK_MS = 1_000;
const NEAR_END_PIXELS = 96;
const byId = (id) => document.getElementById(id);
const facts = JSON.parse(byId("chat-facts").textContent);
const [page, log, field, composer] = ["chat", "chat-log", "chat-text", "chat-composer"].map(byId);

let chat = newChat();
let run = null; // the answer that is on its way, with its view
let isAtEnd = true;

const models = new Models(facts.models, {
  onChange: show,
  onChoose: (model) => keepSettings({ ...readSettings(), model }),
});

// What is on the page

function show() {
  const isEmpty = chat.messages.length === 0;
  byId("chat-none").hidden = !isEmpty || models.name !== "";
  byId("chat-blank").hidden = !isEmpty || models.name === "";
  byId("chat-send").hidden = run !== null;
  byId("chat-stop").hidden = run === null;
  byId("chat-send").disabled = models.name === "";
  page.classList.toggle("chat-is-running", run !== null);
  if (run !== null && run.firstAt === null) run.view.wait(models.presence, run.seconds);
  if (byId("chat-program").matches(":popover-open")) showProgram();
}

function say(words) {
  byId("chat-said").textContent = words;
  byId("chat-said").hidden = words === "";
}

function keep() {
  if (chat.messages.length === 0) return;
  chat.at = Date.now();
  const isKept = keepChat(chat);
  byId("chat-kept").hidden = !isKept;
  byId("chat-unkept").hidden = isKept;
  history.replaceState(null, "", `#${chat.id}`);
}

function followEnd() {
  if (isAtEnd) scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
}

function noteScroll() {
  const { scrollHeight, clientHeight } = document.documentElement;
  isAtEnd = scrollHeight - scrollY - clientHeight < NEAR_END_PIXELS;
  byId("chat-down").hidden = isAtEnd;
}

function addQuestion(message) {
  log.append(new QuestionView(message, { on: { resend } }).element);
}

function addAnswer(message) {
  const view = new AnswerView(message, { on: { again }, onSettled: speak });
  log.append(view.element);
  return view;
}

// For who cannot see it: whole paragraphs, of an answer that is on its way.
function speak(words) {
  if (run === null) return;
  const line = document.createElement("p");
  line.textContent = words;
  byId("chat-spoken").append(line);
}

// Asking

function bodyFor(messages) {
  const { system, fields } = readAsked();
  const streaming = { stream: true, stream_options: { include_usage: true } };
  return { model: models.name, messages: messagesFor(system, messages), ...fields, ...streaming };
}

async function answer({ isLoadedFirst = false } = {}) {
  const message = { role: "assistant", model: models.name, content: "", stats: null };
  const now = new Run(bodyFor(chat.messages));
  byId("chat-spoken").replaceChildren();
  chat.model = models.name;
  chat.messages.push(message);
  now.view = addAnswer(message);
  run = now;
  isAtEnd = true;
  show();
  followEnd();
  const look = setInterval(show, LOOK_MS);
  if (isLoadedFirst) await load(now);
  const { stats, error } = await now.go({ onText: (text) => grow(now, message, text) });
  clearInterval(look);
  message.stats ??= stats;
  if (run === now) end(error);
}

// A model that failed too often gets a new chance when somebody loads it by hand. How that went, the answer says.
async function load({ body, controller }) {
  const headers = { "X-CSRFToken": composer.elements.csrfmiddlewaretoken.value };
  const url = `/api/models/${encodeURIComponent(body.model)}/load`;
  await fetch(url, { method: "POST", headers, signal: controller.signal }).catch(() => null);
}

function grow(now, message, text) {
  message.content += text;
  now.view.grow(followEnd);
}

function end(error) {
  const { view } = run;
  view.finish();
  run = null;
  if (error) showError(view, error);
  show();
  followEnd();
  keep();
}

function showError(view, error) {
  const advice = adviceFor(error, facts.links);
  view.fail(sentenceOf(error), advice);
  view.message.isLoadedFirst = advice.loads;
}

// Of an answer that nobody looks at any more, what came so far stays in its chat.
function leave() {
  if (run === null) return;
  run.stop();
  run.view.message.stats = run.count(null, "stopped");
  run = null;
  keep();
}

function stop() {
  run?.stop();
  focusField();
}

// Sends what was typed, unless something speaks against it.
function send() {
  const content = field.value.trim();
  const problem = findProblem();
  say(problem && `The settings have something wrong. ${problem}`);
  if (!content || problem || run !== null || models.name === "") return;
  field.value = "";
  fitField();
  ask(content);
}

function ask(content) {
  const message = { role: "user", content };
  chat.messages.push(message);
  addQuestion(message);
  keep();
  answer();
}

// Takes a question and all after it back, also an answer that is on its way, and asks something else.
function resend(content, question) {
  leave();
  forgetFrom([...log.children].indexOf(question));
  ask(content.trim());
  focusField();
}

function again() {
  const at = chat.messages.length - 1;
  const { isLoadedFirst } = chat.messages[at];
  forgetFrom(at);
  answer({ isLoadedFirst });
  focusField();
}

function forgetFrom(at) {
  chat.messages.splice(at);
  [...log.children].slice(at).forEach((element) => element.remove());
}

// Chats

function open(other) {
  leave();
  chat = listChats().find(({ id }) => id === other.id) ?? other; // what was kept just now is newer
  log.replaceChildren();
  for (const message of chat.messages) {
    if (message.role === "user") addQuestion(message);
    else addAnswer(Object.assign(message, { stats: message.stats ?? { end: "stopped" } }));
  }
  history.replaceState(null, "", chat.messages.length > 0 ? `#${chat.id}` : location.pathname);
  isAtEnd = true;
  models.choose(chat.model || models.name);
  followEnd();
  focusField();
}

// The same from a program

function showProgram() {
  const asked = chat.messages.filter(({ role }, index) => role === "user" || index < chat.messages.length - 1);
  const draft = field.value.trim();
  const messages = draft || asked.length === 0 ? [...asked, { role: "user", content: draft || "Hello!" }] : asked;
  const from = { origin: location.origin, needsKey: facts.needsKey };
  const body = bodyFor(messages);
  byId("chat-curl").textContent = curlOf(body, from);
  byId("chat-python").textContent = pythonOf(body, from);
}

// The composer

// On a phone it would bring the keyboard up.
function focusField() {
  if (matchMedia("(pointer: fine)").matches) field.focus();
}

function fitField() {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
field.addEventListener("input", () => {
  fitField();
  say("");
});
field.addEventListener("keydown", (event) => isSending(event) && send());
byId("chat-stop").addEventListener("click", stop);
byId("chat-new").addEventListener("click", () => open(newChat()));
byId("chat-program").addEventListener("toggle", show);
byId("chat-down").addEventListener("click", () => {
  isAtEnd = true;
  followEnd();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && run !== null && !document.querySelector("[popover]:popover-open")) stop();
});
document.addEventListener("scroll", noteScroll, { passive: true });
new ResizeObserver(followEnd).observe(log);
document.addEventListener("visibilitychange", () => document.hidden && run !== null && keep());
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copyFrom(button, byId(button.dataset.copies).textContent));
}

// The beginning

byId("chat-most").textContent = MOST_CHATS;
openSettings({ mostStops: facts.mostStops, onChange: () => say("") });
byId("chat-settings-form").addEventListener("input", show);
openPast({ onOpen: open, onDrop: ({ id }) => id === chat.id && open(newChat()) });
models.start(new URLSearchParams(location.search).get("model") ?? readSettings().model);
const remembered = listChats().find(({ id }) => `#${id}` === location.hash);
if (remembered) open(remembered);
focusField();
