// The page: an image in, what the models say out.
import * as api from "./api.js";
import { draw, fill, offer, show } from "./explore.js";
import { current, keep, say, speak, theme } from "./words.js";

const byId = (id) => document.getElementById(id);
const EXAMPLES = ["cat", "coffee", "rocket"];
const state = { models: [], file: null, second: null, asked: null, answers: [], gone: false, shownLayer: null, layerAsked: 0 };

function tell(text) {
  byId("status").hidden = !text;
  byId("status").textContent = text ?? "";
}

const model = () => state.models.find((one) => one.name === byId("model").value) ?? state.models[0];
const other = () => state.models.find((one) => one.name === byId("against").value);

// Failures in words; a service that has gone is asked until it is back.
function fail(error) {
  if (error.name === "AbortError") return;
  if (error instanceof api.Refused) {
    byId("key").hidden = error.status !== 401;
    return tell(error.message);
  }
  if (!(error instanceof TypeError)) throw error;
  tell(say("gone"));
  if (!state.gone) { state.gone = true; setTimeout(retry, 1000); }
}

async function retry() {
  const back = await api.ready().catch(() => false);
  if (!back) return setTimeout(retry, 1500);
  state.gone = false;
  tell(say("back"));
  if (!state.models.length) return start();
  if (state.file) run();
}

async function start() {
  try {
    state.models = await api.models();
    fill(byId("model"), state.models.map((one) => [one.name, one.name]));
    offerAgainst();
    byId("against-box").hidden = state.models.length < 2;
    if (state.models.some((one) => !one.ready)) { tell(say("waiting")); return setTimeout(start, 1000); }
    tell("");
    if (state.file) run();
  } catch (error) { fail(error); }
}

function offerAgainst() {
  fill(byId("against"), [["", say("none")], ...state.models.map((one) => [one.name, one.name])]);
}

function take(file, second = false) {
  if (!file) return;
  if (file.type && !file.type.startsWith("image/")) return tell(say("notImage", file.name));
  if (second) { state.second = file; return look(); }
  state.file = file;
  state.second = null;
  byId("target").replaceChildren();
  const picture = byId("given");
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(file);
  picture.alt = file.name || say("image");
  byId("name").textContent = file.name;
  run();
}

// A new image, or another model: ask for labels, and for what goes on inside.
async function run() {
  if (!state.file || !state.models.length) return;
  state.asked?.abort();
  const asked = state.asked = new AbortController();
  byId("answer").hidden = false;
  byId("answer").setAttribute("aria-busy", "true");
  if (!state.gone) tell(say("working"));
  const wanted = [model(), other()].filter((one, index, all) => one && all.indexOf(one) === index);
  try {
    state.answers = await Promise.all(wanted.map(async (one) => [one, one.classifies ? (await api.predict(state.file, one.name, asked.signal)).predictions[0] : null]));
    tell("");
    write();
    byId("answer").setAttribute("aria-busy", "false");
    state.shownLayer = null;
    await look(asked.signal);
  } catch (error) {
    if (error.name !== "AbortError") { byId("answer").setAttribute("aria-busy", "false"); if (error instanceof api.Refused) { byId("labels").replaceChildren(); byId("inside").hidden = true; } }
    fail(error);
  }
}

function write() {
  byId("labels").replaceChildren(...state.answers.map(([one, said]) => {
    const box = document.createElement("div");
    if (state.answers.length > 1) box.append(Object.assign(document.createElement("h3"), { textContent: one.name }));
    if (!said) { box.append(Object.assign(document.createElement("p"), { className: "soft", textContent: say("headless", one.name) })); return box; }
    const list = document.createElement("ol");
    for (const { label, score } of said.top) {
      const line = document.createElement("li"), share = Object.assign(document.createElement("div"), { className: "share", ariaHidden: "true" }), bar = document.createElement("span");
      bar.style.width = `${100 * score}%`;
      share.append(bar);
      line.append(Object.assign(document.createElement("span"), { textContent: label }), Object.assign(document.createElement("output"), { textContent: `${(100 * score).toFixed(1)}%` }), share);
      list.append(line);
    }
    box.append(list);
    return box;
  }));
}

