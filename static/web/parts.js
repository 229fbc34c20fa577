// Parts of a page that htmx brings: what was open in them stays open, and what goes wrong is said beside them.

const AWAY = "The server does not answer. These are its last figures; it is asked again.";
const REFUSED = {
  401: "You are signed out. Reload the page and sign in.",
  403: "The server refused it. Reload the page; an account that may only look has no buttons there.",
};

let isTrouble = false;

function say(words, { trouble = false } = {}) {
  const place = document.getElementById("said");
  if (!place) return;
  place.textContent = words;
  place.classList.toggle("hl-said-trouble", trouble);
  isTrouble = trouble;
}

function words(status) {
  return REFUSED[status] ?? `The server answered with an error (${status}). Its log has the details.`;
}

// A button that is pressed is disabled meanwhile, or gone afterwards: who uses the keyboard goes on from where it was.
let pressed = null;
let asked = null; // by that button

function giveFocusBack() {
  const place = pressed?.isConnected ? pressed : document.getElementById("said");
  if (pressed === null || document.activeElement !== document.body || !place) return;
  if (place !== pressed) place.tabIndex = -1;
  place.focus({ preventScroll: true });
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const busy = event.detail.elt.dataset.busy;
  if (!busy) return;
  [pressed, asked] = [document.activeElement, event.detail.xhr];
  say(busy);
});

document.addEventListener("htmx:sendError", () => say(AWAY, { trouble: true }));
document.addEventListener("htmx:timeout", () => say(AWAY, { trouble: true }));
document.addEventListener("htmx:responseError", (event) => say(words(event.detail.xhr.status), { trouble: true }));

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && isTrouble) say("");
  if (event.detail.xhr === asked) giveFocusBack();
});

// A part that comes changes what is different, and leaves the rest: a button that is being pressed, the focus, and what
// somebody has opened.
const morphing = {
  morphStyle: "innerHTML",
  callbacks: { beforeAttributeUpdated: (name, node) => !(name === "open" && node.localName === "details") },
};

window.htmx.defineExtension("morph", {
  isInlineSwap: () => false,
  handleSwap: (style, target, part) => style === "morph" && window.Idiomorph.morph(target, part.children, morphing),
});
