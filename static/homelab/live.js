// Keeps the bars of running jobs up to date, and reloads the page once when one of them ends.
"use strict";

const units = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]];

function bytes(count) {
  const [step, unit] = units.find(([step]) => count >= step) ?? [1, "B"];
  return `${(count / step).toFixed(step > 1 ? 1 : 0)} ${unit}`;
}

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
