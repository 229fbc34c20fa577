// Keeps "3 min ago" true while a page is open, and says it in the reader's own time on hover.
import { ago } from "./words.js";

const LOOK_MS = 15_000;

function refresh() {
  if (document.hidden) return;
  document.querySelectorAll("time.hl-when").forEach((place) => {
    const moment = new Date(place.dateTime);
    place.textContent = ago(moment);
    place.title = moment.toLocaleString();
  });
}

setInterval(refresh, LOOK_MS);
document.addEventListener("visibilitychange", refresh);
