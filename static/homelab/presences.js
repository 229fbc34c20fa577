// Which models are in memory, or how far they are on their way there: what is known of each, and the words for it.
import { listen } from "./events.js";
import { bytes } from "./words.js";

// Calls `changed` after each change, with a function from a model's name to what /api/ps tells of it.
export function watchPresences(changed, onState) {
  const known = new Map();
  const presenceOf = (name) => known.get(name) ?? { model: name, status: "unloaded" };
  const note = (presence) => known.set(presence.model, presence);
  const on = {
    ps(all) {
      known.clear();
      all.forEach(note);
      changed(presenceOf);
    },
    model(presence) {
      note(presence);
      changed(presenceOf);
    },
  };
  listen("/api/ps/events", { on, onState });
}

export function presenceWords(presence) {
  if (presence.status === "failed") return "failed";
  if (presence.status === "unloaded") return presence.reason ? `not loaded: ${presence.reason}` : "not loaded";
  if (presence.status === "loading") return loadingWords(presence);
  return [bytes(presence.memory_bytes), presence.device, doing(presence)].filter(Boolean).join(", ");
}

export function loadingWords(presence) {
  if (presence.bytes_total) return `${presence.stage}: ${bytes(presence.bytes_done)} of ${bytes(presence.bytes_total)}`;
  if (presence.position) return `${presence.stage}, number ${presence.position} in line`;
  return presence.reason ? `${presence.stage}: ${presence.reason}` : presence.stage;
}

function doing(presence) {
  const answers = { 0: "", 1: "answers 1 request" }[presence.requests] ?? `answers ${presence.requests} requests`;
  if (presence.status === "leaving") return answers ? `leaves, ${answers}` : "leaves";
  return answers || "idle";
}
