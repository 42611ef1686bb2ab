// Where each head looked when it predicted the token: a grid of all heads by how focused they are, a heat map of the chosen layer's heads
// over the tokens before, and the text tinted by one head.

import { visible } from "./chunks.js";
import { percent } from "./maths.js";
import { html, useLayoutEffect, useRef, useState } from "./vendor/preact-htm.js";

const ROW = 16; // pixels a head
const TEXT = 600; // tokens of tinted text

export function Attention({ heads, entropies, tokens, layer, layers, setLayer, theme }) {
  const [head, setHead] = useState(0);
  const row = heads[head];
  return html`<h3>Attention</h3>
    <p class="note">Every head of every layer: the stronger the colour, the fewer tokens it looks at.</p>
    <${Focus} entropies=${entropies} read=${tokens.length} layer=${layer} head=${head} theme=${theme}
      pick=${(l, h) => { setLayer(l); setHead(h); }} />
    <div class="slider named">
      <label for="layer">Layer</label>
      <input type="range" id="layer" min="0" max=${layers - 1} value=${layer} onInput=${(e) => setLayer(e.target.valueAsNumber)} />
      <output for="layer">${layer}</output>
    </div>
    ${!row && html`<p class="note">This layer has no attention.</p>`}
    ${row && html`<${HeatMap} heads=${heads} keys=${tokens} head=${head} setHead=${setHead} theme=${theme} layer=${layer} />
      <${Tinted} keys=${tokens} weights=${row} label=${`Text tinted by head ${head} of layer ${layer}`} />`}`;
}

function Tinted({ keys, weights, label }) {
  const place = useRef();
  useLayoutEffect(() => place.current.scrollTo(0, place.current.scrollHeight), [keys]);
  const most = Math.max(...weights);
  const from = Math.max(0, keys.length - TEXT);
  const tint = (weight) => ({ "--tint": Math.sqrt(weight / most).toFixed(2) });
  return html`<p class="context" ref=${place} tabindex="0" role="region" aria-label=${label}>
    ${keys.slice(from).map((text, i) => html`<span style=${tint(weights[from + i])} title=${percent(weights[from + i])}>${text}</span>`)}
  </p>`;
}

function Focus({ entropies, read, layer, head, theme, pick }) {
  const canvas = useRef();
  const count = Math.max(...entropies.map((heads) => heads.length));
  const height = Math.max(24, Math.min(count * 10, 120));
  useLayoutEffect(() => {
    const { paint, width } = prepare(canvas.current, height);
    const [w, h] = [width / entropies.length, height / count];
    entropies.forEach((heads, l) => heads.forEach((e, i) => {
      paint.globalAlpha = 0.05 + 0.95 * Math.max(0, 1 - e / Math.log(Math.max(read, 2)));
      paint.fillRect(l * w, i * h, w - 1, h - 1);
    }));
    paint.globalAlpha = 1;
    paint.lineWidth = 2;
    paint.strokeRect(layer * w, head * h, w - 1, h - 1);
  });
  const onClick = (event) => {
    const box = canvas.current.getBoundingClientRect();
    const l = Math.floor(((event.clientX - box.left) / box.width) * entropies.length);
    pick(l, Math.min(Math.floor(((event.clientY - box.top) / box.height) * count), entropies[l].length - 1));
  };
  return html`<canvas class="focus" ref=${canvas} role="img" style=${{ height: `${height}px` }} onClick=${onClick}
    aria-label="Entropy of attention by layer and head; choose them by the slider and the map below" data-theme=${theme}></canvas>`;
}

function HeatMap({ heads, keys, head, setHead, theme, layer }) {
  const canvas = useRef();
  const [at, setAt] = useState(null);
  const key = Math.min(at ?? heads[head].indexOf(Math.max(...heads[head])), keys.length - 1);
  const height = heads.length * ROW;

  useLayoutEffect(() => {
    const { paint, width } = prepare(canvas.current, height);
    const columns = Math.min(keys.length, Math.floor(width));
    const w = width / columns;
    heads.forEach((row, h) => {
      for (let c = 0; c < columns; c++) {
        // Where tokens are narrower than a pixel, a column shows the largest of its weights.
        const [from, to] = [c, c + 1].map((x) => Math.floor((x * keys.length) / columns));
        paint.globalAlpha = Math.sqrt(Math.max(...row.slice(from, to)));
        paint.fillRect(c * w, h * ROW + 1, Math.max(w - (w > 4 ? 1 : 0), 1), ROW - 2);
      }
    });
    paint.globalAlpha = 1;
    paint.lineWidth = 1.5;
    paint.strokeRect((key / keys.length) * width, head * ROW, Math.max(width / keys.length - 1, 3), ROW);
  });

  const onPointer = (event) => {
    const box = canvas.current.getBoundingClientRect();
    const place = (x, size, n) => Math.max(0, Math.min(n - 1, Math.floor((x / size) * n)));
    setAt(place(event.clientX - box.left, box.width, keys.length));
    setHead(place(event.clientY - box.top, box.height, heads.length));
  };
  const onKeyDown = (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    setAt(Math.max(0, Math.min(keys.length - 1, key + move[0])));
    setHead(Math.max(0, Math.min(heads.length - 1, head + move[1])));
  };
  return html`<canvas class="map" ref=${canvas} tabindex="0" role="img" style=${{ height: `${height}px` }}
      aria-label=${`Attention of layer ${layer}: a row a head, a column a token; arrow keys move`} data-theme=${theme}
      onPointerMove=${onPointer} onPointerDown=${onPointer} onKeyDown=${onKeyDown}></canvas>
    <output class="tip" aria-live="polite">head ${head} looks ${percent(heads[head][key])} at <code>${visible(keys[key])}</code> (token ${key})</output>`;
}

/** A canvas cleared and ready to paint in CSS pixels, in the colour of its text. */
function prepare(canvas, height) {
  const width = canvas.clientWidth;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const paint = canvas.getContext("2d");
  paint.scale(devicePixelRatio, devicePixelRatio);
  paint.fillStyle = paint.strokeStyle = getComputedStyle(canvas).color;
  return { paint, width };
}
