// The logit lens: what each layer would say next if it were the last (nostalgebraist 2020). The top row is the first layer.

import { visible } from "./chunks.js";
import { percent } from "./maths.js";
import { html, useLayoutEffect, useRef } from "./vendor/preact-htm.js";

export function Lens({ layers, token }) {
  const place = useRef();
  useLayoutEffect(() => place.current.scrollTo(0, place.current.scrollHeight), [layers]); // the last layers say most
  const width = Math.min(5, layers[0].length);
  const settled = layers.findLastIndex((row) => row[0].id !== token.id) + 1;
  return html`<h3>Logit lens</h3>
    <p class="note">${settled < layers.length
      ? `In first place from layer ${settled} on.`
      : "The token taken was not the last layer's first choice."}</p>
    <div class="scroll" ref=${place} tabindex="0" role="region" aria-label="Logit lens by layer">
      <table class="lens">
        <thead><tr><th scope="col">layer</th><th scope="col" colspan=${width}>likeliest tokens</th></tr></thead>
        <tbody>${layers.map((row, layer) => html`<tr>
          <th scope="row">${layer}</th>
          ${row.slice(0, width).map((t) => html`<td class=${t.id === token.id ? "taken" : ""} style=${{ "--tint": Math.exp(t.logprob).toFixed(3) }}
            title=${`${visible(t.token)}  ${percent(Math.exp(t.logprob))}`}>${visible(t.token)}</td>`)}
        </tr>`)}</tbody>
      </table>
    </div>`;
}
