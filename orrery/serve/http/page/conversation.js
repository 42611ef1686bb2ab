// Messages one below the other. The view follows a growing reply as long as its end is in sight.

import { grow } from "./composer.js";
import { icon, logo } from "./icons.js";
import { Markdown } from "./markdown.js";
import { edit, regenerate } from "./reply.js";
import { set } from "./store.js";
import { Tokens } from "./tokens.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact-htm.js";

export function Conversation({ state, model }) {
  const view = useRef();
  const follow = useRef(true);
  useLayoutEffect(() => {
    if (follow.current) view.current.scrollTop = view.current.scrollHeight;
  }, [state.messages]);
  const onScroll = ({ target }) => {
    follow.current = target.scrollHeight - target.scrollTop - target.clientHeight < 40;
  };
  return html`<div class="view" ref=${view} onScroll=${onScroll}>
    ${state.messages.length === 0 && html`<${Welcome} model=${model} />`}
    <ol class="messages" aria-label="Conversation" aria-busy=${!!state.busy}>
      ${state.messages.map((m, i) => {
        const live = !!state.busy && i === state.messages.length - 1;
        return html`<li key=${m.id} class=${m.role} aria-label=${m.role === "user" ? "You" : "Model"}>
          ${state.editing === m.id
            ? html`<${Editor} message=${m} />`
            : m.role === "user"
              ? html`<${Question} message=${m} busy=${state.busy} />`
              : html`<${Reply} message=${m} state=${state} live=${live} />`}
        </li>`;
      })}
    </ol>
  </div>`;
}

function Welcome({ model }) {
  if (!model) return null;
  const { chat, layers, heads, context } = model.orrery;
  return html`<div class="welcome">
    ${logo(72)}
    <h2>${model.id}</h2>
    <p class="facts">${layers} layers · ${heads} heads · ${context.toLocaleString("en")} tokens of context</p>
    <p>${chat ? "Ask something." : "A base model: it does not answer, it goes on with your text."}
      ${" "}Then switch on <b>Glass</b> and choose a token to see what the model saw.</p>
  </div>`;
}

function Question({ message, busy }) {
  return html`<div class="bubble">${message.text.trim()}</div>
    <div class="actions">
      <button title="Edit" aria-label="Edit message" disabled=${!!busy} onClick=${() => set({ editing: message.id })}>${icon("edit")}</button>
      <${Copy} text=${message.text} />
    </div>`;
}

function Editor({ message }) {
  const box = useRef();
  useEffect(() => {
    grow(box.current);
    box.current.focus();
    box.current.setSelectionRange(message.text.length, message.text.length);
  }, []);
  const submit = (event) => {
    event.preventDefault();
    if (box.current.value.trim()) edit(message.id, box.current.value);
  };
  return html`<form class="editor" onSubmit=${submit}>
    <textarea ref=${box} aria-label="Edit message" defaultValue=${message.text} onInput=${(e) => grow(e.target)}
      onKeyDown=${(e) => e.key === "Enter" && !e.shiftKey && !e.isComposing && submit(e)}></textarea>
    <div class="row"><button type="button" onClick=${() => set({ editing: null })}>Cancel</button><button class="main">Send</button></div>
  </form>`;
}

function Reply({ message, state, live }) {
  return html`${message.reasoning && html`<details class="reasoning"><summary>Reasoning</summary><${Markdown} text=${message.reasoning} /></details>`}
    ${state.tokens && message.tokens.length
      ? html`<${Tokens} message=${message} chosen=${state.chosen?.message === message.id ? state.chosen.index : null} />`
      : html`<${Markdown} text=${message.text} />`}
    ${live && html`<span class="cursor" aria-hidden="true"></span>`}
    ${message.error && html`<p class="failure" role="alert">${message.error}</p>`}
    ${!live && html`<div class="actions">
      <button title="Another reply" aria-label="Regenerate" disabled=${!!state.busy} onClick=${() => regenerate(message.id)}>${icon("again")}</button>
      <${Copy} text=${message.text} />
      ${message.tokens.length > 0 && html`<button title="Look inside" aria-label="Look inside"
        onClick=${() => set({ tokens: true, panel: "glass", chosen: { message: message.id, index: 0 } })}>${icon("glass")}</button>`}
      <span class="facts">${facts(message)}</span>
    </div>`}`;
}

function Copy({ text }) {
  const [done, setDone] = useState(false);
  if (!navigator.clipboard) return null; // a browser has none on a page without TLS
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button title="Copy" aria-label=${done ? "Copied" : "Copy"} onClick=${copy}>${icon(done ? "done" : "copy")}</button>`;
}

const ENDS = { length: "cut at the limit", stopped: "stopped", content_filter: "filtered" };

function facts({ tokens, usage, timing, sampling, finish }) {
  const cached = usage?.prompt_tokens_details?.cached_tokens;
  return [
    tokens.length && `${tokens.length} tokens`,
    timing?.rate && `${timing.rate.toFixed(timing.rate < 10 ? 1 : 0)}/s`,
    timing && `first after ${timing.first < 1000 ? `${timing.first.toFixed(0)} ms` : `${(timing.first / 1000).toFixed(1)} s`}`,
    cached && `${cached} read from cache`,
    `seed ${sampling.seed}`,
    ENDS[finish],
  ].filter(Boolean).join(" · ");
}
