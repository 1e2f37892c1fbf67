// One user: what is remembered, a link to their own page, other names, receipts, all of it.
import { ask, ofUser, receiptPage } from "./api.js";
import { doing, h, put, table, time } from "./dom.js";
import { Memories, wholes } from "./memories.js";

export async function show(page, params) {
  const app = params.get("app") || "default";
  const user = params.get("user") || "";
  const base = ofUser(app, user);
  const memories = new Memories(base);
  const receipts = h("div");
  const link = h("div", { "aria-live": "polite" });
  const names = h("p", { class: "quiet" });
  const wanted = params.get("memory");
  document.querySelector("h1").textContent = user;
  document.title = `${user} · Memory Gateway`;
  put(page,
    h("p", { class: "quiet" }, `In app ${app}. `), names,
    h("div", { class: "row" }, h("button", { type: "button", onclick: (e) => doing(e.target, async () => {
      const made = await ask("POST", `${base}/link`, {});
      const url = new URL(made.url, location.origin).href;
      put(link, h("p", {}, "Give this to the person; whoever has it can act for them until ", time(made.expires_at), ": ", h("a", { href: url, id: "own-page" }, url)));
    }) }, "Link to their own page")), link,
    h("br"), wanted && [memories.one, h("br")], memories.element,
    wholes(base, user, { bringBack: true, onErased: () => memories.load() }),
    h("h2", {}, "Latest receipts"), receipts);
  const [found, identities] = await Promise.all([
    ask("GET", `${base}/receipts?limit=20`), ask("GET", `${base}/identities`), memories.load(), wanted && memories.single(wanted)]);
  names.textContent = identities.identities.length ? `Also known as ${identities.identities.join(", ")}.` : "";
  put(receipts, table("Latest receipts", [
    { head: "Asked", wide: true, cell: (r) => h("a", { href: receiptPage(app, user, r.id) }, r.query || "(no words kept)") },
    { head: "At", cell: (r) => time(r.at) }, { head: "Injected", number: true, cell: (r) => r.injected.length }, { head: "Status", cell: (r) => r.status },
  ], found.receipts));
}
