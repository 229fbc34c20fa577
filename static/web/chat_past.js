// The list of past chats: open one, delete one, and take the deletion back.
import { ago } from "../homelab/words.js";
import { dropChat, keepChat, listChats } from "./chat_store.js";

const byId = (id) => document.getElementById(id);

export function openPast({ onOpen, onDrop }) {
  const panel = byId("chat-past");
  const undo = byId("chat-undo");
  let dropped = null;

  function makeItem(chat) {
    const item = byId("chat-past-item").content.firstElementChild.cloneNode(true);
    item.querySelector("strong").textContent = chat.title || "Without words";
    item.querySelector(".hl-note").textContent = [chat.model, ago(new Date(chat.at))].filter(Boolean).join(" · ");
    item.querySelector("[data-do=open]").addEventListener("click", () => {
      panel.hidePopover();
      onOpen(chat);
    });
    item.querySelector("[data-do=drop]").addEventListener("click", () => drop(chat));
    return item;
  }

  function show() {
    const chats = listChats();
    byId("chat-past-list").replaceChildren(...chats.map(makeItem));
    byId("chat-past-none").hidden = chats.length > 0;
    undo.hidden = dropped === null;
    if (dropped) undo.querySelector("span").textContent = `“${dropped.title}” is deleted.`;
  }

  function drop(chat) {
    onDrop(chat);
    dropped = listChats().find(({ id }) => id === chat.id) ?? chat;
    dropChat(chat.id);
    show();
    undo.querySelector("button").focus();
  }

  undo.querySelector("button").addEventListener("click", () => {
    keepChat(dropped);
    dropped = null;
    show();
  });
  panel.addEventListener("toggle", (event) => {
    if (event.newState === "closed") dropped = null;
    show();
  });
  window.addEventListener("storage", () => panel.matches(":popover-open") && show());
}