async function look(signal = state.asked?.signal) {
  const one = model(), can = one.methods.includes("attention") && one.grid;
  byId("inside").hidden = false;
  byId("explore").hidden = !can;
  byId("outside").hidden = Boolean(can);
  byId("outside").textContent = can ? "" : say("noInside", one.name);
  byId("without").hidden = !state.second;
  if (!can) return;
  if (one.classifies && byId("target").dataset.of !== one.name) {
    byId("target").replaceChildren();
    fill(byId("target"), [["", say("automatic")], ...one.labels.map((label) => [label, label])]);
    byId("target").dataset.of = one.name;
  }
  byId("layer").max = String(one.layers - 1);
  if (state.shownLayer === null) byId("layer").value = String(one.layers - 1);
  byId("inside").setAttribute("aria-busy", "true");
  const layer = Number(byId("layer").value), mine = ++state.layerAsked;
  try {
    const files = state.second ? [state.file, state.second] : [state.file];
    const found = await api.inside(files, one.name, layer, byId("target").value, signal);
    if (mine !== state.layerAsked) return;
    state.shownLayer = layer;
    show(found);
    tell("");
  } catch (error) {
    if (error instanceof api.Refused && state.second) state.second = null;
    fail(error);
  } finally { if (mine === state.layerAsked) byId("inside").setAttribute("aria-busy", "false"); }
}

function say_all(language) {
  speak(language);
  byId("language").value = current();
  for (const button of document.querySelectorAll("#examples button")) {
    const words = say("example", say("examples")[button.dataset.name]);
    button.setAttribute("aria-label", words);
    button.title = words;
  }
  const first = byId("target").options[0];
  if (first) first.textContent = say("automatic");
  offerAgainst();
  offer();
  draw();
  if (state.answers.length) write();
  if (!byId("outside").hidden) byId("outside").textContent = say("noInside", model().name);
}

function dress(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  byId("theme").value = chosen;
}

for (const name of EXAMPLES) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.dataset.name = name;
  button.append(Object.assign(document.createElement("img"), { src: `examples/${name}.webp`, alt: "", width: 88, height: 88 }));
  button.addEventListener("click", async () => {
    try { take(new File([await (await fetch(`examples/${name}.webp`)).blob()], `${name}.webp`, { type: "image/webp" })); } catch (error) { fail(error); }
  });
  byId("examples").append(button);
}

for (const [button, input, second] of [["pick", "file", false], ["camera", "shot", false], ["second", "file2", true]]) {
  byId(button).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", (event) => { take(event.target.files[0], second); event.target.value = ""; });
}
byId("without").addEventListener("click", () => { state.second = null; look(); });
const drop = byId("choose");
addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files[0]); });
addEventListener("paste", (event) => take([...(event.clipboardData?.files ?? [])][0]));
byId("model").addEventListener("change", () => { state.second = null; run(); });
byId("against").addEventListener("change", run);
let waiting = 0;
byId("layer").addEventListener("input", () => { draw(); clearTimeout(waiting); if (byId("view").value === "attention" || state.second) waiting = setTimeout(look, 120); });
byId("view").addEventListener("input", () => { if (byId("view").value === "attention" && state.shownLayer !== Number(byId("layer").value)) look(); });
byId("target").addEventListener("change", () => look());
byId("language").addEventListener("change", (event) => say_all(event.target.value));
byId("theme").addEventListener("change", (event) => { keep("theme", event.target.value); dress(event.target.value); });
byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  api.key.value = byId("secret").value;
  try { sessionStorage.setItem("key", api.key.value); } catch { /* kept nowhere */ }
  byId("key").hidden = true;
  start();
});
byId("curl").addEventListener("click", async () => {
  const command = api.curl(state.file, model().name);
  byId("copied").textContent = await navigator.clipboard.writeText(command).then(() => say("copied"), () => `${say("notCopied")} ${command}`);
});
dress(theme());
say_all();
start();
