// One question to /v1/chat/completions, and its answer as it comes.
import { createParser } from "../vendor/eventsource-parser-3.1.1/index.js";

// `code` is the server's, or "unreachable", "cut_off".
export class AskError extends Error {
  constructor(message, { code, status = 0 }) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

// Calls `onText` with each piece. Answers { usage, finish }; `usage` is null where the server told none. Raises AskError,
// and an AbortError when `signal` says stop.
export async function ask(body, { signal, onText, url = "/v1/chat/completions" }) {
  const answer = await send(url, body, signal);
  if (!answer.ok) throw await describeRefusal(answer);
  const heard = { usage: null, finish: "", isWhole: false };
  try {
    await hear(answer.body, (data) => take(data, heard, onText));
  } catch (error) {
    throw error instanceof TypeError ? cutOff() : error; // how browsers call a connection that broke
  }
  if (!heard.isWhole) throw cutOff();
  return heard;
}

async function send(url, body, signal) {
  const headers = { "Content-Type": "application/json" };
  try {
    return await fetch(url, { method: "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new AskError("The server does not answer.", { code: "unreachable" });
  }
}

async function describeRefusal(answer) {
  const error = await answer.json().then((content) => content.error, () => null);
  return asError(error, { status: answer.status });
}

function asError(error, { status = 0 } = {}) {
  const message = error?.message ?? `The server refused it with the status ${status}.`;
  return new AskError(message, { code: error?.code ?? "refused", status });
}

const cutOff = () => new AskError("The connection was lost in the middle of the answer.", { code: "cut_off" });

// Bytes may be cut anywhere, also inside of a character.
export async function hear(stream, onData) {
  const parser = createParser({ onEvent: (event) => onData(event.data) });
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) parser.feed(part.value);
  } finally {
    reader.cancel().catch(() => null);
  }
}

function take(data, heard, onText) {
  if (data === "[DONE]") {
    heard.isWhole = true;
    return;
  }
  const event = JSON.parse(data);
  if (event.error) throw asError(event.error);
  heard.usage = event.usage ?? heard.usage;
  const choice = event.choices?.[0];
  heard.finish = choice?.finish_reason ?? heard.finish;
  if (choice?.delta?.content) onText(choice.delta.content);
}
