// Keeps the page as the server would show it now: when a job changes, its part of the page is rendered anew and blended
// in, so that what is open, focused or selected stays so.
import { listen } from "../homelab/events.js";

const PAUSE_MS = 400;
const AGAIN_MS = 3_000;
const OPEN = ["queued", "running"];
const place = document.getElementById("jobs");
const lost = document.getElementById("jobs-lost");

function address(path, part) {
  const query = new URLSearchParams(place.dataset.query);
  query.set("part", part);
  return `${path}?${query}`;
}

// Blending in

const callbacks = { beforeAttributeUpdated: (name, element) => !(name === "open" && element.matches("details")) };

function blend(html) {
  const news = new DOMParser().parseFromString(html, "text/html");
  for (const part of news.querySelectorAll("body > [id]")) {
    Idiomorph.morph(document.getElementById(part.id), part, { ignoreActiveValue: true, callbacks });
  }
}

async function take(answer) {
  if (answer.status === 401 || answer.status === 403) location.reload(); // not signed in any more
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  blend(await answer.text());
}

// When something changes: soon, and once for all that changed meanwhile

let wanted = "";
let timer = 0;
let isBusy = false;

function want(part, { after = PAUSE_MS } = {}) {
  wanted = part === "all" ? part : wanted || part;
  if (!isBusy && !timer) timer = setTimeout(refresh, after);
}

async function refresh() {
  const part = wanted;
  [wanted, timer, isBusy] = ["", 0, true];
  try {
    await take(await fetch(address("/jobs", part)));
    isBusy = false;
    if (wanted) want(wanted);
  } catch {
    isBusy = false;
    if (!document.hidden) want("all", { after: AGAIN_MS }); // a hidden page asks when it is seen again
  }
}

listen("/api/jobs/events", {
  on: { job: (job) => want(OPEN.includes(job.state) ? "open" : "all") },
  onState(state) {
    lost.hidden = state === "live";
    want("all"); // where the stream was refused, it hears why
  },
});

// Buttons

const MESSAGE_MS = 10_000;
const messages = document.getElementById("job-messages");
let clearing = 0;

document.addEventListener("submit", async (event) => {
  if (!event.target.matches(".job form")) return;
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button");
  const card = form.closest(".job").id;
  if (button.hasAttribute("aria-busy")) return;
  button.setAttribute("aria-busy", "true");
  try {
    await take(await fetch(address(new URL(form.action).pathname, "all"), { method: "POST", body: new FormData(form) }));
    clearTimeout(clearing);
    clearing = setTimeout(() => messages.replaceChildren(), MESSAGE_MS);
  } catch {
    lost.hidden = false;
  }
  button.removeAttribute("aria-busy");
  if (document.activeElement === document.body) document.getElementById(card)?.querySelector("summary").focus();
});
