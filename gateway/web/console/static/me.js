// A person's own page. The link's token stands behind the #; it is handed in once for a cookie
// that no script can read, and taken out of the address.
import { ask, post, setWord } from "./api.js";
import { doing, h, put } from "./dom.js";
import { Memories, wholes } from "./memories.js";

const page = document.getElementById("page");
try {
  const token = location.hash.slice(1);
  let session;
  if (token) {
    history.replaceState(null, "", location.pathname);
    session = await post("/me/session", token, "text/plain");
  } else session = await ask("GET", "/me/session");
  setWord(session.csrf);
  const memories = new Memories("/v1");
  const leave = document.getElementById("leave");
  leave.hidden = false;
  leave.addEventListener("click", () => doing(leave, async () => {
    await ask("DELETE", "/me/session");
    put(page, h("p", {}, "This page is closed. The link opens it again until it ends."));
    leave.hidden = true;
  }));
  put(page,
    h("p", {}, "You are ", h("strong", {}, session.user), ". This is what is remembered of you, to answer you better; what you said a moment ago may still be on its way here. Each entry says until when it is kept, if not for good. Correct what is wrong, and forget what should not be known: it counts from your next message on."),
    memories.element,
    wholes("/v1", session.user, { eraseLabel: "Reset: forget everything about me", onErased: () => memories.load() }));
  await memories.load();
} catch (error) {
  put(page, h("p", { class: "bad", role: "alert" }, error.message));
}
