// The page: a bar, the conversation, and a panel beside it for settings or for the glass view.

import { models } from "./api.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { Glass } from "./glass.js";
import { icon, logo } from "./icons.js";
import { clear, currentModel, explain, stop } from "./reply.js";
import { Settings } from "./settings.js";
import { get, set, useStore, usual } from "./store.js";
import { html, render, useEffect } from "./vendor/preact-htm.js";

const THEMES = ["auto", "light", "dark"];

async function connect() {
  try {
    const found = await models();
    set({ models: found, failure: "" });
    if (get().untouched) set({ settings: usual(currentModel()) });
  } catch (error) {
    set({ models: [], failure: explain(error), ...(error.status === 401 ? { panel: "settings" } : {}) });
  }
}

/** Colours change before anything is drawn in them: canvases read them. */
function dress(theme) {
  document.documentElement.dataset.theme = theme;
  set({ theme });
}

function onKey(event) {
  if (event.key !== "Escape" || event.isComposing) return;
  if (get().busy) stop();
  else if (get().editing) set({ editing: null });
  else if (get().panel) set({ panel: null, chosen: null });
}

function Bar({ state }) {
  const toggle = (panel) => set({ panel: state.panel === panel ? null : panel });
  const next = THEMES[(THEMES.indexOf(state.theme) + 1) % THEMES.length];
  const model = currentModel();
  return html`<header class="bar">
    ${logo(26)}
    <h1>Orrery</h1>
    ${state.models.length > 1
      ? html`<select class="model" aria-label="Model" value=${model.id} onChange=${(e) => set({ model: e.target.value })}>
          ${state.models.map((m) => html`<option value=${m.id}>${m.id}</option>`)}
        </select>`
      : html`<span class="model">${model?.id}</span>`}
    <span class="space"></span>
    <button class="switch" aria-pressed=${state.tokens} title="Show replies as tokens, tinted by how surprising they were"
      onClick=${() => set({ tokens: !state.tokens, ...(state.tokens && state.panel === "glass" ? { panel: null, chosen: null } : {}) })}>${icon("glass")}<span>Glass</span></button>
    <button title="New conversation" aria-label="New conversation" disabled=${!state.messages.length}
      onClick=${() => confirm("Forget this conversation and begin a new one?") && clear()}>${icon("new")}</button>
    <button title=${`Colours: ${state.theme}`} aria-label=${`Colours: ${state.theme}. Change to ${next}`}
      onClick=${() => dress(next)}>${icon(state.theme)}</button>
    <button title="Settings" aria-label="Settings" aria-expanded=${state.panel === "settings"}
      onClick=${() => toggle("settings")}>${icon("settings")}</button>
  </header>`;
}

function App() {
  const state = useStore();
  useEffect(() => {
    connect();
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const model = currentModel();
  return html`<${Bar} state=${state} />
    <div class=${state.panel ? "columns split" : "columns"}>
      <main>
        ${state.failure && html`<p class="failure" role="alert">${state.failure} <button onClick=${connect}>Try again</button></p>`}
        <${Conversation} state=${state} model=${model} />
        <${Composer} state=${state} model=${model} />
      </main>
      ${state.panel === "settings" && html`<${Settings} state=${state} model=${model} onKey=${connect} />`}
      ${state.panel === "glass" && html`<${Glass} state=${state} />`}
    </div>
    <p class="aside" role="status">${state.notice}</p>`;
}

dress(get().theme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => set({}));
addEventListener("resize", () => set({}));
render(html`<${App} />`, document.body);
