// The settings in force. Secrets show only that they are set.
import { ask } from "./api.js";
import { badge, h, put, table } from "./dom.js";

const shown = (value) => (value === null ? h("span", { class: "quiet" }, "absent") : h("code", {}, typeof value === "string" ? value : JSON.stringify(value)));

export async function show(page) {
  const { settings, apps, notes, versions } = await ask("GET", "/console/api/settings");
  const find = h("input", { id: "filter", type: "search", oninput: draw });
  const only = h("input", { id: "only", type: "checkbox", onchange: draw });
  const rows = h("div");
  function draw() {
    const words = find.value.trim().toLowerCase();
    put(rows, table("Settings in force", [
      { head: "Setting", cell: (r) => h("code", {}, r.name) }, { head: "Value", wide: true, cell: (r) => shown(r.value) }, { head: "Changed", cell: (r) => (r.changed ? badge("yes", "good") : "") },
    ], settings.filter((r) => r.name.includes(words) && (!only.checked || r.changed)), "No setting is called so."));
  }
  draw();
  put(page,
    h("h2", {}, "Decided at the start"), h("dl", { class: "card" }, Object.entries({ ...notes, ...Object.fromEntries(Object.entries(versions).map(([n, v]) => [`version of ${n}`, v])) }).map(([name, note]) => [h("dt", { class: "quiet small" }, name), h("dd", {}, note)])),
    h("h2", {}, "Settings"),
    h("div", { class: "row middle" }, h("label", { for: "filter" }, "Name"), find, only, h("label", { for: "only" }, "Only what was changed")), h("br"), rows,
    ...Object.entries(apps).flatMap(([app, own]) => [h("h2", {}, `App ${app}`), table(`Settings of ${app}`, [{ head: "Setting", cell: (r) => h("code", {}, r.name) }, { head: "Value", wide: true, cell: (r) => shown(r.value) }], own)]));
}
