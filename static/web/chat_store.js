// Chats and settings, in this browser alone. A chat: { id, title, model, at, messages: [{ role, content, stats }] }.

const CHATS = "homelab.chats";
const SETTINGS = "homelab.chat.settings";
export const MOST_CHATS = 50;
const MOST_CHARACTERS = 2_000_000;
const TITLE_CHARACTERS = 60;

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise; // nothing is kept here, or somebody else wrote it
  }
}

// False where the browser keeps nothing, or has no room left.
function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function newChat() {
  const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
  return { id, title: "", model: "", at: Date.now(), messages: [] };
}

// Newest first.
export function listChats() {
  const found = read(CHATS, []);
  return Array.isArray(found) ? found.filter((chat) => chat?.id && Array.isArray(chat.messages)) : [];
}

// The newest chats that fit; the first of them in any case.
export function fit(chats) {
  let characters = 0;
  return chats.slice(0, MOST_CHATS).filter((chat, index) => {
    characters += JSON.stringify(chat).length;
    return index === 0 || characters <= MOST_CHARACTERS;
  });
}

function titleOf(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > TITLE_CHARACTERS ? `${line.slice(0, TITLE_CHARACTERS).trimEnd()}…` : line;
}

// An answer that never began is not kept.
export function keepChat({ messages, ...chat }) {
  const said = messages.filter(({ content }) => content);
  const title = titleOf(said[0]?.content ?? "");
  const chats = fit([{ ...chat, title, messages: said }, ...listChats().filter((other) => other.id !== chat.id)].sort((a, b) => b.at - a.at));
  return write(CHATS, chats) || write(CHATS, chats.slice(0, Math.ceil(chats.length / 2)));
}

export function dropChat(id) {
  write(CHATS, listChats().filter((chat) => chat.id !== id));
}

export const readSettings = () => read(SETTINGS, {});
export const keepSettings = (settings) => write(SETTINGS, settings);
