// The Settings page: a model in a list and its piece of the bar light up together, and the report goes to the clipboard.

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

// Over http:// a browser lends its clipboard on the machine itself alone: elsewhere the text is shown, and chosen.
async function copy() {
  said.textContent = "Gathering…";
  const answer = await fetch(button.dataset.source);
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  place.value = await answer.text();
  try {
    await navigator.clipboard.writeText(place.value);
    said.textContent = "Copied.";
  } catch {
    place.parentElement.hidden = false;
    place.focus();
    place.select();
    said.textContent = "This browser does not lend its clipboard here: copy the text below.";
  }
}

button.hidden = false;
button.addEventListener("click", () => {
  copy().catch((error) => {
    said.textContent = `It cannot be copied: ${error.message}`;
  });
});
