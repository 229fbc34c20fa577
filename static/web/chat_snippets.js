// The same call from a shell and from Python.

const KEY = "YOUR_KEY";

export function curlOf(body, { origin, needsKey }) {
  const lines = [`curl ${origin}/v1/chat/completions`, `-H "Content-Type: application/json"`];
  if (needsKey) lines.push(`-H "Authorization: Bearer ${KEY}"`);
  if (body.stream) lines[0] = lines[0].replace("curl", "curl -N");
  return [...lines, `-d ${quoteForShell(JSON.stringify(body, null, 2))}`].join(" \\\n  ");
}

function quoteForShell(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

// What OpenAI's client does not know by name goes into its extra_body.
const EXTRA = ["top_k"];

export function pythonOf(body, { origin, needsKey }) {
  const { stream, stream_options: _, ...asked } = body;
  const known = Object.entries(asked).filter(([name]) => !EXTRA.includes(name));
  const extra = Object.fromEntries(Object.entries(asked).filter(([name]) => EXTRA.includes(name)));
  const values = known.map(([name, value]) => `    ${name}=${literal(value, "    ")},`);
  if (Object.keys(extra).length > 0) values.push(`    extra_body=${literal(extra, "    ")},`);
  return [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${literal(`${origin}/v1`)}, api_key=${literal(needsKey ? KEY : "none")})`,
    "answer = client.chat.completions.create(",
    ...values,
    "    stream=True,",
    ")",
    "for chunk in answer:",
    "    if chunk.choices:",
    `        print(chunk.choices[0].delta.content or "", end="", flush=True)`,
  ].join("\n");
}

// JSON's texts and numbers are Python's too.
function literal(value, indent = "") {
  const inner = `${indent}    `;
  if (Array.isArray(value)) {
    return `[\n${value.map((each) => `${inner}${literal(each, inner)},\n`).join("")}${indent}]`;
  }
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each, inner)}`).join(", ")}}`;
}
