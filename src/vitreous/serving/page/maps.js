// Arrays as the service packs them, and their colours (viridis, Smith and van der Walt, CC0).
const STEPS = [[68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140], [34, 168, 132], [68, 191, 112], [122, 209, 81], [189, 223, 38], [253, 231, 37]];

export const unpack = (text) => (text ? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)) : null);
export const unpackShares = (text) => { const bytes = unpack(text); return new Uint16Array(bytes.buffer); };

function colour(value) {
  const place = (value / 255) * (STEPS.length - 1), low = Math.min(Math.floor(place), STEPS.length - 2);
  return [0, 1, 2].map((c) => STEPS[low][c] + (place - low) * (STEPS[low + 1][c] - STEPS[low][c]));
}

export function paint(canvas, values, [rows, cols]) {
  canvas.width = cols;
  canvas.height = rows;
  const pixels = new ImageData(cols, rows);
  values.forEach((value, index) => pixels.data.set([...colour(value), 255], 4 * index));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

export function drawNet(canvas, [rows, cols], wanted) {
  const side = 16;
  canvas.width = cols * side;
  canvas.height = rows * side;
  if (!wanted) return;
  const pen = canvas.getContext("2d");
  pen.strokeStyle = "rgba(255,255,255,.28)";
  pen.lineWidth = 1;
  for (let col = 1; col < cols; col++) { pen.moveTo(col * side + 0.5, 0); pen.lineTo(col * side + 0.5, canvas.height); }
  for (let row = 1; row < rows; row++) { pen.moveTo(0, row * side + 0.5); pen.lineTo(canvas.width, row * side + 0.5); }
  pen.stroke();
}

export const best = (values) => values.reduce((found, value, index) => (value > values[found] ? index : found), 0);
