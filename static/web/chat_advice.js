// What to do about an error of an answer: a sentence, perhaps a page, and whether trying again begins with a load.

const NOTHING = { words: "" };
const PAGE_OF_MODEL = { words: "The page of the model may say more.", link: ["Models", "models"] };

const ADVICE = {
  unreachable: { words: "Is it still running, and is this device still in its network?" },
  cut_off: { words: "What came so far is kept." },
  refused: NOTHING,
  overloaded: { words: "Wait a moment, then try again." },
  too_many_requests: { words: "Wait a moment, then try again." },
  insufficient_memory: { words: "Unload another model, or give this one a shorter context.", link: ["Models", "models"] },
  model_failed: { words: "Trying again loads it anew.", loads: true },
  model_not_downloaded: { words: "Download it first.", link: ["Models", "models"] },
  model_not_found: { words: "It was removed or renamed: choose another one above." },
  hash_mismatch: { words: "Repair it on its page.", link: ["Models", "models"] },
  context_length_exceeded: { words: "Begin a new chat, or shorten what you sent." },
  no_chat_template: { words: "Choose a model that was made for chats." },
  body_too_large: { words: "Begin a new chat, or shorten what you sent." },
  invalid_value: NOTHING,
  chat_template_error: NOTHING,
  not_authenticated: { words: "", link: ["Sign in", "login"] },
  protected_mode: { words: "", link: ["Sign in", "login"] },
};

// `links` has the addresses of pages by name.
export function adviceFor(error, links) {
  const { words, link, loads = false } = ADVICE[error.code] ?? (error.status === 401 ? ADVICE.protected_mode : PAGE_OF_MODEL);
  return { words, loads, link: link ? { words: link[0], href: links[link[1]] } : null };
}

// A 401 lists every way in, for programs too: a person needs one of them.
export function sentenceOf(error) {
  return error.status === 401 ? "You are not signed in any more." : error.message;
}
