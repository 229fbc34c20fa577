// The Settings page: a model in a list and its piece of the bar light up together, and the report goes to the clipboard.
import { copy } from "../homelab/copy.js";

function light(event) {
  const key = event.target.closest?.("[data-piece]")?.dataset.piece;
  document.querySelectorAll("[data-piece]").forEach((each) => {
    each.classList.toggle("hl-lit", each.dataset.piece === key);
  });
}

["pointerover", "focusin"].forEach((name) => document.addEventListener(name, light));

const button = document.getElementById("copy");
const place = document.getElementById("report");
const said = document.getElementById("copied");

// Where a browser does not copy, the text is shown, and chosen.
async function copyReport() {
  said.textContent = "Gathering…";
  const answer = await fetch(button.dataset.source);
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  place.value = await answer.text();
  const isCopied = await copy(place.value);
  said.textContent = isCopied ? "Copied." : "This browser does not lend its clipboard here: copy the text below.";
  if (isCopied) return;
  place.parentElement.hidden = false;
  place.focus();
  place.select();
}

button.hidden = false;
button.addEventListener("click", () => {
  copyReport().catch((error) => {
    said.textContent = `It cannot be copied: ${error.message}`;
  });
});
