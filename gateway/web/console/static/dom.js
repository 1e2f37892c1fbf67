// Making elements. Text is always text: nothing that somebody said is ever read as HTML.
const SVG = "http://www.w3.org/2000/svg";

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !(element instanceof SVGElement) && typeof value !== "string") {
      element[name] = value;
    } else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** h("p", {class: "quiet"}, "text", other) makes an HTML element. */
export const h = (tag, props, ...children) => filled(document.createElement(tag), props, children);

/** As h, for SVG. */
export const s = (tag, props, ...children) =>
  filled(document.createElementNS(SVG, tag), props, children);

/** Put these children in the place of what is there. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((c) => c || c === 0));
  return element;
}

/** Say something to whoever looks or listens. */
export function say(text, kind = "") {
  const said = document.getElementById("said");
  said.textContent = text;
  said.className = kind;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { said.textContent = ""; }, 6000);
}

/** Run what a button does; meanwhile it cannot be pressed again, and errors are said. */
export async function doing(button, work) {
  button.disabled = true;
  try {
    return await work();
  } catch (error) {
    say(error.message, "bad");
    return undefined;
  } finally {
    button.disabled = false;
  }
}

/** A table in a region of its own that scrolls on narrow screens. */
export function table(label, columns, rows, none = "There is nothing here yet.") {
  if (!rows.length) return h("p", { class: "quiet" }, none);
  const heads = columns.map((c) => h("th", { scope: "col", class: c.number ? "number" : null }, c.head));
  const cells = (row) => columns.map((c, i) =>
    h(i ? "td" : "th", { class: c.number ? "number" : c.wide ? "wide" : c.name ? "name" : null, scope: i ? null : "row" }, c.cell(row)));
  return h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
    h("table", {}, h("thead", {}, h("tr", {}, heads)),
      h("tbody", {}, rows.map((row) => h("tr", {}, cells(row))))));
}

export const badge = (text, kind = "") => h("span", { class: `badge ${kind}` }, text);

const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
export const day = (text) => (text ? DATE.format(new Date(text)) : "");
export const time = (text) =>
  text ? h("time", { datetime: text }, TIME.format(new Date(text))) : "";
export const number = (n) => (n === null || n === undefined ? "–" : n.toLocaleString());
export const ms = (n) => (n === null || n === undefined ? "–" : `${n >= 100 ? Math.round(n) : n.toFixed(1)} ms`);

/** Ask for a yes in a dialog; resolves to true or false. */
export function confirmed(title, text, yes, { danger = true } = {}) {
  return new Promise((resolve) => {
    const box = h("dialog", { "aria-labelledby": "ask-title" },
      h("h2", { id: "ask-title" }, title), h("p", {}, text),
      h("div", { class: "row" },
        h("button", { type: "button", class: danger ? "danger" : "main", onclick: () => box.close("yes") }, yes),
        h("button", { type: "button", autofocus: true, onclick: () => box.close("") }, "Cancel")));
    box.addEventListener("close", () => { box.remove(); resolve(box.returnValue === "yes"); });
    document.body.append(box);
    box.showModal();
  });
}

/** Ask again and again while the page is looked at. */
export function live(work, every_ms) {
  let timer = 0;
  const round = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    try {
      await work();
    } catch (error) {
      say(error.message, "bad");
    }
    timer = setTimeout(round, every_ms);
  };
  document.addEventListener("visibilitychange", round);
  return round();
}
