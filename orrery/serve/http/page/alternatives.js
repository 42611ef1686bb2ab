// The likeliest tokens at this place, what another temperature makes of them, and which the filters let through.

import { visible } from "./chunks.js";
import { atTemperature, kept, percent } from "./maths.js";
import { html, useState } from "./vendor/preact-htm.js";

const FEW = 8;
const middle = ({ low, high }) => (low + high) / 2;

export function Alternatives({ top, token, vocab, sampling, temperature, setTemperature, instead, setInstead }) {
  const [all, setAll] = useState(false);
  const logprobs = top.map((t) => t.logprob);
  const { listed, others } = atTemperature(logprobs, temperature, vocab);
  const keeps = kept(listed.map(middle), sampling);
  const shown = all ? top : top.slice(0, FEW);
  return html`<h3>Alternatives</h3>
    <div class="slider named">
      <label for="what-temperature">Temperature</label>
      <input type="range" id="what-temperature" min="0" max="2" step="0.05" value=${temperature} onInput=${(e) => setTemperature(e.target.valueAsNumber)} />
      <output for="what-temperature">${temperature.toFixed(2)}</output>
    </div>
    <ol class="alternatives">
      ${shown.map((t, i) => html`<${Row} key=${t.id} text=${t.token} was=${Math.exp(t.logprob)} now=${listed[i]} kept=${keeps[i]} taken=${t.id === token.id}
        pressed=${t.id === instead?.id} onClick=${() => setInstead(t.id === instead?.id || t.id === token.id ? null : t)} />`)}
      ${all && html`<li class="others"><span>all others</span><span class="bar"></span><span class="value">${range(others)}</span></li>`}
    </ol>
    <p class="note">
      <button class="link" aria-expanded=${all} onClick=${() => setAll(!all)}>${all ? "fewer" : `all ${top.length}`}</button>
      ${" "}<span class="key now"></span> at ${temperature.toFixed(2)} <span class="key was"></span> the model's own
      ${keeps.includes(false) && html` <span class="key cut"></span> cut by the filters`}
    </p>`;
}

function Row({ text, was, now, kept, taken, pressed, onClick }) {
  const words = `${visible(text)}: ${percent(was)} by the model, ${range(now)} at this temperature${kept ? "" : ", cut by the filters"}${taken ? ", the one taken" : ""}`;
  return html`<li><button class=${`${taken ? "taken" : ""} ${kept ? "" : "cut"}`} aria-label=${words} title=${words} aria-pressed=${pressed} onClick=${onClick}>
    <code>${visible(text)}</code>
    <span class="bar"><span class="maybe" style=${{ width: `${100 * now.high}%` }}></span><span class="now" style=${{ width: `${100 * now.low}%` }}></span><span class="was" style=${{ left: `${100 * was}%` }}></span></span>
    <span class="value">${range(now)}</span>
  </button></li>`;
}

function range({ low, high }) {
  const [from, to] = [percent(low), percent(high)];
  return from === to ? to : high - low < 0.005 ? percent(middle({ low, high })) : `${from.replace("%", "")}–${to}`;
}
