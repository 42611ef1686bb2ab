// The reply from the chosen token on, made again with the same seed but with another token here, at another temperature, or with a
// push to the residual stream.

import { stream } from "./api.js";
import { read, visible } from "./chunks.js";
import { percent } from "./maths.js";
import { explain } from "./reply.js";
import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";

const TOKENS = 48;

export function WhatIf({ message, model, index, before, temperature, instead, setInstead }) {
  const { layers } = model.orrery;
  const [push, setPush] = useState({ toward: "", away: "", layer: layers >> 1, strength: 1 });
  const [runs, setRuns] = useState(null); // what came of it: {was, now, differs, live, error}
  const busy = useRef(null);
  const change = (patch) => setPush({ ...push, ...patch });
  const steered = push.toward !== "" && push.away !== "" && push.strength !== 0;
  useEffect(() => () => busy.current?.abort(), []);

  async function again(event) {
    event.preventDefault();
    busy.current?.abort();
    const leave = (busy.current = new AbortController());
    const given = instead ? [instead] : [];
    const body = {
      ...message.sampling, model: model.id, prompt: [...before, ...given.map((t) => t.id)], temperature, max_tokens: TOKENS, logprobs: 8,
      orrery: steered ? { steering: [push] } : {},
    };
    const differs = [instead && "another token", temperature !== message.sampling.temperature && `temperature ${temperature.toFixed(2)}`, steered && "steered"];
    let now = { text: given.map((t) => t.token).join(""), next: null };
    const show = (patch) => setRuns({ now, differs: differs.filter(Boolean).join(", ") || "again", ...patch });
    show({ live: true });
    try {
      for await (const chunk of stream("v1/completions", body, leave.signal)) {
        if (!chunk.choices?.length) continue;
        const said = read(chunk);
        now = { text: now.text + said.text, next: now.next ?? said.tokens[0]?.top };
        show({ live: true });
      }
      show({ live: false });
    } catch (error) {
      if (!leave.signal.aborted) show({ live: false, error: explain(error) });
    }
  }

  const was = message.tokens.slice(index, index + TOKENS).map((t) => t.text).join("");
  const field = (name, label, example) => html`<label class="field">${label}
    <input value=${push[name]} placeholder=${example} maxlength="4096" onInput=${(e) => change({ [name]: e.target.value })} /></label>`;
  const slider = (name, label, min, max, step) => html`<div class="slider named"><label for=${`push-${name}`}>${label}</label>
    <input type="range" id=${`push-${name}`} min=${min} max=${max} step=${step} value=${push[name]} onInput=${(e) => change({ [name]: e.target.valueAsNumber })} />
    <output for=${`push-${name}`}>${push[name]}</output></div>`;
  return html`<h3>What if</h3>
    <p class="note">The reply from here on with the same seed, at the temperature above${instead ? "" : "; choose an alternative to begin with it"}.</p>
    <form class="push" onSubmit=${again}>
      ${instead && html`<p>Begin with <code>${visible(instead.token)}</code>
        <button type="button" class="link" onClick=${() => setInstead(null)}>as it was</button></p>`}
      <details>
        <summary>Steer it</summary>
        <p class="note">The difference of what two texts leave behind a layer is added there, at every token.</p>
        ${field("toward", "Toward", "I love this, it is wonderful")}
        ${field("away", "Away from", "I hate this, it is terrible")}
        ${slider("layer", "Layer", 0, layers - 1, 1)}
        ${slider("strength", "Strength", -4, 4, 0.25)}
      </details>
      <button class="main">Run from here</button>
    </form>
    ${runs && html`<div class="compare" aria-busy=${runs.live}>
      <div><h4>it was</h4><p class="text">${was}</p></div>
      <div><h4>${runs.differs}</h4>
        <p class="text new" role="status">${runs.now.text}${runs.live && html`<span class="cursor"></span>`}</p></div>
    </div>
    ${runs.error && html`<p class="failure" role="alert">${runs.error}</p>`}
    ${runs.now.next && html`<p class="note">First choices: ${runs.now.next.slice(0, 4).map((t) => html`<code>${visible(t.text)}</code> ${percent(Math.exp(t.logprob))} `)}</p>`}`}`;
}
