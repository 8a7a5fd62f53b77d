"use strict";
// Moves about on a page that `vitreous explain` wrote: pick an image, a layer, a head and a patch, see what it looks at.
(() => {
  const data = JSON.parse(document.getElementById("explore-data").textContent);
  const [rows, cols] = data.grid;
  const front = data.prefix.length, patches = rows * cols, tokens = front + patches;
  const byId = (id) => document.getElementById(id);
  const frames = [...document.querySelectorAll(".explore .frame")];
  const canvas = document.querySelector(".explore canvas");
  const state = {
    image: 0, layer: data.start[0], map: data.start[1], pinned: false,
    row: Math.floor(rows / 2), col: Math.floor(cols / 2), token: -1, // token: one before the patches; -1: the patch
  };
  const decoded = new Map();

  // The maps of one layer of one image; the layout is told in reports/explanation/attention_rows.py.
  function layer() {
    const key = `rows-${state.image}-${state.layer}`;
    if (!decoded.has(key)) {
      const bytes = Uint8Array.from(atob(byId(key).textContent.trim()), (letter) => letter.charCodeAt(0));
      const count = data.heads.length * tokens;
      const view = new DataView(bytes.buffer);
      const tops = Float32Array.from({ length: count }, (_, index) => view.getFloat32(4 * index, true));
      decoded.set(key, { tops, shares: bytes.subarray(4 * count, 5 * count), weights: bytes.subarray(5 * count) });
    }
    return decoded.get(key);
  }

  function colour(value) {
    const place = value * (data.colours.length - 1), low = Math.min(Math.floor(place), data.colours.length - 2);
    return [0, 1, 2].map((c) => data.colours[low][c] + (place - low) * (data.colours[low + 1][c] - data.colours[low][c]));
  }

  function paint(weights) {
    canvas.width = cols;
    canvas.height = rows;
    const pixels = new ImageData(cols, rows);
    weights.forEach((weight, index) => pixels.data.set([...colour(weight / 255), 255], 4 * index));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  function outline() {
    for (const frame of frames) {
      const mark = frame.querySelector(".query");
      mark.hidden = state.token >= 0;
      mark.style.left = `${(100 * state.col) / cols}%`;
      mark.style.top = `${(100 * state.row) / rows}%`;
      mark.style.width = `${100 / cols}%`;
      mark.style.height = `${100 / rows}%`;
    }
  }

  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;

  function show() {
    const query = state.token >= 0 ? state.token : front + state.row * cols + state.col;
    const found = layer(), row = state.map * tokens + query;
    const weights = found.weights.subarray(row * patches, (row + 1) * patches);
    paint(weights);
    outline();
    let best = 0;
    weights.forEach((weight, index) => { if (weight > weights[best]) best = index; });
    const from = state.token >= 0 ? data.prefix[state.token] : `Row ${state.row}, column ${state.col}`;
    const words = [`looks most at row ${Math.floor(best / cols)}, column ${best % cols} (${percent(found.tops[row])})`];
    if (front) words.push(`and gives ${percent(found.shares[row] / 255)} to ${front > 1 ? "the tokens before the patches" : data.prefix[0]}`);
    byId("told").replaceChildren(Object.assign(document.createElement("strong"), { textContent: from }), ` ${words.join(" ")}.`);
    byId("layer-told").textContent = `${data.layers[state.layer]} of 0 to ${data.depth - 1}`;
    byId("pin").textContent = state.pinned ? "Held. Click again, or press Escape, to let go." : "";
    byId("layer").value = String(state.layer);
    byId("head").value = String(state.map);
    byId("layer").setAttribute("aria-valuetext", `layer ${data.layers[state.layer]}`);
    byId("query").value = String(state.token);
  }

  function choose(image) {
    state.image = image;
    const one = data.images[image];
    for (const frame of frames) {
      const picture = frame.querySelector("img");
      picture.src = document.querySelectorAll(".thumbs img")[image].src;
      picture.alt = one.name;
      picture.classList.toggle("tiny", data.tiny);
    }
    document.querySelectorAll(".thumbs button").forEach((button, index) => button.setAttribute("aria-pressed", String(index === image)));
    byId("image-told").textContent = one.words;
    show();
  }

  function pick(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const within = (value, count) => Math.max(0, Math.min(count - 1, Math.floor(value * count)));
    state.col = within((event.clientX - box.left) / box.width, cols);
    state.row = within((event.clientY - box.top) / box.height, rows);
    state.token = -1;
    show();
  }

  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

  function press(event) {
    if (event.key === "Escape") state.pinned = false;
    else if (steps[event.key]) {
      state.token = -1;
      state.row = Math.max(0, Math.min(rows - 1, state.row + steps[event.key][0]));
      state.col = Math.max(0, Math.min(cols - 1, state.col + steps[event.key][1]));
    } else return;
    event.preventDefault();
    show();
  }

  for (const frame of frames) {
    frame.addEventListener("pointermove", (event) => { if (!state.pinned) pick(event); });
    frame.addEventListener("pointerdown", (event) => {
      state.pinned = event.pointerType === "mouse" && !state.pinned;
      pick(event);
    });
    frame.addEventListener("keydown", press);
  }
  document.querySelectorAll(".thumbs button").forEach((button, index) => button.addEventListener("click", () => choose(index)));
  byId("layer").addEventListener("input", (event) => { state.layer = Number(event.target.value); show(); });
  byId("head").addEventListener("change", (event) => { state.map = Number(event.target.value); show(); });
  byId("query").addEventListener("change", (event) => { state.token = Number(event.target.value); show(); });
  choose(0);
})();
