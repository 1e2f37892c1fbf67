// What waits to be distilled, and what could not be.
import { ask, pageOf } from "./api.js";
import { doing, h, live, number, put, say, table, time } from "./dom.js";

export async function show(page) {
  const counts = h("div", { class: "cards" });
  const dead = h("div");
  const retry = async (id) => {
    const { retried } = await ask("POST", "/admin/v1/queue/retry", id ? { id } : {});
    say(`${retried} back in line.`);
    await load();
  };
  const all = h("button", { type: "button", hidden: true, onclick: (e) => doing(e.target, () => retry(null)) }, "Try all again");
  const card = (label, figure, note = "") => h("div", { class: "card" }, h("h3", {}, label), h("div", { class: "figure" }, figure), h("div", { class: "quiet small" }, note));
  let shown = "";
  async function load() {
    const [q, d] = await Promise.all([ask("GET", "/admin/v1/queue"), ask("GET", "/admin/v1/queue/dead?limit=200")]);
    put(counts, card("Waiting", number(q.pending), q.pending ? `the oldest for ${Math.round(q.oldest_s)} s` : ""), card("In a worker's hands", number(q.leased)), card("Dead", number(q.dead)), card("Size", `${(q.bytes / 1024).toFixed(1)} kB`));
    all.hidden = !d.dead.length;
    if (shown === JSON.stringify(d)) return; // nothing moves under a pointer that is about to press
    shown = JSON.stringify(d);
    put(dead, table("Dead letters", [
      { head: "Reason", wide: true, cell: (l) => l.reason },
      { head: "User", cell: (l) => (l.user ? h("a", { href: pageOf(l.app, l.user) }, l.user) : "(erased)") },
      { head: "At", cell: (l) => time(l.at) }, { head: "Tries", number: true, cell: (l) => l.tries }, { head: "Exchanges", number: true, cell: (l) => l.exchanges },
      { head: "Action", cell: (l) => h("button", { type: "button", "aria-label": `Try ${l.id} again`, onclick: (e) => doing(e.target, () => retry(l.id)) }, "Try again") },
    ], d.dead, "There are no dead letters."));
  }
  put(page, h("h2", {}, "Now"), counts, h("h2", {}, "Dead letters"), h("p", { class: "quiet" }, "What could not be distilled after its last try is kept whole."), all, dead);
  await live(load, 2000);
}
