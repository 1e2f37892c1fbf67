// The gateway's API, as the session of this browser. The page's word goes with every request
// that changes something, so that no other site's page can make one.
let word = document.querySelector("meta[name=csrf]")?.content || "";

export const setWord = (csrf) => { word = csrf; };

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function send(method, path, body, headers = {}) {
  const change = !["GET", "HEAD"].includes(method);
  const answer = await fetch(path, {
    method, body, credentials: "same-origin", cache: "no-store",
    headers: { ...(change ? { "X-CSRF-Token": word } : {}), ...headers },
  }).catch(() => { throw new Refused("The gateway does not answer. Is it running?", 0); });
  if (answer.ok) return answer;
  let message = `The gateway answered ${answer.status}.`;
  try { message = (await answer.json()).error.message; } catch { /* no JSON: the status says it */ }
  if (answer.status === 401 && location.pathname.startsWith("/console")) location.reload();
  throw new Refused(message, answer.status);
}

/** The JSON of an answer; null of an empty one. */
export async function ask(method, path, value) {
  const json = value === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await send(method, path, value === undefined ? undefined : JSON.stringify(value), json);
  return answer.status === 204 ? null : answer.json();
}

export const post = (path, text, type) => send("POST", path, text, { "Content-Type": type }).then((a) => a.json());

/** All lines of a long answer; `told` hears how many there are so far. */
export async function lines(path, told) {
  const answer = await send("GET", path);
  const parts = [];
  let count = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    for (const byte of value) if (byte === 10) count += 1;
    told(count);
  }
  return new Blob(parts, { type: "application/x-ndjson" });
}

/** Give the person a file to keep. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

const part = encodeURIComponent;
export const ofUser = (app, user) => `/admin/v1/apps/${part(app)}/users/${part(user)}`;
export const pageOf = (app, user) => `/console/user?app=${part(app)}&user=${part(user)}`;
export const memoryPage = (app, user, id) => `${pageOf(app, user)}&memory=${part(id)}`;
export const receiptPage = (app, user, id) =>
  `/console/receipt?app=${part(app)}&user=${part(user)}&id=${part(id)}`;
