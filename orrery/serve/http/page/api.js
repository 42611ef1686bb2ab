// The server's API: JSON answers, and server-sent events over fetch (EventSource can neither POST nor send a key).

import { get } from "./store.js";

const ROOT = new URL("..", import.meta.url); // this file is served as /page/api.js

export class ApiError extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function request(path, { body, signal } = {}) {
  const headers = body ? { "content-type": "application/json" } : {};
  if (get().key) headers.authorization = `Bearer ${get().key}`;
  const answer = await fetch(new URL(path, ROOT), { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  const message = said?.error?.message ?? `The server answered ${answer.status} ${answer.statusText}`;
  throw new ApiError(answer.status, message, answer.headers.get("retry-after"));
}

export const models = async () => (await (await request("v1/models")).json()).data;

export const complete = async (body, signal) => (await request("v1/completions", { body, signal })).json();

/** [{id, text, bytes}] of ids. */
export const spell = async (ids, signal) => (await (await request("detokenize", { body: { ids }, signal })).json()).tokens;

/** The objects of a streamed answer, one by one. */
export async function* stream(path, body, signal) {
  const answer = await request(path, { body: { ...body, stream: true, stream_options: { include_usage: true } }, signal });
  for await (const data of events(answer.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.code, chunk.error.message);
    yield chunk;
  }
}

/** The data of each event in a stream of bytes: events end with an empty line, their data may span lines. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split(/\r\n|\n/);
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
      if (line === "" && data.length) {
        yield data.join("\n");
        data = [];
      }
    }
    if (done) return;
  }
}
