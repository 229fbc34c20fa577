// Register New Model: takes over what the outlook proposes, for as long as nobody chose otherwise by hand.

const place = document.querySelector("#hl-repo-facts");
const choices = document.querySelector("#id_cache_location");
const name = document.querySelector("#id_model_name");
const dialog = document.querySelector("#hl-dialog");
const CANNOT = "The server does not answer. The form works without it: type a size, and save.";

let isChosen = place.dataset.chosen === "true";
let proposed = "";

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

choices.addEventListener("change", (event) => {
  if (event.isTrusted) isChosen = true;
});

place.addEventListener("click", (event) => {
  const button = event.target.closest("[data-choose]");
  if (!button) return;
  isChosen = true;
  choose(button.dataset.choose);
});

document.body.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target?.id === "hl-repo-facts") takeOver();
  if (event.detail.target?.id === "hl-dialog-body" && !dialog.open) dialog.showModal();
});

for (const trouble of ["htmx:responseError", "htmx:sendError"]) {
  place.addEventListener(trouble, () => {
    place.textContent = CANNOT;
  });
}
