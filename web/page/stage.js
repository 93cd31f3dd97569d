// The panes: which image, whose faces and which selection they show.
import { announceFacesSoon } from "./announcements.js";
import { $ } from "./dom.js";
import { forgetList, hoverRow, selectRow } from "./facelist.js";
import { secondElement } from "./images.js";
import { Pane } from "./pane.js";
import { modelsOnView, state } from "./state.js";

const MIN_GAIN = 1.1; // by which an image must be larger for two panes to be above each other

const handlers = {
  select: (pane, i) => selectFace(pane, pane.selected === i ? -1 : i),
  hover: hoverFace,
  view: (pane, view) => panes.filter((other) => other !== pane && other.root.isConnected).forEach((other) => other.follow(view)),
};

/** panes are the two panes; the second one is used to compare models. */
export const panes = [new Pane(handlers), new Pane(handlers)];

const shown = new Map(); // by pane, what it shows: {image, entry}

/** panesOnView returns the panes in use, one for each of modelsOnView. */
export const panesOnView = () => panes.slice(0, modelsOnView().length);

/** toggleFace selects a face of a pane, in the pane and in the list, or clears the selection. */
export const toggleFace = handlers.select;

function selectFace(pane, i) {
  for (const other of panes) other.select(other === pane ? i : -1);
  selectRow(pane, i);
}

/** clearSelection selects no face. */
export function clearSelection() {
  const pane = panes.find((p) => p.selected >= 0);
  if (pane) selectFace(pane, -1);
}

/** hoverFace highlights the face of a pane that the user points at, in the pane and in the list; -1 is none. */
export function hoverFace(pane, i) {
  pane.hover(i);
  hoverRow(pane, i);
}

/** drawStage shows the image on view in the panes. entries are those on view. */
export function drawStage(entries) {
  const image = state.current;
  const used = panesOnView();
  if ($("panes").childElementCount !== used.length || used.some((pane) => !pane.root.isConnected)) $("panes").replaceChildren(...used.map((pane) => pane.root));
  $("panes").classList.toggle("two", used.length === 2);
  const isBlank = !image?.element && !entries.some((entry) => entry.answer);
  $("discard").hidden = !image;
  $("zoom").hidden = isBlank;
  $("stage").classList.toggle("blank", isBlank);
  $("live").hidden = true;
  for (const pane of image ? panes.filter((p) => !used.includes(p)) : panes) clear(pane);
  arrange();
  if (image) used.forEach((pane, i) => drawPane(pane, i, entries[i]));
}

// arrange puts two panes above each other if the image is clearly larger then.
function arrange() {
  const { clientWidth, clientHeight } = $("panes");
  const { width, height } = state.current ?? {};
  const beside = Math.min(clientWidth / 2 / width, clientHeight / height);
  const stacked = Math.min(clientWidth / width, clientHeight / 2 / height);
  $("panes").classList.toggle("stacked", stacked > MIN_GAIN * beside);
}

new ResizeObserver(arrange).observe($("panes"));

function drawPane(pane, i, entry) {
  const image = state.current;
  const models = modelsOnView();
  pane.setCaption(models.length > 1 ? models[i] : "");
  pane.root.classList.toggle("busy", Boolean(entry.pending));
  showImage(pane, i, entry);
  const before = shown.get(pane);
  // While another answer is pending, the faces of the last one stay.
  const isNew = before?.image !== image || (entry.answer && before.entry !== entry) || entry.error;
  if (!isNew) return;
  if (before?.image !== image) pane.zoom = 1;
  shown.set(pane, { image, entry });
  pane.setFaces(entry.answer?.results ?? []);
  pane.layout();
  if (entry.answer) announceFacesSoon();
}

function showImage(pane, i, entry) {
  const image = state.current;
  const { width, height } = entry.answer ?? image;
  if (width) pane.show(image.element && (i > 0 ? secondElement(image) : image.element), width, height);
  else if (image.unreadable || entry.error) pane.show(null, 0, 0);
}

// clear empties a pane, so that it does not keep an image in memory.
function clear(pane) {
  pane.setCaption("");
  if (!pane.media && !shown.has(pane)) return;
  pane.show(null, 0, 0);
  pane.setFaces([]);
  shown.delete(pane);
  forgetList(pane);
}

/** showVideo shows the camera in the first pane, and no faces yet. */
export function showVideo(video) {
  const [pane] = panes;
  $("panes").replaceChildren(pane.root);
  $("panes").classList.remove("two");
  $("stage").classList.remove("blank");
  $("zoom").hidden = $("discard").hidden = true; // the camera has its own tools
  pane.setCaption("");
  pane.root.classList.remove("busy");
  shown.delete(pane);
  pane.setFaces([]);
  pane.show(video, 16, 9);
}

/** leaveVideo makes the first pane ready for images again. */
export function leaveVideo() {
  panes[0].setMirrored(false);
  shown.delete(panes[0]);
}
