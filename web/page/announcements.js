// Announces changes to screen readers, in the page's live region.
import { $ } from "./dom.js";
import { countShown, entriesOnView, modelsOnView, state, thresholdOf } from "./state.js";
import { facesFound } from "./wording.js";

const QUIET = 400; // milliseconds without a change before the faces are announced
let timer;

/** announce has a text read out. */
export function announce(text) {
  $("announce").textContent = text;
}

/** announceFacesSoon announces how many faces are shown, once nothing has changed for a moment. */
export function announceFacesSoon() {
  clearTimeout(timer);
  timer = setTimeout(announceFaces, QUIET);
}

function announceFaces() {
  const entries = entriesOnView();
  if (!entries.every((entry) => entry.answer)) return;
  const counts = entries.map((entry) => countShown(entry.answer));
  announce(facesFound({ counts, models: modelsOnView(), thresholds: modelsOnView().map(thresholdOf), place: state.cameraOn ? "the camera’s image" : state.current.name }));
}
