// One person's memories, for an operator and for the person: look, search, correct, forget,
// review what was put aside, take along, erase. `base` is the API's path of this person.
import { ask, lines, post, save } from "./api.js";
import { badge, confirmed, day, doing, h, put, s, say, time } from "./dom.js";

const TYPES = { profile: "Profile", preference: "Preferences", interaction: "What happened", task_state: "Going on now", turn: "Said word for word" };
const PAGE = 100;

export class Memories {
  constructor(base, { receiptLink = null, owner = "user" } = {}) {
    this.base = base;
    this.receiptLink = receiptLink;
    this.owner = owner;
    this.status = "active";
    this.kind = "";
    this.query = "";
    this.list = h("div", { id: "memories" });
    this.review = h("section", { "aria-label": "To be reviewed", hidden: true });
    this.one = h("section", { "aria-label": "The memory asked for" });
    this.element = h("div", {}, this.review, this.#filters(), this.list);
  }

  async load() {
    await Promise.all([this.#show(), this.#reviewed(), this.wanted && this.single(this.wanted)]);
  }

  /** One memory before all others: what another page leads to. */
  async single(id) {
    this.wanted = id;
    const memory = await ask("GET", `${this.base}/memories/${encodeURIComponent(id)}`).catch((error) => {
      if (error.status !== 404) throw error;
      return null;
    });
    put(this.one, h("h2", {}, "This one"),
      memory ? h("ul", { class: "list" }, this.#card(memory)) : h("p", { class: "quiet" }, "It is not there any more."));
  }

  #filters() {
    const search = h("input", { id: "find", type: "search", placeholder: "What is known about …" });
    const choice = (name, options, label) => h("div", { class: "field" },
      h("label", { for: name }, label),
      h("select", { id: name, onchange: (e) => { this[name] = e.target.value; this.#again(); } },
        options.map(([value, text]) => h("option", { value }, text))));
    return h("form", { class: "row card", role: "search", onsubmit: (event) => {
      event.preventDefault();
      this.query = search.value.trim();
      this.#again();
    } },
    h("div", { class: "field grow" }, h("label", { for: "find" }, "Search"), search),
    choice("kind", [["", "Facts and turns"], ["fact", "Facts"], ["turn", "Turns"]], "Kind"),
    choice("status", [["active", "In force"], ["superseded", "Superseded"], ["quarantined", "Put aside"]], "Status"),
    h("button", { type: "submit" }, "Search"));
  }

  #again() {
    this.#show().catch((error) => say(error.message, "bad"));
  }

  async #show() {
    if (this.query) {
      const kinds = this.kind ? { kinds: [this.kind] } : {};
      const found = await ask("POST", `${this.base}/memories/search`, { query: this.query, limit: 50, ...kinds });
      const cards = found.results.map((r) => this.#card(r.memory, r));
      put(this.list, h("h2", {}, `Found for “${this.query}”`),
        cards.length ? h("ul", { class: "list" }, cards) : h("p", { class: "quiet" }, "Nothing was found."));
      return;
    }
    this.shown = [];
    await this.#more(null);
  }

  async #more(cursor) {
    const params = new URLSearchParams({ status: this.status, limit: PAGE });
    if (this.kind) params.set("kind", this.kind);
    if (cursor) params.set("cursor", cursor);
    const page = await ask("GET", `${this.base}/memories?${params}`);
    this.shown.push(...page.memories);
    this.#render(page.next_cursor);
  }

  #render(cursor) {
    const first = Math.min(...this.shown.map((m) => Date.parse(m.valid_from)));
    if (this.shown.length) this.range = [first, Math.max(Date.now(), first + 1)];
    const groups = Object.entries(TYPES).map(([type, label]) => {
      const mine = this.shown.filter((m) => (m.kind === "turn" ? "turn" : m.type) === type);
      if (!mine.length) return null;
      return h("section", {}, h("h2", {}, `${label} (${mine.length})`),
        h("ul", { class: "list" }, mine.map((m) => this.#card(m))));
    });
    const more = cursor && h("button", { type: "button", onclick: (e) => doing(e.target, () => this.#more(cursor)) }, "Show more");
    put(this.list, ...groups.filter(Boolean),
      this.shown.length ? null : h("p", { class: "quiet" }, "Nothing is remembered here."), more);
  }

  async #reviewed() {
    const page = await ask("GET", `${this.base}/memories?status=quarantined&limit=50`);
    this.review.hidden = !page.memories.length;
    put(this.review, h("h2", {}, "To be reviewed"),
      h("p", { class: "quiet" }, "Put aside because it read like an attempt to plant something. It is not used until someone says that it is right."),
      h("ul", { class: "list" }, page.memories.map((m) => this.#card(m))));
  }

  #card(memory, found = null) {
    const card = h("li", { class: `card memory ${memory.status}`, "data-id": memory.id });
    const act = (label, work, kind = "") => h("button", { type: "button", class: kind,
      "aria-label": `${label}: ${memory.text.slice(0, 60)}`, onclick: (e) => doing(e.target, work) }, label);
    const aside = memory.status === "quarantined";
    put(card,
      h("div", { class: "spread" },
        h("div", {}, badge(memory.kind === "turn" ? "turn" : memory.type), memory.key && badge(memory.value ? `${memory.key}: ${memory.value}` : memory.key),
          memory.pinned && badge("pinned", "good"), aside && badge("put aside", "warn"),
          memory.status === "superseded" && badge("superseded"),
          ["user", "api"].includes(memory.source.via) && badge(memory.source.via === "user" ? "by the person" : "by API", "good"),
          found && badge(`score ${found.score.toFixed(3)}`)),
        h("div", { class: "row" },
          aside && act("It is right", () => this.#change(memory, { status: "active" })),
          act("Correct", () => this.#edit(memory)), act("History", () => this.#history(memory)),
          act("Forget", () => this.#forget(memory), "danger"))),
      h("p", { class: "said" }, memory.text),
      memory.kind === "fact" && this.#track(memory),
      h("div", { class: "quiet small" }, this.#validity(memory),
        memory.source.quote && h("div", {}, `From: “${memory.source.quote}”`),
        found && h("div", {}, Object.entries(found.why).map(([n, v]) => `${n} ${Number(v).toFixed(3)}`).join(" · "))));
    return card;
  }

  #validity(memory) {
    const end = memory.valid_to ? ` until ${day(memory.valid_to)}` : "";
    const gone = memory.expires_at ? ` · kept until ${day(memory.expires_at)}` : "";
    return h("div", {}, `${memory.kind === "turn" ? "Said" : "Valid from"} ${day(memory.valid_from)}${end}${gone}`);
  }

  #track(memory) {
    const [from, to] = this.range || [Date.parse(memory.valid_from), Date.now()];
    const at = (text) => Math.max(0, Math.min(100, ((Date.parse(text) - from) / Math.max(1, to - from)) * 100));
    const x = Math.min(98, at(memory.valid_from));
    const end = memory.valid_to ? at(memory.valid_to) : 100;
    return s("svg", { class: "track", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { x: String(x), y: "0", width: String(Math.max(2, end - x)), height: "6" }));
  }

  async #change(memory, changes) {
    await ask("PATCH", `${this.base}/memories/${encodeURIComponent(memory.id)}`, changes);
    say("Saved.");
    await this.load();
  }

  async #forget(memory) {
    if (!(await confirmed("Forget this?", memory.text, "Forget"))) return;
    await ask("DELETE", `${this.base}/memories/${encodeURIComponent(memory.id)}`);
    say("Forgotten.");
    await this.load();
    document.getElementById("main").focus();
  }

  async #history(memory) {
    const { versions } = await ask("GET", `${this.base}/memories/${encodeURIComponent(memory.id)}/history`);
    const box = h("dialog", { "aria-labelledby": "history-title" },
      h("h2", { id: "history-title" }, "History"),
      h("ol", { class: "stack" }, versions.map((v) => h("li", {},
        h("div", { class: "small quiet" }, time(v.at), ` · ${v.event} · by ${v.via}`, v.current ? " · in force" : ""),
        h("div", {}, v.text ?? "(nothing is kept of this)")))),
      h("div", { class: "row" }, h("button", { type: "button", autofocus: true, onclick: () => box.close() }, "Close")));
    this.#open(box);
  }

  #open(box) {
    box.addEventListener("close", () => box.remove());
    document.body.append(box);
    box.showModal();
  }

  #edit(memory) {
    const field = (name, label, input) => h("div", { class: "field" }, h("label", { for: `edit-${name}` }, label), input);
    const fact = memory.kind === "fact";
    const text = h("textarea", { id: "edit-text", required: true }, memory.text);
    const type = fact && h("select", { id: "edit-type" }, Object.entries(TYPES).filter(([t]) => t !== "turn").map(([value, label]) => h("option", { value, selected: value === memory.type }, label)));
    const key = fact && h("input", { id: "edit-key", value: memory.key ?? "" });
    const value = fact && h("input", { id: "edit-value", value: memory.value ?? "" });
    const until = fact && h("input", { id: "edit-until", type: "date", value: memory.valid_to?.slice(0, 10) ?? "" });
    const pinned = h("input", { id: "edit-pinned", type: "checkbox", checked: memory.pinned });
    const wrong = h("p", { class: "bad", role: "alert" });
    const box = h("dialog", { "aria-labelledby": "edit-title" },
      h("h2", { id: "edit-title" }, "Correct this memory"),
      h("form", { class: "stack", onsubmit: async (event) => {
        event.preventDefault();
        const changes = {};
        if (text.value !== memory.text) changes.text = text.value;
        if (pinned.checked !== memory.pinned) changes.pinned = pinned.checked;
        if (fact) {
          if (type.value !== memory.type) changes.type = type.value;
          if (key.value !== (memory.key ?? "")) changes.key = key.value || null;
          if (value.value !== (memory.value ?? "")) changes.value = value.value || null;
          if (until.value !== (memory.valid_to?.slice(0, 10) ?? "")) changes.valid_to = until.value ? `${until.value}T00:00:00Z` : null;
        }
        try {
          if (Object.keys(changes).length) await this.#change(memory, changes);
          box.close();
        } catch (error) {
          wrong.textContent = error.message;
        }
      } },
      field("text", "What is remembered", text),
      fact && h("div", { class: "row" }, field("type", "Type", type), field("key", "Key", key), field("value", "Value", value), field("until", "Was true until", until)),
      h("div", { class: "row middle" }, pinned, h("label", { for: "edit-pinned" }, "Always bring this to mind")),
      wrong,
      h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Save"),
        h("button", { type: "button", onclick: () => box.close() }, "Cancel"))));
    this.#open(box);
    text.focus();
  }
}

/** Take along, bring back, erase: the long works, each with its progress. */
export function wholes(base, name, { bringBack = false, eraseLabel = "Erase everything", onErased = () => {} } = {}) {
  const bar = h("progress", { hidden: true, "aria-label": "Progress" });
  const told = h("p", { class: "quiet", role: "status" });
  const busy = async (text, work) => {
    bar.hidden = false;
    bar.removeAttribute("value");
    told.textContent = text;
    try { return await work(); } finally { bar.hidden = true; }
  };
  const takeAlong = (event) => doing(event.target, () => busy("Collecting …", async () => {
    const blob = await lines(`${base}/memories/export`, (n) => { told.textContent = `Collecting … ${n} memories`; });
    save(blob, `${name.replace(/[^\w.-]+/g, "_")}.ndjson`);
    told.textContent = "Everything is in the file that was saved.";
  }));
  const file = bringBack && h("input", { id: "bring-back", type: "file", accept: ".ndjson,.jsonl", onchange: (event) => doing(event.target, async () => {
    const [chosen] = event.target.files;
    if (!chosen) return;
    const all = (await chosen.text()).split("\n").filter((line) => line.trim());
    let done = 0;
    await busy("Bringing back …", async () => {
      bar.max = all.length;
      for (let start = 0; start < all.length; start += 500) {
        const answer = await post(`${base}/memories/import`, all.slice(start, start + 500).join("\n"), "application/x-ndjson");
        done += answer.imported;
        bar.value = Math.min(all.length, start + 500);
      }
    });
    told.textContent = `${done} memories were brought back.`;
    onErased();
  }) });
  const receipt = h("div", { "aria-live": "polite" });
  const erase = (event) => doing(event.target, async () => {
    if (!(await confirmed(`${eraseLabel}?`, "This cannot be undone: every memory, everything waiting, every receipt. Take a copy along first if it may be needed.", eraseLabel))) return;
    const done = await busy("Erasing …", () => ask("DELETE", `${base}/memories`));
    told.textContent = "";
    const verified = h("div");
    put(receipt, h("div", { class: "card" }, h("h3", {}, done.completed ? "Erased" : "Erasing goes on"),
      h("p", {}, "Receipt ", h("code", {}, done.id), ": ", Object.entries(done.counts).map(([n, c]) => `${c} ${n}`).join(", ") || "nothing was kept"),
      h("button", { type: "button", onclick: (e) => doing(e.target, async () => {
        const again = await ask("GET", `${base}/erasures/${done.id}?verify=true`);
        const left = Object.entries(again.remaining).filter(([, c]) => c);
        put(verified, h("p", { class: left.length ? "bad" : "good" }, left.length ? `Left: ${left.map(([n, c]) => `${c} in ${n}`).join(", ")}` : "Looked again: nothing is left anywhere."));
      }) }, "Look again"), verified));
    onErased();
  });
  return h("section", { "aria-label": "All of it" }, h("h2", {}, "All of it"),
    h("div", { class: "row middle" },
      h("button", { type: "button", onclick: takeAlong }, "Take along (export)"),
      bringBack && h("label", { for: "bring-back" }, "Bring back:"), file,
      h("button", { type: "button", class: "danger", onclick: erase }, eraseLabel)),
    bar, told, receipt);
}
