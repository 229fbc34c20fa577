// System prompt and sampling: a form whose empty fields are left to the model.
import { keepSettings, readSettings } from "./chat_store.js";

const form = document.getElementById("chat-settings-form");
const fields = [...form.elements].filter((field) => field.name);

export function openSettings({ mostStops, onChange }) {
  const kept = readSettings();
  for (const field of fields) field.value = kept[field.name] ?? "";
  const note = () => {
    check(mostStops);
    keepSettings({ ...readSettings(), ...Object.fromEntries(fields.map((field) => [field.name, field.value])) });
    onChange();
  };
  form.addEventListener("input", note);
  form.addEventListener("reset", () => setTimeout(note));
  form.addEventListener("submit", (event) => event.preventDefault());
  check(mostStops);
}

function check(mostStops) {
  const stops = form.elements.stop;
  stops.setCustomValidity(stopsOf(stops.value).length > mostStops ? `${mostStops} texts are the most.` : "");
  for (const field of fields) {
    const place = field.closest("label").querySelector(".chat-said");
    if (place && place.textContent !== field.validationMessage) place.textContent = field.validationMessage;
    field.setAttribute("aria-invalid", String(!field.checkValidity()));
  }
}

const stopsOf = (text) => text.split("\n").filter(Boolean);

// A sentence about the first field that is wrong, or "".
export function findProblem() {
  const wrong = fields.find((field) => !field.checkValidity());
  return wrong ? `${wrong.closest("label").firstChild.textContent.trim()}: ${wrong.validationMessage}` : "";
}

// As fields of a request, without what is empty; the system prompt is a message.
export function readAsked() {
  const numbers = fields.filter((field) => field.type === "number" && field.value !== "" && field.checkValidity());
  const asked = Object.fromEntries(numbers.map((field) => [field.name, field.valueAsNumber]));
  const stops = stopsOf(form.elements.stop.value);
  return { system: form.elements.system.value.trim(), fields: stops.length > 0 ? { ...asked, stop: stops } : asked };
}
