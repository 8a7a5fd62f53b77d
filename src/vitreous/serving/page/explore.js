// Moves about inside a model: which patch, which layer, which map.
import { best, drawNet, paint, unpack, unpackShares } from "./maps.js";
import { say } from "./words.js";

const byId = (id) => document.getElementById(id);
const stage = byId("stage"), stage2 = byId("stage2");
const state = { row: 0, col: 0, held: false, found: null, arrays: null };
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;

export function show(found) {
  const before = state.found;
  state.found = found;
  state.arrays = found.images.map((one) => ({
    weights: unpack(one.attention.weights), tops: unpackShares(one.attention.tops), rollout: unpack(one.rollout),
    norms: unpack(one.norms), relevance: unpack(one.relevance),
  }));
  state.arrays.positions = unpack(found.positions);
  if (!before || String(before.grid) !== String(found.grid)) [state.row, state.col] = found.grid.map((count) => Math.floor(count / 2));
  stage.querySelector("img").src = found.images[0].picture;
  byId("other").hidden = found.images.length < 2;
  if (found.images.length > 1) stage2.querySelector("img").src = found.images[1].picture;
  byId("layer").max = String(found.layers - 1);
  offer();
  draw();
}

// The choices that this model has, in the language of now.
export function offer() {
  const found = state.found;
  if (!found) return;
  const views = Object.entries(say("views")).filter(([name]) => (name !== "relevance" || found.images[0].relevance) && (name !== "positions" || found.positions));
  fill(byId("view"), views);
  fill(byId("head"), [["0", say("mean", found.heads)], ...Array.from({ length: found.heads }, (_, head) => [String(head + 1), say("headOf", head)])]);
  stage.setAttribute("aria-label", say("stage"));
  stage.querySelector("img").alt = say("image");
  stage2.querySelector("img").alt = say("stage2");
}

export function fill(select, pairs) {
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
  if (pairs.some(([value]) => value === before)) select.value = before;
}

function place(frame, row, col, [rows, cols]) {
  const mark = frame.querySelector(".here");
  mark.hidden = false;
  Object.assign(mark.style, { left: `${(100 * col) / cols}%`, top: `${(100 * row) / rows}%`, width: `${100 / cols}%`, height: `${100 / rows}%` });
}

export function draw() {
  const { found, arrays, row, col } = state;
  if (!found) return;
  const [rows, cols] = found.grid, patches = rows * cols, patch = row * cols + col;
  const view = byId("view").value || "attention", layer = Number(byId("layer").value), head = Number(byId("head").value || 0);
  const one = arrays[0], part = (values, at) => values.subarray(at * patches, (at + 1) * patches);
  const token = head * (found.prefix + patches) + found.prefix + patch;
  const values = { attention: () => part(one.weights, token), rollout: () => part(one.rollout, layer), norms: () => part(one.norms, layer), relevance: () => one.relevance, positions: () => part(arrays.positions, patch) }[view]();
  paint(stage.querySelector(".heat"), values, found.grid);
  stage.classList.add("hot");
  for (const frame of [stage, stage2]) drawNet(frame.querySelector(".net"), found.grid, byId("lines").checked);
  place(stage, row, col, found.grid);
  document.querySelector(".of-layer").hidden = !["attention", "rollout", "norms"].includes(view);
  document.querySelector(".of-head").hidden = view !== "attention";
  document.querySelector(".of-class").hidden = view !== "relevance";
  byId("layer-told").textContent = say("of", layer, found.layers - 1);
  byId("what").textContent = say("what")[view];
  let words = "";
  if (view === "attention") { const most = best(values); words = say("attends", Math.floor(most / cols), most % cols, percent(one.tops[token] / 10000)); }
  else if (view === "norms") words = say("length", ((values[patch] / 255) * found.images[0].longest[layer]).toPrecision(3), found.images[0].longest[layer].toPrecision(3));
  else if (view === "positions") { const rest = values.slice(); rest[patch] = 0; const most = best(rest); words = say("similar", Math.floor(most / cols), most % cols); }
  else words = say("value", percent(values[patch] / 255));
  if (found.nearest) {
    const near = found.nearest.places[patch];
    place(stage2, Math.floor(near / cols), near % cols, found.grid);
    words += say("nearest", Math.floor(near / cols), near % cols, found.nearest.likeness[patch].toFixed(2));
  }
  byId("told").replaceChildren(Object.assign(document.createElement("strong"), { textContent: say("at", row, col) }), ` ${words}`);
}

function pick(event) {
  const box = stage.getBoundingClientRect(), [rows, cols] = state.found.grid;
  const within = (value, count) => Math.max(0, Math.min(count - 1, Math.floor(value * count)));
  state.col = within((event.clientX - box.left) / box.width, cols);
  state.row = within((event.clientY - box.top) / box.height, rows);
  draw();
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
stage.addEventListener("pointermove", (event) => { if (state.found && !state.held) pick(event); });
stage.addEventListener("pointerdown", (event) => { if (!state.found) return; state.held = event.pointerType === "mouse" && !state.held; pick(event); });
stage.addEventListener("keydown", (event) => {
  if (!state.found) return;
  const [rows, cols] = state.found.grid;
  if (event.key === "Escape") state.held = false;
  else if (STEPS[event.key]) {
    state.held = true;
    state.row = Math.max(0, Math.min(rows - 1, state.row + STEPS[event.key][0]));
    state.col = Math.max(0, Math.min(cols - 1, state.col + STEPS[event.key][1]));
  } else return;
  event.preventDefault();
  draw();
});
for (const id of ["head", "lines", "view"]) byId(id).addEventListener("input", draw);
