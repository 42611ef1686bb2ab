// One comparison after another: two answers, five keys. What the server sends is text and is shown as text.

const $ = (id) => document.getElementById(id);
const KEYS = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", t: "tie", b: "bad", s: "skip" };
const SIDES = ["left", "right"];

let annotator = "";
let shown = null; // the comparison on the screen
let about = { criteria: {} };
let busy = false;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

async function call(path, body) {
  const response = await fetch(`api/${path}`, body && {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  const told = await response.json();
  if (!response.ok) throw new Error(told.error?.message ?? `the server answers ${response.status}`);
  return told;
}

// One thing at a time: what is pressed while the server is asked does not count.
async function doing(work) {
  if (busy) return;
  busy = true;
  for (const button of document.querySelectorAll("footer button")) button.disabled = true;
  try {
    await work();
    $("failure").hidden = true;
  } catch (error) {
    $("failure").textContent = error.message;
    $("failure").hidden = false;
  } finally {
    busy = false;
    for (const button of document.querySelectorAll("footer button")) button.disabled = false;
  }
}

function view(name) {
  for (const id of ["start", "ballot", "end", "results"]) $(id).hidden = id !== name;
  $("bar").hidden = name !== "ballot" && name !== "end";
  document.querySelector(".choices").hidden = name !== "ballot";
  document.querySelector("[data-choice=skip]").hidden = name !== "ballot";
}

function show(ballot) {
  shown = ballot;
  const done = ballot.done ? ballot.of : ballot.number - 1;
  Object.assign($("progress"), { max: ballot.of, value: done, hidden: false });
  $("count").textContent = ballot.done ? `all ${ballot.of} done` : `${ballot.number} of ${ballot.of}`;
  if (ballot.done) return view("end");
  $("turns").replaceChildren(...ballot.turns.map(turn));
  for (const side of SIDES) grades(side);
  view("ballot");
  document.querySelector("main").scrollTop = 0;
  $("turns").tabIndex = -1;
  $("turns").focus();
}

function turn({ request, left, right }) {
  const side = (title, text) => make("section", {}, make("h3", { textContent: title }),
    make("div", { className: text ? "answer" : "answer empty", textContent: text || "(no answer)" }));
  return make("li", {}, make("div", { className: "request", textContent: request }),
    make("div", { className: "answers" }, side("Left", left), side("Right", right)));
}

function grades(side) {
  const names = Object.entries(about.criteria);
  $("rubric").hidden = !names.length;
  const scale = Array.from({ length: about.high - about.low + 1 || 0 }, (_, i) => about.low + i);
  $(`${side}-grades`).replaceChildren(
    make("legend", { textContent: side === "left" ? "Left" : "Right" }),
    ...names.map(([name, meaning]) => make("fieldset", { className: "grade", title: meaning },
      make("legend", { textContent: name }),
      ...scale.map((n) => make("label", {}, make("input", { type: "radio", name: `${side}.${name}`, value: n }), String(n))))));
}

function graded() {
  const made = {};
  for (const side of SIDES) {
    made[side] = {};
    for (const input of $(`${side}-grades`).querySelectorAll("input:checked")) {
      made[side][input.name.slice(side.length + 1)] = Number(input.value);
    }
  }
  return made;
}

function vote(choice) {
  const ballot = shown?.ballot;
  if (!ballot || $("ballot").hidden) return;
  doing(async () => show(await call("vote", { annotator, ballot, choice, ratings: graded() })));
}

function back() {
  if (!$("bar").hidden) doing(async () => show(await call("back", { annotator, before: shown.ballot ?? null })));
}

const number = (x, digits = 0) => (x === null ? "–" : x.toFixed(digits));
const between = (e, digits) => `${number(e.mean, digits)} [${number(e.low, digits)}, ${number(e.high, digits)}]`;

function table(columns, rows) {
  const row = (cells, tag) => make("tr", {}, ...cells.map((cell) => make(tag, { textContent: cell })));
  return make("table", {}, make("thead", {}, row(columns, "th")), make("tbody", {}, ...rows.map((cells) => row(cells, "td"))));
}

function results(told) {
  const parts = [
    make("h2", { textContent: "Who was preferred, by everybody's votes" }),
    table(["model", "rating [95%]", "wins", "losses", "ties"],
      told.standings.map((s) => [s.model, between(s.rating, 0), s.wins, s.losses, s.ties])),
  ];
  const criteria = Object.keys(about.criteria);
  if (criteria.length) {
    parts.push(make("h2", { textContent: "Grades" }), table(["model", ...criteria],
      Object.entries(told.ratings).map(([model, of]) => [model, ...criteria.map((name) => (of[name] ? between(of[name], 2) : "–"))])));
  }
  if (told.raters.length) {
    parts.push(make("h2", { textContent: "How far people agree" }), table(["", "", "answers", "kappa"],
      told.raters.map((r) => [r.first, r.second, r.n, number(r.kappa, 2)])));
  }
  parts.push(make("p", { textContent: `Of the decided votes, the left side got a share of ${between(told.left, 2)}; one half is fair.` }));
  $("results").replaceChildren(...parts);
  view("results");
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const writes = event.target.matches("input:not([type=radio])"), grades = event.target.matches("input");
  if (writes || (grades && !/^[a-z]$/i.test(event.key))) return; // arrows and digits move between grades
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "u") back();
  else if (KEYS[key]) vote(KEYS[key]);
  else return;
  event.preventDefault();
});

for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => vote(button.dataset.choice));
}
$("back").addEventListener("click", back);
$("show").addEventListener("click", () => doing(async () => results(await call("results", { annotator }))));
$("start").addEventListener("submit", (event) => {
  event.preventDefault();
  doing(async () => {
    annotator = $("name").value.trim();
    about = await call("arena");
    show(await call("ballot", { annotator }));
    localStorage.setItem("annotator", annotator);
  });
});
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
$("name").value = localStorage.getItem("annotator") ?? "";
view("start");
$("name").focus();
