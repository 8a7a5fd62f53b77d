// Asks the service. A refusal is an Error whose message is the problem's one line.
export class Refused extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

export const key = { value: null };
try { key.value = sessionStorage.getItem("key"); } catch { /* kept nowhere */ }

async function ask(address, options = {}) {
  const headers = { ...options.headers };
  if (key.value) headers["X-API-Key"] = key.value;
  const answer = await fetch(address, { ...options, headers });
  if (answer.ok) return answer.json();
  const said = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, said.detail ?? `${answer.status} ${answer.statusText}`);
}

function form(files) {
  const body = new FormData();
  for (const file of files) body.append("images", file, file.name || "image");
  return body;
}

const query = (options) => new URLSearchParams(Object.entries(options).filter(([, value]) => value !== null && value !== "")).toString();
export const models = () => ask("v1/models").then((found) => found.models);
export const ready = () => fetch("readyz").then((answer) => answer.ok);
export const predict = (file, model, signal) => ask(`v1/predict?${query({ model, top: 5 })}`, { method: "POST", body: form([file]), signal });
export const inside = (files, model, layer, target, signal) => ask(`v1/inside?${query({ model, layer, target })}`, { method: "POST", body: form(files), signal });

// The same request for a terminal.
export function curl(file, model) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const given = key.value ? " -H 'X-API-Key: YOUR-KEY'" : "";
  const name = (file.name || "image.png").replaceAll('"', "");
  return `curl${given} -F ${quote(`images=@"${name}"`)} ${quote(new URL(`v1/predict?${query({ model, top: 5 })}`, location.href).href)}`;
}
