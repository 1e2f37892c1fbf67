// Why did it say that: the question, the block as it was sent, what was considered and left out,
// how long each stage took, and what came of the exchange.
import { ask, memoryPage, ofUser, pageOf } from "./api.js";
import { badge, doing, h, ms, number, put, s, table, time } from "./dom.js";

const REASONS = {
  weak: "far below the best, or a mere “okay”", off_topic: "nothing known is about this question", budget: "no room left",
  present: "the request says it itself", duplicate: "another says the same", repeated: "a better one tells it already",
  outdated: "what it says has changed since", chosen: "already in the block",
};

function steps(receipt) {
  const named = Object.entries(receipt.stage_ms).filter(([name]) => name !== "total");
  const all = [...named, ["the model’s first byte", receipt.upstream_ms]];
  const most = Math.max(...named.map(([, n]) => n), 0.001);
  return h("ol", { class: "steps" }, all.map(([name, took], i) => h("li", {}, h("span", {}, name),
    i < named.length ? s("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, s("rect", { x: "0", y: "0", height: "10", width: String((took / most) * 100) })) : h("span"),
    h("span", { class: "mono" }, ms(took)))));
}

const change = (then, now) => (then === now ? `${number(now)} tokens, as then` : `${number(now)} tokens, ${number(then)} then`);

/** The same question again, under the settings of now or others: what would be injected instead. */
function again(app, user, r) {
  const found = h("div", { "aria-live": "polite" });
  const field = (name, label, input) => h("div", { class: "field" }, h("label", { for: `try-${name}` }, label), input);
  const entry = (name, label, props) => field(name, label, h("input", { id: `try-${name}`, name, type: "number", min: "0", class: "short", placeholder: "as set", ...props }));
  return h("div", {},
    h("form", { class: "row card", onsubmit: (event) => {
      event.preventDefault();
      doing(event.submitter, async () => {
        const tried = new URLSearchParams({ app, user });
        for (const [name, value] of new FormData(event.target)) if (value) tried.set(name, value);
        const run = await ask("GET", `/console/api/receipts/${encodeURIComponent(r.id)}/again?${tried}`);
        const rows = [...run.now, ...run.gone.map((m) => ({ ...m, left: true }))];
        put(found,
          h("p", {}, badge(run.status, run.status === "ok" ? "good" : "warn"), badge(`stage ${run.stage}`), badge(`${run.now.length} injected`), badge(change(run.tokens.then, run.tokens.now)), badge(ms(run.ms.now))),
          table("Injected now", [
            { head: "Memory", wide: true, cell: (m) => h("a", { href: memoryPage(app, user, m.id) }, m.text) }, { head: "Type", cell: (m) => m.type },
            { head: "Compared", cell: (m) => (m.left ? badge("not any more", "bad") : m.new ? badge("new", "good") : badge("as then")) },
          ], rows, "Nothing would be injected."));
      });
    } },
    entry("max_tokens", "Most tokens"), entry("max_memories", "Most memories"), entry("floor", "Floor", { max: "1", step: "0.05" }),
    field("turns", "Turns", h("select", { id: "try-turns", name: "turns" }, [["", "as set"], ["on", "on"], ["off", "off"]].map(([value, text]) => h("option", { value }, text)))),
    h("button", { type: "submit", class: "main" }, "Ask again")), h("br"), found);
}

export async function show(page, params) {
  const app = params.get("app") || "default";
  const user = params.get("user") || "";
  const r = await ask("GET", `${ofUser(app, user)}/receipts/${encodeURIComponent(params.get("id") || "")}`);
  document.querySelector("h1").textContent = "Why did it say that?";
  const pairs = [["User", h("a", { href: pageOf(app, user) }, user)], ["App", r.app], ["At", time(r.at)], ["Model", r.model], ["Session", h("code", {}, r.session ?? "–")],
    ["Exchange", h("code", {}, r.exchange_id ?? "–")], ["Answer", r.outcome], ["Mode", r.mode],
    ["Versions", h("span", { class: "mono" }, Object.entries(r.versions ?? {}).map(([n, v]) => `${n} ${v}`).join(" · "))]];
  put(page,
    h("p", { class: "quiet" }, h("a", { href: pageOf(app, user) }, user), ` in app ${app}, `, time(r.at)),
    h("p", {}, badge(r.status, r.status === "ok" ? "good" : "warn"), badge(`stage ${r.stage}`), badge(`${r.injected.length} injected`), badge(`${number(r.tokens)} tokens`), badge(ms(r.latency_ms)), r.feedback && badge(`thumb ${r.feedback}`, r.feedback === "up" ? "good" : "bad")),
    h("h2", {}, "The question"),
    h("p", { class: "card said" }, r.query || "(the words are not kept any more)"),
    h("h2", {}, `The block as it was sent (${r.placement})`),
    r.block ? h("pre", {}, r.block) : h("p", { class: "quiet" }, "Nothing was injected."),
    r.block && !r.block_exact && h("p", { class: "warn" }, "Something of it was forgotten or changed since: what is left of it is shown."),
    h("h2", {}, "The memories that shaped the answer"),
    table("Injected memories", [
      { head: "Memory", wide: true, cell: (m) => [m.text ? h("a", { href: memoryPage(app, user, m.id) }, m.text) : "(forgotten)", m.text_now && h("div", { class: "warn small" }, `Now: ${m.text_now}`)] },
      { head: "Type", cell: (m) => m.type ?? m.kind ?? "" }, { head: "Now", cell: (m) => badge(m.status, m.status === "active" ? "good" : "warn") },
      { head: "Rests on", wide: true, cell: (m) => (m.rests_on?.length ? m.rests_on.map((t) => h("div", {}, `“${t}”`)) : m.source?.quote ? `“${m.source.quote}”` : "") },
    ], r.memories, "None."),
    r.query && [h("h2", {}, "The same question now"),
      h("p", { class: "quiet" }, "Over what is known now, under the settings in force or those that you try here. Nothing is changed by it."), again(app, user, r)],
    h("h2", {}, "What was considered"),
    table("Candidates", [
      { head: "Memory", wide: true, cell: (c) => c.text ?? h("span", { class: "quiet" }, "(forgotten)") },
      { head: "Score", number: true, cell: (c) => c.score.toFixed(3) },
      { head: "Why", wide: true, cell: (c) => h("span", { class: "mono" }, Object.entries(c.why).map(([n, v]) => `${n} ${v.toFixed(2)}`).join(" ")) },
      { head: "Left out", name: true, cell: (c) => (c.left_out ? `${c.left_out}: ${REASONS[c.left_out] ?? ""}` : badge("injected", "good")) },
    ], r.considered, "Nothing was found."),
    h("h2", {}, "How long it took"), steps(r),
    h("h2", {}, "What came of it"),
    r.exchange ? h("ul", { class: "list" }, r.exchange.turns.map((t) => h("li", { class: "card" }, badge(t.speaker), h("span", { class: "said" }, t.text ?? "(forgotten)")))) : h("p", { class: "quiet" }, "Nothing of this exchange was kept."),
    h("h3", {}, "Facts drawn from it"),
    table("Facts drawn", [
      { head: "Fact", wide: true, cell: (f) => h("a", { href: memoryPage(app, user, f.id) }, f.text) }, { head: "Type", cell: (f) => f.type }, { head: "Now", cell: (f) => badge(f.status) }, { head: "Rests on", wide: true, cell: (f) => (f.quote ? `“${f.quote}”` : "") },
    ], r.drawn, r.exchange && !r.exchange.distilled ? "Not distilled yet." : "None."),
    h("h2", {}, "Details"),
    h("dl", { class: "card" }, pairs.map(([name, value]) => [h("dt", { class: "quiet small" }, name), h("dd", {}, value ?? "–")])));
}
