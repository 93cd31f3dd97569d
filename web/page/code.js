// The tabs with the page's call as code.
import { announce } from "./announcements.js";
import { $, el } from "./dom.js";
import { toHundredths } from "./format.js";
import { apiKey } from "./key.js";
import { LANGUAGES, snippets } from "./snippets.js";
import { chosenModel, state } from "./state.js";

const NOTICE = 2000; // milliseconds that the button says what it did

let language = LANGUAGES[0][0];

/** listenForCode makes the tabs and wires the button that copies. */
export function listenForCode() {
  $("tabs").replaceChildren(...LANGUAGES.map(([key, title]) => newTab(key, title)));
  $("copy").onclick = copyCode;
  chooseTab(language);
}

function newTab(key, title) {
  const tab = el("button", { type: "button", role: "tab", id: "tab-" + key, "aria-controls": "snippet" }, title);
  tab.addEventListener("click", () => chooseTab(key));
  tab.addEventListener("keydown", (event) => moveByKey(event, key));
  return tab;
}

function moveByKey(event, key) {
  const keys = LANGUAGES.map(([k]) => k);
  const to = { ArrowRight: keys.indexOf(key) + 1, ArrowLeft: keys.indexOf(key) - 1, Home: 0, End: keys.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  chooseTab(keys.at(to % keys.length));
  $("tab-" + language).focus();
}

function chooseTab(key) {
  language = key;
  for (const [k] of LANGUAGES) {
    $("tab-" + k).setAttribute("aria-selected", String(k === key));
    $("tab-" + k).tabIndex = k === key ? 0 : -1;
  }
  $("snippet").setAttribute("aria-labelledby", "tab-" + key);
  drawCode();
}

/** drawCode shows the call for the image on view and the present options. */
export function drawCode() {
  const image = state.cameraOn ? null : state.current;
  const sample = image?.source === "sample" ? `${location.origin}/page/${image.name}` : "";
  const code = snippets({ origin: location.origin, name: image?.name ?? "photo.jpg", sample, options: changedOptions(), hasKey: Boolean(apiKey()) })[language];
  if ($("code").textContent !== code) $("code").textContent = code;
}

// changedOptions returns the DetectOptions that differ from the server's defaults.
function changedOptions() {
  const model = chosenModel();
  const options = {};
  if (model && state.threshold !== toHundredths(model.defaultMinConfidence)) options.minConfidence = state.threshold;
  if (state.minFaceSize) options.minFaceSize = state.minFaceSize;
  if (state.anyOrientation) options.anyOrientation = true;
  if (model && !model.default) options.model = model.name;
  return options;
}

async function copyCode() {
  let [title, text] = ["Copied", "Copied"];
  try {
    await navigator.clipboard.writeText($("code").textContent);
  } catch {
    // Without HTTPS or permission, the user copies what is selected.
    getSelection().selectAllChildren($("code"));
    [title, text] = ["Selected", "Selected. Copy it with the keyboard."];
  }
  $("copy").textContent = title;
  announce(text);
  setTimeout(() => ($("copy").textContent = "Copy"), NOTICE);
}
