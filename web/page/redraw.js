// When the page is drawn, and whether it is complete. Modules that change the state call
// viewChanged; page.js registers what is drawn.
import { $ } from "./dom.js";
import { isGalleryComplete, isViewComplete } from "./state.js";

let draw = { view() {}, faces() {} };
let isScheduled = false; // the view is drawn in the next frame
let facesFrame = 0; // the request of a frame in which the faces are drawn, or 0
let reading = 0; // images that are being read
let isTyping = false;

/** onDraw registers what draws the whole view, and what draws all that depends on the threshold. */
export function onDraw(functions) {
  draw = functions;
}

/** drawView draws the whole view now. */
export const drawView = () => draw.view();

/** drawFaces draws now what depends on the threshold. */
export const drawFaces = () => draw.faces();

/** viewChanged draws the whole view in the next frame. */
export function viewChanged() {
  if (isScheduled) return;
  isScheduled = true;
  updateBusy();
  requestAnimationFrame(() => {
    isScheduled = false;
    draw.view();
  });
}

/** thresholdChanged draws in the next frame what depends on the threshold. */
export function thresholdChanged() {
  cancelAnimationFrame(facesFrame);
  facesFrame = requestAnimationFrame(() => {
    facesFrame = 0;
    draw.faces();
    updateBusy();
  });
  updateBusy();
}

/** setTyping says whether the user is typing an option that does not count yet. */
export function setTyping(typing) {
  isTyping = typing;
  updateBusy();
}

/** whileReading returns what the promise of an image resolves to. The view is not complete until then. */
export async function whileReading(promise) {
  reading++;
  updateBusy();
  try {
    return await promise;
  } finally {
    reading--;
    viewChanged(); // after the caller has used the result, which it does at once
  }
}

/** isReading reports whether an image is being read. */
export const isReading = () => reading > 0;

/**
 * updateBusy sets aria-busy of the view and of the gallery, for screen readers and programs.
 * It is true from the moment that the user chooses something until everything that was
 * requested has been answered, or has failed, and is drawn.
 */
export function updateBusy() {
  const isBusy = isScheduled || facesFrame || isTyping || isReading() || !isViewComplete();
  $("panes").setAttribute("aria-busy", String(Boolean(isBusy)));
  $("thumbs").setAttribute("aria-busy", String(!isGalleryComplete()));
}
