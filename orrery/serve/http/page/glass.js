// The glass view: one token of a reply, made again from the ids before it with the model's inside in sight.

import { Alternatives } from "./alternatives.js";
import { complete, spell } from "./api.js";
import { Attention } from "./attention.js";
import { read, spelled, visible } from "./chunks.js";
import { icon } from "./icons.js";
import { Lens } from "./lens.js";
import { entropy, percent } from "./maths.js";
import { explain } from "./reply.js";
import { set } from "./store.js";
import { choose } from "./tokens.js";
import { html, useEffect, useState } from "./vendor/preact-htm.js";
import { WhatIf } from "./whatif.js";

const TOP = 20;

export function Glass({ state }) {
  const message = state.messages.find((m) => m.id === state.chosen?.message);
  const token = message?.tokens[state.chosen.index];
  const why = !token ? "Choose a token of a reply." : !message.prompt && "The ids of this reply were not kept. Make it again to look inside.";
  return html`<aside class="panel glass" aria-label="Glass view">
    <div class="head"><h2>Glass</h2>
      <button title="Close (Esc)" aria-label="Close glass view" onClick=${() => set({ panel: null, chosen: null })}>${icon("close")}</button></div>
    ${why ? html`<p class="body">${why}</p>` : html`<${Inside} state=${state} message=${message} index=${state.chosen.index} />`}
  </aside>`;
}

function Inside({ state, message, index }) {
  const token = message.tokens[index];
  const model = state.models.find((m) => m.id === message.model) ?? state.models[0];
  const { layers, vocab_size } = model.orrery;
  const [temperature, setTemperature] = useState(message.sampling.temperature);
  const [layer, setLayer] = useState(layers >> 1);
  const [instead, setInstead] = useState(null); // another token to go on with
  useEffect(() => setInstead(null), [message.id, index]);

  const before = [...message.prompt, ...message.tokens.slice(0, index).map((t) => t.id)];
  const here = [message.id, index];
  const seen = useView((signal) => lookAtAll(model.id, before, signal), here);
  const attended = useView((signal) => look(model.id, before, [{ what: "attention", layers: [layer] }], signal), [...here, layer]);

  const lens = seen.view?.lens;
  const top = lens?.at(-1); // the last layer's lens is the model's own answer
  const error = seen.error ?? attended.error;
  const part = (stale, content) => html`<section class=${stale ? "stale" : ""} aria-busy=${!!stale}>${content}</section>`;
  return html`<div class="body">
    <${Chosen} message=${message} index=${index} top=${top} vocab=${vocab_size} />
    ${error && html`<p class="failure" role="alert">${error}</p>`}
    ${top && part(seen.stale, html`<${Alternatives} top=${top} token=${token} vocab=${vocab_size} sampling=${message.sampling}
      temperature=${temperature} setTemperature=${setTemperature} instead=${instead} setInstead=${setInstead} />`)}
    ${top && part(false, html`<${WhatIf} key=${here.join()} message=${message} model=${model} index=${index} before=${before}
      temperature=${temperature} instead=${instead} setInstead=${setInstead} />`)}
    ${lens && part(seen.stale, html`<${Lens} layers=${lens} token=${token} />`)}
    ${attended.view && seen.view?.names.length === attended.view.read && part(attended.stale, html`<${Attention} heads=${attended.view.attention[0][0]}
      entropies=${seen.view.entropies} tokens=${seen.view.names} layer=${layer} layers=${layers} setLayer=${setLayer} theme=${state.theme} />`)}
  </div>`;
}

function Chosen({ message, index, top, vocab }) {
  const token = message.tokens[index];
  const rank = top?.findIndex((t) => t.id === token.id);
  const bounds = top && entropy(top.map((t) => t.logprob), vocab);
  const to = (i) => () => choose(message, i);
  return html`<div class="chosen">
    <button title="Token before" aria-label="Token before" disabled=${index === 0} onClick=${to(index - 1)}>${icon("back")}</button>
    <div role="status">
      <code class="big">${visible(token.text)}</code>
      <span class="facts">token ${index + 1} of ${message.tokens.length} · id ${token.id}</span>
      <span class="facts">${percent(Math.exp(token.logprob))} likely
        ${top && ` · ${rank < 0 ? `not among the first ${TOP}` : `choice ${rank + 1}`} · entropy ${interval(bounds)} nats`}</span>
    </div>
    <button title="Token after" aria-label="Token after" disabled=${index === message.tokens.length - 1} onClick=${to(index + 1)}>${icon("on")}</button>
  </div>`;
}

const interval = ({ low, high }) => (high - low < 0.02 ? high.toFixed(2) : `${low.toFixed(2)} to ${high.toFixed(2)}`);

/** Make one token after `ids` and look. What it is does not matter: what is seen belongs to the place where it is made. */
async function look(model, ids, observe, signal) {
  const body = { model, prompt: ids, max_tokens: 1, temperature: 0, orrery: { observe } };
  return { ...read(await complete(body, signal)).observed, read: ids.length };
}

/** The lens, the entropy of every head, and what all the ids in sight spell. */
async function lookAtAll(model, ids, signal) {
  const seen = await look(model, ids, [{ what: "logit_lens", top: TOP }, { what: "attention_entropy" }], signal);
  const [lens] = seen.logit_lens;
  const named = [...new Set([...ids, ...lens.flat().map(([id]) => id)])];
  const spelling = new Map((await spell(named, signal)).map(({ id, text, bytes }) => [id, spelled({ token: text, bytes })]));
  return {
    lens: lens.map((row) => row.map(([id, logprob]) => ({ id, logprob, token: spelling.get(id) }))),
    entropies: seen.attention_entropy[0],
    names: ids.map((id) => spelling.get(id)),
  };
}

/** {view, error, stale} of `load`, again whenever `deps` change. The last view stays, stale, until the next is there. */
function useView(load, deps) {
  const [state, show] = useState({});
  useEffect(() => {
    const leave = new AbortController();
    show((old) => ({ ...old, stale: true }));
    // Held arrow keys pass over many tokens: only where they rest is looked at.
    const soon = setTimeout(async () => {
      try {
        show({ view: await load(leave.signal) });
      } catch (error) {
        if (!leave.signal.aborted) show({ error: explain(error) });
      }
    }, 80);
    return () => {
      clearTimeout(soon);
      leave.abort();
    };
  }, deps);
  return state;
}
