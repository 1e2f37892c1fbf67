// Everyone known, by the beginning of a name.
import { ask, pageOf } from "./api.js";
import { h, put, say, table } from "./dom.js";

const PAGE = 100;

export async function show(page) {
  const people = h("div");
  const prefix = h("input", { id: "prefix", type: "search", autocomplete: "off" });
  const app = h("input", { id: "app", autocomplete: "off", placeholder: "any" });
  let users = [];
  const more = h("button", { type: "button", hidden: true, onclick: () => load(false) }, "Show more");
  async function load(anew) {
    const params = new URLSearchParams({ limit: PAGE });
    if (prefix.value.trim()) params.set("prefix", prefix.value.trim());
    if (app.value.trim()) params.set("app", app.value.trim());
    const last = users[users.length - 1];
    if (!anew && last) params.set("after", app.value.trim() ? last.user : `${last.app}/${last.user}`);
    try {
      const found = (await ask("GET", `/admin/v1/users?${params}`)).users;
      users = anew ? found : [...users, ...found];
      more.hidden = found.length < PAGE;
      put(people, table("Users", [
        { head: "User", wide: true, cell: (u) => h("a", { href: pageOf(u.app, u.user) }, u.user) },
        { head: "App", cell: (u) => u.app },
      ], users, "Nobody is known by such a name."));
    } catch (error) {
      say(error.message, "bad");
    }
  }
  put(page, h("form", { class: "row card", role: "search", onsubmit: (e) => { e.preventDefault(); load(true); } },
    h("div", { class: "field grow" }, h("label", { for: "prefix" }, "Name begins with"), prefix),
    h("div", { class: "field" }, h("label", { for: "app" }, "App"), app),
    h("button", { type: "submit" }, "Search")),
  h("h2", {}, "People"), people, more);
  await load(true);
}
