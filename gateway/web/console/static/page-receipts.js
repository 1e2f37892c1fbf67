// From an answer to its receipt: by the id in its head, or by whose it was.
import { ask, pageOf, receiptPage } from "./api.js";
import { badge, doing, h, ms, put, table, time } from "./dom.js";

export async function show(page, params) {
  const id = h("input", { id: "receipt", autocomplete: "off", placeholder: "rcp_…" });
  const user = h("input", { id: "user", autocomplete: "off", value: params.get("user") ?? "" });
  const app = h("input", { id: "app", autocomplete: "off", value: params.get("app") ?? "", placeholder: "default" });
  const found = h("div");
  async function load() {
    const asked = new URLSearchParams();
    if (user.value.trim()) asked.set("user", user.value.trim());
    if (app.value.trim()) asked.set("app", app.value.trim());
    const { receipts } = await ask("GET", `/console/api/receipts?${asked}`);
    put(found, table("Receipts", [
      { head: "Asked", wide: true, cell: (r) => h("a", { href: receiptPage(r.app, r.user, r.id) }, r.query || "(no words kept)") },
      { head: "User", name: true, cell: (r) => h("a", { href: pageOf(r.app, r.user) }, r.user) },
      { head: "At", cell: (r) => time(r.at) },
      { head: "Status", cell: (r) => badge(r.status, r.status === "ok" ? "good" : "warn") },
      { head: "Injected", number: true, cell: (r) => r.injected.length },
      { head: "Took", number: true, cell: (r) => ms(r.latency_ms) },
      { head: "Thumb", cell: (r) => r.feedback ?? "" },
    ], receipts, "No receipts are kept. They end after retention.receipts, and with their user."));
  }
  put(page,
    h("form", { class: "row card", onsubmit: (e) => { e.preventDefault(); doing(e.submitter, async () => {
      const wanted = id.value.trim();
      const whose = await ask("GET", `/console/api/receipts/${encodeURIComponent(wanted)}`);
      location.assign(receiptPage(whose.app, whose.user, wanted));
    }); } },
    h("div", { class: "field grow" }, h("label", { for: "receipt" }, "Receipt (X-Memory-Receipt-Id of the answer)"), id),
    h("button", { type: "submit", class: "main" }, "Why did it say that?")),
    h("h2", {}, "Latest"),
    h("form", { class: "row", onsubmit: (e) => { e.preventDefault(); doing(e.submitter, load); } },
      h("div", { class: "field" }, h("label", { for: "user" }, "User"), user),
      h("div", { class: "field" }, h("label", { for: "app" }, "App"), app),
      h("button", { type: "submit" }, "Show")), h("br"), found);
  await load();
}
