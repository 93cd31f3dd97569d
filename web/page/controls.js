// The controls beside and below the image: confidence, models, the smallest face, the view.
import { announceFacesSoon } from "./announcements.js";
import { $, el } from "./dom.js";
import { toHundredths } from "./format.js";
import { setTyping, thresholdChanged } from "./redraw.js";
import { requestAll } from "./requests.js";
import { clearSelection, panes } from "./stage.js";
import { chosenModel, MIN_CONFIDENCE, state } from "./state.js";

const TYPING_PAUSE = 350; // milliseconds after the last key before a number counts

/** listenToControls wires the controls. */
export function listenToControls() {
  listenToThreshold();
  listenToModels();
  listenToMinFaceSize();
  listenToOrientation();
  listenToView();
}

/**
 * setModels offers the server's models. It chooses those that are wanted by name, or else the
 * default one: see readAddress.
 */
export function setModels(models, wanted) {
  state.models = models;
  const named = (name) => models.find((model) => model.name === name);
  state.model = (named(wanted.model) ?? models.find((model) => model.default) ?? models[0]).name;
  state.compare = named(wanted.compare)?.name ?? "";
  $("model").replaceChildren(...models.map(option));
  drawCompare();
  const isSingle = models.length < 2;
  $("model").disabled = $("compare").disabled = isSingle;
  $("compare-note").hidden = !isSingle;
  $("model").value = state.model;
  if (wanted.threshold === null) resetThreshold();
  else setThreshold(Math.max(wanted.threshold, MIN_CONFIDENCE), true);
  state.minFaceSize = wanted.minFaceSize;
  $("smallest").value = wanted.minFaceSize || "";
  state.anyOrientation = $("any-orientation").checked = wanted.anyOrientation;
}

const option = ({ name }) => el("option", { value: name }, name);

// drawCompare offers the models that are not chosen.
function drawCompare() {
  if (state.compare === state.model) state.compare = "";
  $("compare").replaceChildren(el("option", { value: "" }, "none"), ...state.models.filter((model) => model.name !== state.model).map(option));
  $("compare").value = state.compare;
}

function listenToThreshold() {
  $("confidence").oninput = () => setThreshold(Number($("confidence").value), true);
  $("confidence-reset").onclick = () => {
    resetThreshold();
    $("confidence").focus();
  };
}

function setThreshold(threshold, isChosen) {
  Object.assign(state, { threshold, thresholdChosen: isChosen });
  thresholdChanged();
  announceFacesSoon();
}

// resetThreshold sets the default of the model chosen.
function resetThreshold() {
  const model = chosenModel();
  if (model) setThreshold(toHundredths(model.defaultMinConfidence), false);
}

function listenToModels() {
  $("model").onchange = () => {
    state.model = $("model").value;
    drawCompare();
    if (!state.thresholdChosen) resetThreshold();
    requestAll();
  };
  $("compare").onchange = () => {
    state.compare = $("compare").value;
    requestAll();
  };
}

function listenToMinFaceSize() {
  const field = $("smallest");
  let timer = 0;
  field.oninput = () => {
    clearTimeout(timer);
    setTyping(true);
    timer = setTimeout(() => {
      state.minFaceSize = Math.min(Number(field.max), Math.trunc(Number(field.value)) || 0);
      requestAll();
      setTyping(false);
    }, TYPING_PAUSE);
  };
}

function listenToOrientation() {
  const field = $("any-orientation");
  field.onchange = () => {
    state.anyOrientation = field.checked;
    requestAll();
  };
}

function listenToView() {
  const toggle = () => {
    $("panes").classList.toggle("no-points", !$("points").checked);
    $("panes").classList.toggle("no-numbers", !$("numbers").checked);
  };
  $("points").onchange = $("numbers").onchange = toggle;
  toggle(); // browsers keep the state of checkboxes when the page is reloaded
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) clearSelection();
  });
  $("in").onclick = () => panes[0].zoomIn();
  $("out").onclick = () => panes[0].zoomOut();
  $("fit").onclick = () => panes[0].zoomTo(1);
}
