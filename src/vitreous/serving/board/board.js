// Keeps a board up to date: parts arrive as events and take the place of what was there; the choices are the page's address.
"use strict";
const byId = (id) => document.getElementById(id);
const form = byId("view");
let source = null;
let lost = 0;

// The address of what is chosen now. Runs that are shown without being ticked aren't in it: they are the newest ones.
function address() {
  const query = new URLSearchParams(location.search);
  const given = new FormData(form);
  const ticked = new Set(query.getAll("run"));
  for (const box of form.querySelectorAll("input[name=run]")) box.checked ? ticked.add(box.value) : ticked.delete(box.value);
  const next = new URLSearchParams();
  for (const run of ticked) next.append("run", run);
  const usual = { find: "", sort: "newest", smooth: "5", by: "epoch", log: "" };
  for (const [name, value] of Object.entries(usual)) if ((given.get(name) ?? "") !== value) next.set(name, given.get(name));
  if (next.get("find") === query.get("find") && next.get("sort") === query.get("sort") && query.has("page")) next.set("page", query.get("page"));
  return next.toString();
}

function replace(id, mark, html) {
  const before = byId(id);
  if (!before || before.dataset.mark === mark) return;
  const focus = document.activeElement?.id;
  const open = [...before.querySelectorAll("details[open]")].map((one) => one.id);
  if (before.tagName === "TR") before.outerHTML = html;
  else { before.innerHTML = html; before.dataset.mark = mark; }
  open.forEach((one) => byId(one)?.setAttribute("open", ""));
  if (focus && focus !== document.activeElement?.id) byId(focus)?.focus({ preventScroll: true });
  if (id === "reports") fit();
}

function follow() {
  source?.close();
  source = new EventSource(`events${location.search}`);
  source.addEventListener("parts", (event) => {
    for (const [id, [mark, html]] of Object.entries(JSON.parse(event.data))) replace(id, mark, html);
  });
  source.addEventListener("open", () => { lost = 0; byId("connection").hidden = true; });
  source.addEventListener("error", () => {
    lost += 1;
    byId("connection").hidden = false;
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, Math.min(10000, 1000 * lost));
  });
}

function choose() {
  const query = address();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  follow();
}

// A frame is as high as what is in it.
function fit() {
  for (const frame of document.querySelectorAll("iframe")) {
    const set = () => {
      const body = frame.contentDocument?.body;
      if (!body || frame.contentDocument.URL === "about:blank") return;
      frame.hidden = body.classList.contains("none");
      frame.style.height = `${body.scrollHeight + 4}px`;
    };
    frame.addEventListener("load", set);
    set();
  }
}

function read(event) {
  const chart = event.target.closest?.(".plot")?.parentElement;
  if (!chart) return;
  const data = JSON.parse(chart.dataset.chart), plot = chart.querySelector(".plot"), box = plot.getBoundingClientRect();
  const width = Math.min(box.width, 2 * data.wide), place = ((event.clientX - box.left) / width) * data.wide;
  const x = data.from + ((place - data.left) / (data.right - data.left)) * (data.to - data.from);
  const say = (value) => (data.share ? `${(100 * value).toFixed(1)}%` : Number(value.toPrecision(4)).toString());
  const near = data.lines.map(({ name, points }) => [name, points.reduce((best, one) => (Math.abs(one[0] - x) < Math.abs(best[0] - x) ? one : best))]);
  if (!near.length) return;
  const rule = chart.querySelector(".rule"), at = near[0][1][0];
  rule.hidden = false;
  rule.style.left = `${((data.left + ((at - data.from) / (data.to - data.from)) * (data.right - data.left)) / data.wide) * width}px`;
  chart.querySelector(".readout").textContent = `${data.by} ${Number(at.toPrecision(4))}: ${near.map(([name, point]) => (near.length > 1 ? `${name} ${say(point[1])}` : say(point[1]))).join(", ")}`;
}

form.addEventListener("submit", (event) => { event.preventDefault(); choose(); });
form.addEventListener("change", choose);
let waiting = 0;
byId("find").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(choose, 250); });
byId("curves").addEventListener("pointermove", read);
byId("curves").addEventListener("pointerleave", () => {
  document.querySelectorAll(".rule").forEach((rule) => { rule.hidden = true; });
  document.querySelectorAll(".readout").forEach((line) => { line.textContent = "\u00a0"; });
});
byId("share").addEventListener("click", async () => {
  const said = await navigator.clipboard.writeText(location.href).then(() => "copied", () => "refused");
  byId("shared").textContent = byId("shared").dataset[said];
});
byId("language").addEventListener("change", (event) => {
  document.cookie = `language=${event.target.value}; path=/; max-age=31536000; samesite=strict`;
  location.reload();
});
addEventListener("popstate", () => location.reload());
addEventListener("resize", fit);
fit();
follow();
