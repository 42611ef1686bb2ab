// A reply as its tokens, tinted by surprise: -log p of each. One of them is in the tab order; arrows walk the others.

import { visible } from "./chunks.js";
import { percent } from "./maths.js";
import { set } from "./store.js";
import { html, useRef, useState } from "./vendor/preact-htm.js";

/** 0 for a certain token, 1 for one of probability e^-6 or less. */
const surprise = (logprob) => Math.min(1, -logprob / 6);

export const choose = (message, index) => set({ panel: "glass", chosen: { message: message.id, index } });

export function Tokens({ message, chosen }) {
  const place = useRef();
  const [at, setAt] = useState(0);
  const tab = chosen ?? Math.min(at, message.tokens.length - 1);

  function onKeyDown(event) {
    const last = message.tokens.length - 1;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return choose(message, tab);
    }
    const to = { ArrowLeft: tab - 1, ArrowRight: tab + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const index = Math.max(0, Math.min(last, to));
    setAt(index);
    if (chosen !== null) choose(message, index); // the glass goes along
    place.current.querySelectorAll(".token")[index].focus();
  }

  return html`<div class="tokens" role="group" aria-label="Tokens of the reply; arrow keys walk them, Enter looks inside"
    ref=${place} onKeyDown=${onKeyDown}>
    ${message.tokens.map((t, i) => html`<${Token} key=${i} token=${t} tab=${i === tab} chosen=${i === chosen}
      onChoose=${() => { setAt(i); choose(message, i); }} />`)}
  </div>`;
}

function Token({ token, tab, chosen, onChoose }) {
  // A span, as a button would not let its text flow with the line.
  return html`<span role="button" class="token" tabindex=${tab ? 0 : -1} aria-pressed=${chosen}
      style=${{ "--tint": surprise(token.logprob).toFixed(2) }}
      title=${`${visible(token.text)}  ${percent(Math.exp(token.logprob))}`} onClick=${onChoose}
    >${token.text.replace(/\n/g, "↵\n") || "∅"}</span>`;
}
