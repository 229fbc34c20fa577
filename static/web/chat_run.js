// One answer on its way: the request, the clock, and what came of it.
import { ask } from "./chat_api.js";

export class Run {
  constructor(body) {
    this.body = body;
    this.controller = new AbortController();
    this.beganAt = performance.now();
    this.firstAt = null;
    this.lastAt = null;
    this.pieces = 0;
  }

  get seconds() {
    return (performance.now() - this.beganAt) / 1000;
  }

  stop() {
    this.controller.abort();
  }

  // Calls `onText` with each piece. Answers { stats, error }; what somebody stopped is no error.
  async go({ onText }) {
    const note = (text) => {
      this.lastAt = performance.now();
      this.firstAt ??= this.lastAt;
      this.pieces += 1;
      onText(text);
    };
    try {
      const { usage, finish } = await ask(this.body, { signal: this.controller.signal, onText: note });
      return { stats: this.count(usage, finish === "length" ? "length" : "stop"), error: null };
    } catch (error) {
      if (this.controller.signal.aborted) return { stats: this.count(null, "stopped"), error: null };
      return { stats: this.count(null, "error"), error };
    } finally {
      this.controller.abort(); // whatever went wrong, the server need not go on
    }
  }

  // Without the server's count: about one token came in each piece.
  count(usage, end) {
    const tokens = usage?.completion_tokens ?? this.pieces;
    const writing = this.firstAt === null ? 0 : (this.lastAt - this.firstAt) / 1000;
    return {
      end,
      tokens,
      isExact: Boolean(usage),
      firstSeconds: this.firstAt === null ? null : (this.firstAt - this.beganAt) / 1000,
      perSecond: tokens > 1 && writing > 0 ? (tokens - 1) / writing : null,
    };
  }
}

// The messages of a request: questions that nobody answered become one, because many chat templates want turns.
export function messagesFor(system, messages) {
  const said = messages.filter(({ content }) => content).map(({ role, content }) => ({ role, content }));
  const turns = said.reduce((turns, message) => {
    const last = turns.at(-1);
    if (last?.role !== message.role) return [...turns, message];
    return [...turns.slice(0, -1), { ...last, content: `${last.content}\n\n${message.content}` }];
  }, []);
  return system ? [{ role: "system", content: system }, ...turns] : turns;
}
