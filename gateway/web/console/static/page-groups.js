// With memory, in its shadow, and without: what can be seen of each from outside.
import { ask } from "./api.js";
import { badge, h, number, put, table } from "./dom.js";

const NAMES = { memory: "With memory", holdout: "Without (hold-out)", shadow: "Recalled, not injected (shadow)" };
const per = (a, b, digits = 2) => (b ? (a / b).toFixed(digits) : "–");
const percent = (a, b) => (b ? `${((100 * a) / b).toFixed(1)}%` : "–");

export async function show(page, params) {
  const days = h("select", { id: "days", onchange: (e) => load(e.target.value) }, ["1", "7", "14", "30", "90"].map((d) => h("option", { value: d, selected: d === (params.get("days") ?? "14") }, d)));
  const found = h("div");
  async function load(n) {
    const { apps } = await ask("GET", `/console/api/groups?days=${n}`);
    put(found, apps.map((a) => [h("h2", {}, a.app, " ", badge(`mode ${a.mode}`), a.mode === "holdout" ? badge(`${percent(a.holdout_share, 1)} held out`) : null),
      table(`Groups of ${a.app}`, [
        { head: "Group", cell: ([name]) => NAMES[name] },
        { head: "People", number: true, cell: ([, g]) => number(g.people) },
        { head: "Conversations", number: true, cell: ([, g]) => number(g.conversations) },
        { head: "Exchanges a conversation", number: true, cell: ([, g]) => per(g.exchanges, g.conversations) },
        { head: "Asked again", number: true, cell: ([, g]) => percent(g.repeated, g.exchanges) },
        { head: "Thumbs up", number: true, cell: ([, g]) => number(g.up) },
        { head: "Thumbs down", number: true, cell: ([, g]) => number(g.down) },
        { head: "Share up", number: true, cell: ([, g]) => percent(g.up, g.up + g.down) },
      ], Object.entries(a.groups), "Nothing was counted. Conversations are counted where memory.mode is \"holdout\" or \"shadow\"; thumbs come by POST /v1/feedback.")]).flat());
  }
  put(page, h("p", { class: "quiet" }, "Only counts are kept, never who. Fewer questions asked again and more thumbs up speak for memory, if both groups are large; what longer conversations speak for depends on your bot."),
    h("div", { class: "row middle" }, h("label", { for: "days" }, "Days"), days), found);
  await load(days.value);
}
