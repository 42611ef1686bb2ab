// The box at the bottom: Enter sends, Shift+Enter begins a line, Esc stops (app.js), ↑ in an empty box edits the last message.

import { icon } from "./icons.js";
import { send, stop } from "./reply.js";
import { get, set } from "./store.js";
import { html, useEffect, useRef } from "./vendor/preact-htm.js";

/** As high as its text, up to what the style sheet allows. */
export function grow(box) {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

export function Composer({ state, model }) {
  const box = useRef();
  useEffect(() => box.current.focus({ preventScroll: true }), []);

  function submit(event) {
    event?.preventDefault();
    const text = box.current.value;
    if (!text.trim() || !model || state.busy) return;
    box.current.value = "";
    grow(box.current);
    send(text);
  }

  function onKeyDown(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) submit(event);
    const last = get().messages.findLast((m) => m.role === "user");
    if (event.key === "ArrowUp" && !box.current.value && last && !state.busy) {
      event.preventDefault();
      set({ editing: last.id });
    }
  }

  const base = model && !model.orrery.chat;
  return html`<form class="composer" onSubmit=${submit}>
    <textarea ref=${box} rows="1" aria-label=${base ? "Text to continue" : "Message"}
      placeholder=${base ? "Write the beginning of a text" : "Write a message"}
      onInput=${(e) => grow(e.target)} onKeyDown=${onKeyDown}></textarea>
    ${state.busy
      ? html`<button type="button" class="main" title="Stop (Esc)" aria-label="Stop" onClick=${stop}>${icon("stop")}</button>`
      : html`<button class="main" title="Send (Enter)" aria-label="Send" disabled=${!model}>${icon("send")}</button>`}
  </form>`;
}
