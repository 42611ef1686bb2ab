// Markdown of a model as a tree. A model's text is data: HTML in it is shown as it stands, and of what markdown makes only the
// elements of a list get through: no image, no style, no script, no link but to the web.

import DOMPurify from "./vendor/dompurify.js";
import { Marked } from "./vendor/marked.js";
import { html, useLayoutEffect, useRef } from "./vendor/preact-htm.js";

const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => (/^<\/?(br|sub|sup|kbd) *\/?>$/i.test(text) ? text : escape(text)),
    // Loading an image would tell a foreign host that this text was read: it becomes a link.
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
  },
});

const ALLOWED = {
  ALLOWED_TAGS: [
    ..."p br hr h1 h2 h3 h4 h5 h6 strong em del code pre blockquote ul ol li a".split(" "),
    ..."table thead tbody tr th td sup sub kbd".split(" "),
  ],
  ALLOWED_ATTR: ["href", "title", "align", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ADD_URI_SAFE_ATTR: ["align", "start"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** A clean fragment of the markdown `text`. */
export function render(text) {
  const fragment = DOMPurify.sanitize(marked.parse(text), ALLOWED);
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const pre of fragment.querySelectorAll("pre")) {
    pre.tabIndex = 0; // it scrolls: a keyboard must get there
  }
  return fragment;
}

export function Markdown({ text }) {
  const place = useRef();
  useLayoutEffect(() => place.current.replaceChildren(render(text)), [text]);
  return html`<div class="markdown" ref=${place}></div>`;
}
