// Server-sent events of ours, as JSON, for as long as somebody looks at the page.

const AGAIN_MS = 3_000;

// `on` names a function for each event; `onState` hears "live" and "lost". A lost stream comes back by itself. A browser
// holds few connections to a host: a page that nobody sees gives its own back.
export function listen(url, { on, onState = () => {} }) {
  let source = null;
  let timer = null;

  function open() {
    clearTimeout(timer);
    if (source !== null || document.hidden) return;
    source = new EventSource(url);
    source.addEventListener("open", () => onState("live"));
    source.addEventListener("error", lose);
    for (const [name, take] of Object.entries(on)) {
      source.addEventListener(name, (event) => take(JSON.parse(event.data)));
    }
  }

  function close() {
    source?.close();
    source = null;
  }

  // The browser tries again by itself after a cut, but not after a refusal.
  function lose() {
    onState("lost");
    if (source.readyState !== EventSource.CLOSED) return;
    close();
    timer = setTimeout(open, AGAIN_MS);
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  open();
}
