// Shows the message below the image, or in its place if there is none: errors, waiting, notes and the invitation to add an image.
import { announce } from "./announcements.js";
import { deviceOf } from "./device.js";
import { $, el } from "./dom.js";
import { messageFor } from "./messages.js";
import { drawView, isReading } from "./redraw.js";
import { entriesOnView, modelsOnView, state } from "./state.js";

let pageErrors = []; // of the page itself, such as a camera that cannot be started: see messageFor
let actions = {}; // what the buttons call, by the keys of messages.js

/** onMessageAction registers what the buttons of messages call. */
export function onMessageAction(functions) {
  actions = { closeError, ...functions };
}

/** showPageError shows an error of the page itself. buttons are actions other than to close it: see messageFor. */
export function showPageError(title, message, buttons) {
  pageErrors = [{ title, message, ...(buttons && { actions: buttons }) }];
  refresh();
}

/** clearPageErrors forgets the errors of the page itself. The caller draws. */
export function clearPageErrors() {
  pageErrors = [];
}

function closeError() {
  pageErrors.shift();
  refresh();
}

function refresh() {
  if (state.cameraOn) drawMessage();
  else drawView();
}

/** drawMessage shows the message that applies. While the camera is on, only errors of the page are shown. */
export function drawMessage() {
  const node = $("message");
  const message = messageFor({
    pageErrors,
    entries: state.cameraOn ? [] : entriesOnView(),
    image: state.cameraOn ? null : state.current,
    isEmpty: !state.current && !state.cameraOn && !isReading() && Boolean(state.model),
    device: deviceOf(navigator),
  });
  const content = message && card(message);
  // A message that has not changed stays, and its buttons keep the focus.
  const about = content ? [state.current?.id, modelsOnView(), state.minFaceSize, state.anyOrientation, content.textContent].join(" ") : "";
  if (node.dataset.about === about) return;
  node.dataset.about = about;
  node.hidden = !content;
  node.replaceChildren(...(content ? [content] : []));
  if (content) announce([...content.querySelectorAll(":scope > h2, :scope > p")].map((p) => p.textContent).join(" "));
}

function card({ kind, title, message, remedy, actions: buttons, details, isFolded }) {
  const cause = el("p", { className: remedy ? "cause" : "" }, message);
  const codes = details.length ? el("p", { className: "small" }, ...details.map((text) => el("code", {}, text))) : null;
  return el(
    "div",
    { className: "card " + kind },
    el("h2", {}, title),
    remedy ? el("p", { className: "remedy" }, remedy) : null,
    isFolded ? null : cause,
    el("div", { className: "actions" }, ...buttons.map(([label, key]) => el("button", { type: "button", onclick: () => actions[key]() }, label))),
    isFolded ? el("details", {}, el("summary", {}, "What the server says"), cause, codes) : codes,
  );
}
