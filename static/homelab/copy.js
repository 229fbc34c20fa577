// Copies a text. Browsers give the clipboard only to encrypted pages and to this machine: others get the old way.
export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copyBySelection(text);
    }
  }
  return copyBySelection(text);
}

function copyBySelection(text) {
  const place = document.createElement("textarea");
  place.value = text;
  place.className = "hl-offstage";
  const focused = document.activeElement;
  (focused?.closest("[popover]") ?? document.body).append(place);
  place.select();
  const isCopied = document.execCommand("copy");
  place.remove();
  focused?.focus();
  return isCopied;
}

// Copies, and says on the button what came of it.
export async function copyFrom(button, text) {
  const label = button.querySelector(".hl-label") ?? button;
  const words = label.dataset.words ?? (label.dataset.words = label.textContent);
  label.textContent = (await copy(text)) ? "Copied" : "Not copied";
  setTimeout(() => (label.textContent = words), 2_000);
}
