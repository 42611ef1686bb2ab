// The panel of sampling controls; what each does is said where it is set.

import { icon } from "./icons.js";
import { set, usual } from "./store.js";
import { html } from "./vendor/preact-htm.js";

const SLIDERS = [
  ["temperature", "Temperature", 0, 2, 0.05, "0 always takes the likeliest token; above 1 is more even than the model"],
  ["top_p", "Top-p", 0.01, 1, 0.01, "Draw from the fewest tokens that together have this probability; 1 is off"],
  ["top_k", "Top-k", 0, 200, 1, "Draw from this many of the likeliest; 0 is off"],
  ["min_p", "Min-p", 0, 1, 0.01, "Draw from tokens at least this likely, as a share of the likeliest; 0 is off"],
];

export function Settings({ state, model, onKey }) {
  const { settings } = state;
  const change = (patch) => set({ settings: { ...settings, ...patch }, untouched: false });
  const number = (name) => (e) => e.target.validity.valid && e.target.value !== "" && change({ [name]: e.target.valueAsNumber });
  return html`<aside class="panel" aria-label="Settings">
    <div class="head"><h2>Settings</h2>
      <button title="Close (Esc)" aria-label="Close settings" onClick=${() => set({ panel: null })}>${icon("close")}</button></div>
    <div class="body">
      ${model?.orrery.chat !== false && html`<label class="field">System prompt
        <textarea rows="3" value=${settings.system} placeholder="Who the model is to be, and how it is to answer"
          onInput=${(e) => change({ system: e.target.value })}></textarea></label>`}
      ${SLIDERS.map(([name, label, min, max, step, help]) => html`<div class="field">
        <label for=${name}>${label}</label>
        <div class="slider">
          <input type="range" id=${name} min=${min} max=${max} step=${step} value=${settings[name]} aria-describedby=${`${name}-help`} onInput=${number(name)} />
          <input type="number" aria-label=${`${label}, exactly`} min=${min} max=${max} step="any" value=${settings[name]} onChange=${number(name)} />
        </div>
        <small id=${`${name}-help`}>${help}</small>
      </div>`)}
      <div class="pair">
        <label class="field">Most tokens
          <input type="number" min="1" max=${model?.orrery.context} value=${settings.max_tokens} onChange=${number("max_tokens")} /></label>
        <label class="field">Seed
          <input type="number" min="0" value=${settings.seed} placeholder="a new one each time"
            onChange=${(e) => e.target.validity.valid && change({ seed: e.target.value })} /></label>
      </div>
      <label class="field">Stop at
        <textarea rows="2" value=${settings.stop} placeholder="One text a line; the reply ends before it"
          onInput=${(e) => change({ stop: e.target.value })}></textarea></label>
      <form onSubmit=${(e) => { e.preventDefault(); onKey(); }}><label class="field">API key
        <input type="password" autocomplete="off" value=${state.key} placeholder="only if the server asks for one"
          onInput=${(e) => set({ key: e.target.value.trim() })} onChange=${onKey} />
        <small>Kept until this tab is closed, sent to this server alone</small></label></form>
      <button onClick=${() => set({ settings: usual(model), untouched: true })}>Back to defaults</button>
    </div>
  </aside>`;
}
