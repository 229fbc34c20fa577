// Register New Model: looks ahead while somebody types, and takes over what is proposed for as long as nobody chose
// otherwise by hand.

const LOOK_MS = 600;
const ROOM_MS = 5000;
const CANNOT = "The server does not answer. The form works without it: type a size, and save.";
const NO_PLAN = "This cannot be done any more, or the server does not answer. Close it: what helps is looked at again.";

const place = document.querySelector("#hl-repo-facts");
const asking = document.querySelector("#hl-asking");
const choices = document.querySelector("#id_cache_location");
const name = document.querySelector("#id_model_name");
const dialog = document.querySelector("#hl-dialog");
const fields = ["hf_path", "wanted_revision", "cache_location", "cache_path", "estimated_size_mb"];

let isChosen = place.dataset.chosen === "true";
let proposed = "";
let timer = 0;
let asked = null; // what is asked of the server now

// Asking

function question() {
  const form = new FormData(place.closest("form"));
  return new URLSearchParams(fields.map((field) => [field, form.get(field) ?? ""]));
}

async function look() {
  clearTimeout(timer);
  asked?.abort();
  const mine = (asked = new AbortController());
  asking.hidden = false;
  try {
    const answer = await fetch(`${place.dataset.url}?${question()}`, { signal: mine.signal });
    if (!answer.ok) throw new Error(answer.statusText);
    show(await answer.text());
  } catch (error) {
    if (mine.signal.aborted) return;
    if (!document.hidden) place.textContent = CANNOT;
    lookLater();
  }
  if (asked === mine) asking.hidden = true;
}

function lookSoon() {
  clearTimeout(timer);
  timer = setTimeout(look, LOOK_MS);
}

function lookLater() {
  clearTimeout(timer);
  timer = setTimeout(lookAgain, ROOM_MS);
}

// Of a page that nobody sees neither the Hub nor a drive is asked.
function lookAgain() {
  if (document.hidden) document.addEventListener("visibilitychange", lookAgain, { once: true });
  else look();
}

function show(text) {
  const answer = document.createElement("template");
  answer.innerHTML = text;
  answer.content.querySelectorAll(".hl-after").forEach((bar) => {
    document.getElementById(bar.id)?.replaceWith(bar);
  });
  place.replaceChildren(answer.content);
  htmx.process(place);
  takeOver();
  if (place.querySelector("[data-again]")) lookLater();
}

// Taking over

function choose(location) {
  const button = choices.querySelector(`input[value="${CSS.escape(location)}"]`);
  if (button && !button.checked) button.click();
}

function propose(text) {
  if (!text || (name.value !== "" && name.value !== proposed)) return;
  name.value = proposed = text;
}

function takeOver() {
  const outlook = place.querySelector(".hl-outlook");
  if (!outlook) return;
  propose(outlook.dataset.name);
  if (!isChosen && outlook.dataset.recommended) choose(outlook.dataset.recommended);
}

// Hearing

for (const field of fields) {
  const input = document.querySelector(`input[name="${field}"]:not([type=radio])`);
  input?.addEventListener("input", () => lookSoon());
}

for (const kind of ["click", "change"]) {
  choices.addEventListener(kind, (event) => {
    if (event.isTrusted) isChosen = true;
  });
}

choices.addEventListener("change", () => look());

place.addEventListener("click", (event) => {
  const button = event.target.closest("[data-choose]");
  if (!button) return;
  isChosen = true;
  choose(button.dataset.choose);
});

document.body.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target?.id === "hl-dialog-body" && !dialog.open) dialog.showModal();
});

// A plan that cannot be had says so in its place, instead of nothing.
function explain(event) {
  const body = event.detail.target?.closest("#hl-dialog-body");
  if (!body) return;
  body.textContent = NO_PLAN;
  if (!dialog.open) dialog.showModal();
  look();
}

document.body.addEventListener("htmx:responseError", explain);
document.body.addEventListener("htmx:sendError", explain);
document.body.addEventListener("hl-done", look);
look();
