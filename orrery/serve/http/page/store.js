// What the page knows, in one object that is replaced and never changed; what is shown follows it once a frame.
//
// The conversation and the settings live in localStorage, the API key in sessionStorage: it is gone with the tab.

import { useEffect, useState } from "./vendor/preact-htm.js";

const KEY = "orrery.page.1";

const SETTINGS = {
  system: "",
  temperature: 0.8,
  top_p: 1,
  top_k: 0,
  min_p: 0,
  seed: "",
  max_tokens: 512,
  stop: "",
};

/** Settings as the makers of `model` advise, where they do. */
export function usual(model) {
  const advised = Object.entries(model?.orrery.defaults ?? {}).filter(([name]) => name in SETTINGS);
  return { ...SETTINGS, ...Object.fromEntries(advised) };
}

const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");

let state = {
  settings: kept.settings ?? SETTINGS,
  untouched: !kept.settings, // nothing was set by hand: the model may say what is usual
  theme: kept.theme ?? "auto",
  model: kept.model ?? "",
  messages: kept.messages ?? [],
  models: [],
  key: sessionStorage.getItem(KEY) ?? "",
  tokens: false, // replies as tokens rather than as text
  panel: null, // null, "settings" or "glass"
  chosen: null, // {message: id, index} of the token under the glass
  busy: null, // the AbortController of the reply under way
  editing: null, // id of the message being edited
  notice: "", // what a screen reader is told
};

const listeners = new Set();
let frame = 0;
let saving = 0;

export const get = () => state;

export function set(patch) {
  state = { ...state, ...patch };
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    listeners.forEach((listener) => listener(state));
  });
  clearTimeout(saving);
  saving = setTimeout(save, 300);
}

/** Change the message `id` by `patch`, an object or a function of the message. */
export function setMessage(id, patch) {
  const change = (m) => ({ ...m, ...(typeof patch === "function" ? patch(m) : patch) });
  set({ messages: state.messages.map((m) => (m.id === id ? change(m) : m)) });
}

export function useStore() {
  const [seen, show] = useState(state);
  useEffect(() => {
    listeners.add(show);
    show(state);
    return () => listeners.delete(show);
  }, []);
  return seen;
}

function save() {
  sessionStorage.setItem(KEY, state.key);
  const { theme, model } = state;
  const settings = state.untouched ? undefined : state.settings;
  // Ids and log-probabilities of long conversations may not fit: the oldest replies lose theirs first, then all.
  for (let bare = 0; bare <= state.messages.length; bare = bare * 2 + 1) {
    const messages = state.messages.map((m, i) => (i < bare ? { ...m, tokens: [], prompt: null } : m));
    try {
      return localStorage.setItem(KEY, JSON.stringify({ settings, theme, model, messages }));
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
    }
  }
}

addEventListener("pagehide", save);
