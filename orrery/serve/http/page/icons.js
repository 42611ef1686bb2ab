// Line icons, 20 by 20, drawn with the colour of the text around them.

import { html } from "./vendor/preact-htm.js";

const PATHS = {
  glass: "M8.5 3a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11M12.6 12.6 17 17",
  new: "M10 4v12M4 10h12",
  auto: "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
  light: "M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7M10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1 1M14.7 14.7l1 1M15.7 4.3l-1 1M5.3 14.7l-1 1",
  dark: "M16.5 12A7 7 0 0 1 8 3.5a7 7 0 1 0 8.5 8.5z",
  settings: "M3 6h8M15 6h2M3 14h2M9 14h8M13 4v4M7 12v4",
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  copy: "M7 7h9v9H7zM13 7V4H4v9h3",
  done: "M4 10.5 8 14.5 16 6",
  edit: "M4 16v-3l9-9 3 3-9 9zM11 6l3 3",
  again: "M15.5 7A6.5 6.5 0 1 0 16.5 11M16 3v4h-4",
  close: "M5 5l10 10M15 5 5 15",
  back: "M12 4 6 10l6 6",
  on: "M8 4l6 6-6 6",
};

const FILLED = new Set(["stop"]);

export const icon = (name) =>
  html`<svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" stroke="currentColor" stroke-width="1.6"
    stroke-linecap="round" stroke-linejoin="round" fill=${FILLED.has(name) ? "currentColor" : "none"}><path d=${PATHS[name]} /></svg>`;

export const logo = (size) => html`<img src=${new URL("logo.svg", import.meta.url).href} alt="" width=${size} height=${size} />`;
