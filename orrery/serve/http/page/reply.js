// The conversation: what is sent, and how a streamed reply becomes a message.

import { ApiError, stream } from "./api.js";
import { read } from "./chunks.js";
import { get, set, setMessage } from "./store.js";

/** The entry of /v1/models that replies. */
export const currentModel = () => get().models.find((m) => m.id === get().model) ?? get().models[0];

const newId = () => crypto.getRandomValues(new Uint32Array(1))[0].toString(36) + Date.now().toString(36);

/** Sampling fields of a request. A reply always has a seed, so that it can be made again. */
function sampling(settings) {
  const stop = settings.stop.split("\n").filter(Boolean);
  return {
    temperature: settings.temperature,
    top_p: settings.top_p,
    top_k: settings.top_k,
    min_p: settings.min_p,
    max_tokens: settings.max_tokens,
    seed: settings.seed === "" ? crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000 : Number(settings.seed),
    ...(stop.length ? { stop } : {}),
  };
}

/** Path and body for the conversation so far: messages for a chat model, one running text for a base model. */
function bodyFor(model, messages, settings, how) {
  const common = { model: model.id, ...how, orrery: {} };
  if (!model.orrery.chat) {
    return { path: "v1/completions", body: { ...common, prompt: messages.map((m) => m.text).join(""), logprobs: 0 } };
  }
  const system = settings.system ? [{ role: "system", content: settings.system }] : [];
  const turns = messages.map((m) => ({ role: m.role, content: m.text }));
  return { path: "v1/chat/completions", body: { ...common, messages: [...system, ...turns], logprobs: true } };
}

export function send(text) {
  const message = { id: newId(), role: "user", text };
  set({ messages: [...get().messages, message], editing: null });
  return answer();
}

/** The message `id` with another text; what came after it is gone. */
export function edit(id, text) {
  const at = get().messages.findIndex((m) => m.id === id);
  set({ messages: get().messages.slice(0, at) });
  return send(text);
}

/** The reply `id` once more; what came after it is gone. */
export function regenerate(id) {
  const at = get().messages.findIndex((m) => m.id === id);
  set({ messages: get().messages.slice(0, at) });
  return answer();
}

export const stop = () => get().busy?.abort();

export function clear() {
  stop();
  const panel = get().panel === "glass" ? null : get().panel;
  set({ messages: [], chosen: null, editing: null, panel });
}

async function answer() {
  stop();
  const { settings, messages } = get();
  const model = currentModel();
  const how = sampling(settings);
  const reply = { id: newId(), role: "assistant", text: "", reasoning: "", tokens: [], prompt: null, model: model.id, sampling: how };
  const busy = new AbortController();
  set({ messages: [...messages, reply], busy, chosen: null, notice: "The model is replying." });
  const started = performance.now();
  let first = 0;
  const patch = (change) => setMessage(reply.id, change);
  try {
    const { path, body } = bodyFor(model, messages, settings, how);
    for await (const chunk of stream(path, body, busy.signal)) {
      if (chunk.usage) patch({ usage: chunk.usage });
      if (!chunk.choices?.length) continue;
      const said = read(chunk);
      if (said.text || said.tokens.length) first ||= performance.now();
      patch((m) => ({
        text: m.text + said.text,
        reasoning: m.reasoning + said.reasoning,
        tokens: said.tokens.length ? [...m.tokens, ...said.tokens.map(({ id, text, logprob }) => ({ id, text, logprob }))] : m.tokens,
        prompt: m.prompt ?? said.prompt,
        finish: said.finish ?? m.finish,
      }));
    }
    set({ notice: "The reply is complete." });
  } catch (error) {
    if (busy.signal.aborted) patch({ finish: "stopped" });
    else patch({ error: explain(error) });
    set({ notice: busy.signal.aborted ? "Stopped." : "The reply failed." });
  } finally {
    patch((m) => ({ timing: timing(m, started, first) }));
    if (get().busy === busy) set({ busy: null });
  }
}

/** Milliseconds to the first token, and tokens a second from there on. */
function timing(message, started, first) {
  if (!first) return null;
  const rest = message.tokens.length - 1;
  return { first: first - started, rate: rest > 0 ? (1000 * rest) / (performance.now() - first) : 0 };
}

export function explain(error) {
  if (!(error instanceof ApiError)) return `The server cannot be reached (${error.message}).`;
  if (error.status === 401) return `${error.message} Enter the key under Settings.`;
  if (error.status === 429 && error.retryAfter) return `${error.message} Try again in ${error.retryAfter} s.`;
  return error.message;
}
