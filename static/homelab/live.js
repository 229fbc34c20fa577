// Keeps the bars of running jobs up to date, and reloads the page once when one of them ends. Says which models are in
// memory, or how far they are on their way there.
"use strict";

const units = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]];

function bytes(count) {
  const [step, unit] = units.find(([step]) => count >= step) ?? [1, "B"];
  return `${(count / step).toFixed(step > 1 ? 1 : 0)} ${unit}`;
}

// Jobs

function sentence(job) {
  let text = `${job.stage || job.state}: ${bytes(job.bytes_done)} of ${bytes(job.bytes_total)}`;
  if (job.rate_bytes_per_second > 0) text += `, ${bytes(job.rate_bytes_per_second)}/s`;
  if (job.eta_seconds !== null) text += `, ${job.eta_seconds} s left`;
  return text;
}

async function refresh(bar) {
  const answer = await fetch(`/api/jobs/${bar.dataset.job}`, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const job = await answer.json();
  bar.querySelector("progress").value = job.percent;
  bar.querySelector(".hl-job-text").textContent = sentence(job);
  if (!["queued", "running"].includes(job.state)) location.reload();
}

async function watch() {
  const bars = [...document.querySelectorAll('.hl-job[data-open="true"]')];
  if (bars.length === 0) return;
  if (!document.hidden) await Promise.allSettled(bars.map(refresh));
  setTimeout(watch, 1000);
}

watch();

// Memory

function presence(model) {
  if (model.status === "failed") return "failed";
  if (model.status === "unloaded") return model.reason ? `not loaded: ${model.reason}` : "not loaded";
  if (model.status === "loading") return loading(model);
  return [bytes(model.memory_bytes), model.device, doing(model)].filter(Boolean).join(", ");
}

function doing(model) {
  const answers = { 0: "", 1: "answers 1 request" }[model.requests] ?? `answers ${model.requests} requests`;
  if (model.status === "leaving") return answers ? `leaves, ${answers}` : "leaves";
  return answers || "idle";
}

function loading(model) {
  if (model.bytes_total) return `${model.stage}: ${bytes(model.bytes_done)} of ${bytes(model.bytes_total)}`;
  if (model.position) return `${model.stage}, number ${model.position} in line`;
  return model.reason ? `${model.stage}: ${model.reason}` : model.stage;
}

function show(model) {
  document.querySelectorAll(`.hl-presence[data-model="${CSS.escape(model.model)}"]`).forEach((place) => {
    place.textContent = presence(model);
  });
}

let events = null;

// A browser holds few connections to a host: a page that nobody sees gives its own back.
function listen() {
  const places = document.querySelectorAll(".hl-presence");
  if (events !== null || document.hidden || places.length === 0) return;
  events = new EventSource("/api/ps/events");
  events.addEventListener("ps", (event) => {
    places.forEach((place) => show({ model: place.dataset.model, status: "unloaded" }));
    JSON.parse(event.data).forEach(show);
  });
  events.addEventListener("model", (event) => show(JSON.parse(event.data)));
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    events?.close();
    events = null;
  }
  listen();
});

listen();
