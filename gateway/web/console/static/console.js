// Loads the script of the page that is open.
import { h, put } from "./dom.js";

const main = document.getElementById("main");
const page = document.getElementById("page");
try {
  const { show } = await import(`./page-${main.dataset.page}.js`);
  await show(page, new URLSearchParams(location.search));
} catch (error) {
  put(page, h("p", { class: "bad", role: "alert" }, error.message));
}
