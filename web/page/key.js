// The API key that a server may require. This tab remembers it until it is closed; other tabs
// and other pages do not see it.
import { el } from "./dom.js";

const NAME = "mien-api-key";

let key = stored();
let asking = null; // the promise of the dialog that is open
let declined = false; // whether the user closed the dialog

function stored() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return ""; // the browser blocks storage; the key is then forgotten on a reload
  }
}

/** apiKey returns the key to send, or "". */
export const apiKey = () => key;

/**
 * askForKey asks the user for a key, because of the server's message. It returns a promise of
 * whether there is a new key. Calls that are refused at the same time share one dialog, and once
 * the user has closed it, there is none until askAgain is called.
 */
export function askForKey(message) {
  if (declined) return Promise.resolve(false);
  asking ??= showDialog(message).then((entered) => {
    asking = null;
    declined = !entered;
    if (entered) keep(entered);
    return Boolean(entered);
  });
  return asking;
}

/** askAgain lets askForKey ask, after the user has declined and then wants to try again. */
export function askAgain() {
  declined = false;
}

function keep(entered) {
  key = entered;
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // see stored
  }
}

// showDialog returns a promise of the key that was entered, or of "".
function showDialog(message) {
  return new Promise((resolve) => {
    const input = el("input", { type: "password", id: "api-key", required: true, pattern: "[!-~]+", title: "A key has no spaces", autocomplete: "off", spellcheck: false, autofocus: true });
    const cancel = el("button", { type: "button" }, "Cancel");
    const dialog = el(
      "dialog",
      { className: "ask", "aria-labelledby": "key-title", "aria-describedby": "key-lines" },
      el(
        "form",
        { method: "dialog" },
        el("h2", { id: "key-title" }, "This server requires an API key"),
        el("div", { id: "key-lines" }, el("p", {}, message), el("p", {}, "Ask the server’s operator for a key. This tab remembers it until it is closed.")),
        el("label", { htmlFor: "api-key" }, "API key"),
        input,
        el("div", { className: "actions" }, cancel, el("button", { type: "submit", value: "use" }, "Use this key")),
      ),
    );
    cancel.onclick = () => dialog.close();
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "use" ? input.value : "");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
