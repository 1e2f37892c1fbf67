// How it goes: fresh figures every two seconds while the page is looked at.
import { ask } from "./api.js";
import { badge, h, live, ms, number, put, s, table, time } from "./dom.js";

const KEPT = 150;
const history = [];

const sum = (values) => Object.values(values).reduce((a, b) => a + b, 0);
const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)}%` : "–");

function chart(label, values, shown) {
  const most = Math.max(...values, 1e-9);
  const points = values.map((v, i) => `${(i / Math.max(1, values.length - 1)) * 100},${46 - (v / most) * 44}`).join(" ");
  return h("div", { class: "card" }, h("h3", {}, label), h("div", { class: "figure" }, shown),
    s("svg", { class: "chart", viewBox: "0 0 100 48", preserveAspectRatio: "none", role: "img", "aria-label": `${label}, the last minutes` }, s("polyline", { points })));
}

function bars(label, pairs) {
  const most = Math.max(...pairs.map(([, n]) => n), 1);
  const width = 100 / Math.max(1, pairs.length);
  return h("div", { class: "card" }, h("h3", {}, label),
    s("svg", { class: "chart bars", viewBox: "0 0 100 48", preserveAspectRatio: "none", role: "img",
      "aria-label": `${label}: ${pairs.filter(([, n]) => n).map(([e, n]) => `up to ${e}: ${n}`).join(", ") || "none yet"}` },
    pairs.map(([, n], i) => s("rect", { x: String(i * width + 0.5), y: String(46 - (n / most) * 44), width: String(width - 1), height: String((n / most) * 44 + 1) }))),
    h("div", { class: "quiet small" }, pairs.length ? `0 to ${pairs[pairs.length - 1][0]}` : ""));
}

const card = (label, figure, note = "", kind = "") =>
  h("div", { class: "card" }, h("h3", {}, label), h("div", { class: `figure ${kind}` }, figure), h("div", { class: "quiet small" }, note));

const named = (values) => Object.entries(values).map(([name, n]) => `${number(n)} ${name}`).join(", ");

export async function show(page) {
  await live(async () => put(page, drawn(await ask("GET", "/console/api/overview"))), 2000);
}

function drawn(o) {
  history.push({ at: Date.parse(o.at), requests: o.traffic.requests, recall: o.recall.p95_ms ?? 0 });
  if (history.length > KEPT) history.shift();
  const rates = history.slice(1).map((x, i) => Math.max(0, x.requests - history[i].requests) / Math.max(0.1, (x.at - history[i].at) / 1000));
  const rate = rates.length ? rates[rates.length - 1] : 0;
  const { recall, memory, queue, traffic } = o;
  const facts = sum(memory.facts);
  const aside = sum(memory.quarantined);
  const down = Object.entries(o.parts).filter(([, p]) => !["ok", "off"].includes(p.status));
  const failures = Object.entries(o.failures).flatMap(([group, values]) => Object.entries(values).map(([what, n]) => ({ group: group.replaceAll("_", " "), what, n })));
  return [
    h("p", { class: "quiet" }, "As of ", time(o.at), `, counted by ${o.processes === 1 ? "one process" : `${number(o.processes)} processes`} since `, time(o.since), "."),
    o.draining && h("p", { class: "warn" }, "This gateway was asked to end: it serves what is open and takes nothing new."),
    h("h2", {}, "Parts"),
    h("p", {}, down.length ? badge(`${down.length} degraded`, "bad") : badge("all parts answer", "good"),
      Object.entries(o.parts).map(([name, p]) => badge(`${name}: ${p.status}`, p.status === "ok" ? "good" : p.status === "off" ? "" : "bad"))),
    down.length ? h("ul", {}, down.map(([name, p]) => h("li", {}, h("strong", {}, name), ` ${p.reason ?? p.note ?? ""}`))) : null,
    h("h2", {}, "Traffic and recall"),
    h("div", { class: "cards" },
      chart("Requests a second", rates.length ? rates : [0], rate.toFixed(1)),
      chart("Recall, 95% within", history.map((x) => x.recall), ms(recall.p95_ms)),
      card("Recall, half within", ms(recall.p50_ms), `added before forwarding: ${ms(recall.added_p50_ms)}, 95% ${ms(recall.added_p95_ms)}`),
      card("Requests", number(traffic.requests), `${number(traffic.open)} open now`),
      card("Recalls", number(recall.count), named(recall.by_status) || "none yet"),
      card("With a memory", share(recall.with_memories, recall.count), "of recalls brought at least one"),
      bars("Best scores", recall.scores)),
    h("h2", {}, "What memory changes"),
    h("div", { class: "cards" },
      card("Facts written", number(facts), named(memory.facts) || "none yet"),
      card("Turns kept", number(memory.turns)),
      card("Never injected", share(memory.never_injected, memory.made), `${number(memory.never_injected)} of ${number(memory.made)} facts made this month and last`),
      card("Superseded soon", share(memory.superseded_soon, facts), "replaced within a day"),
      card("Put aside", share(aside, facts + aside), named(memory.quarantined) || "none"),
      card("Refused by guards", number(sum(memory.refused)), named(memory.refused) || "none")),
    h("h2", {}, "Queue"),
    queue ? h("div", { class: "cards" },
      card("Waiting", number(queue.pending), queue.pending ? `the oldest for ${Math.round(queue.oldest_s)} s` : ""),
      card("In a worker's hands", number(queue.leased)),
      card("Dead", number(queue.dead), "", queue.dead ? "bad" : ""),
      card("On disk", number(queue.spooled), "waiting for Redis"))
      : h("p", { class: "bad" }, "The queue cannot be asked: Redis does not answer."),
    h("h2", {}, "Failures"),
    table("Failures", [
      { head: "What", cell: (r) => r.group }, { head: "Kind", cell: (r) => r.what }, { head: "How often", number: true, cell: (r) => number(r.n) },
    ], failures, "None so far."),
  ];
}
