// Keeps the bars of running jobs up to date, and reloads the page once when one of them ends, unless somebody has typed or
// ticked something on it. Says which models are in memory, or how far they are on their way there.
import { listen } from "./events.js";
import { presenceWords, watchPresences } from "./presences.js";

// Jobs

const bars = new Map([...document.querySelectorAll('.hl-job[data-open="true"]')].map((bar) => [bar.dataset.job, bar]));

let isEdited = false;
document.addEventListener("input", () => (isEdited = true));

function show(job) {
  const bar = bars.get(String(job.id));
  if (!bar) return;
  bar.querySelector("progress").value = job.percent;
  bar.querySelector(".hl-job-text").textContent = job.summary;
  if (!["queued", "running"].includes(job.state) && !isEdited) location.reload();
}

// The stream tells nothing of a job that ended before it began.
async function look(id) {
  const answer = await fetch(`/api/jobs/${id}`, { headers: { Accept: "application/json" } });
  if (answer.ok) show(await answer.json());
}

if (bars.size > 0) {
  const onState = (state) => state === "live" && Promise.allSettled([...bars.keys()].map(look));
  listen("/api/jobs/events", { on: { job: show }, onState });
}

// Memory

const places = document.querySelectorAll(".hl-presence");
const acts = document.querySelectorAll(".hl-acts[data-model]");

if (places.length > 0) {
  watchPresences((presenceOf) => {
    places.forEach((place) => (place.textContent = presenceWords(presenceOf(place.dataset.model))));
    // What is in memory can leave it, what is not can come: a style sheet shows the button for it.
    acts.forEach((buttons) => (buttons.dataset.presence = presenceOf(buttons.dataset.model).status));
  });
}
