// The list of faces beside the image.
import { $, el } from "./dom.js";
import { box, LANDMARK_NAMES, landmarks } from "./faces.js";
import { exact, percent, plural } from "./format.js";
import { countShown, modelsOnView, state, thresholdOf } from "./state.js";
import { noFaces, TRUNCATED } from "./wording.js";

const CROP_SIDE = 88; // pixels of the small image of a face

const lists = new Map(); // by pane, the faces of an entry: {entry, rows, heading, nothing, truncated}

/** drawList shows the faces above the threshold, of each pane in use. The rows call on.select(pane, index) and on.hover(pane, index). */
export function drawList(entries, panes, on) {
  $("faces-title").textContent = state.cameraOn ? "Faces, live" : "Faces";
  if (state.cameraOn || !state.current) {
    lists.clear();
    const text = state.cameraOn ? "Keep a frame to see the numbers of each face." : "Choose, paste or drop an image, or turn on the camera.";
    $("faces").replaceChildren(el("li", { className: "nothing" }, text));
    return;
  }
  const nodes = panes.flatMap((pane, i) => nodesOf(pane, entries[i], panes.length > 1 ? modelsOnView()[i] : "", on));
  // Rows that are there already stay, and keep the focus.
  const same = $("faces").childElementCount === nodes.length && nodes.every((node, i) => $("faces").children[i] === node);
  if (!same) $("faces").replaceChildren(...nodes);
}

function nodesOf(pane, entry, heading, on) {
  const list = listOf(pane, entry);
  const n = countShown(entry.answer);
  const results = entry.answer?.results ?? [];
  // Rows are made when the threshold first reaches them.
  for (let i = list.rows.length; i < n; i++) {
    list.rows.push(newRow(results[i], i, { select: () => on.select(pane, i), hover: (isOver) => on.hover(pane, isOver ? i : -1) }));
  }
  // The slider calls this for each frame, so touch only what changes.
  for (let i = Math.min(n, list.shown); i < Math.max(n, list.shown); i++) list.rows[i].node.hidden = i >= n;
  list.shown = n;
  list.heading.textContent = heading && `${heading}: ${plural(n, "face")}`;
  list.nothing.textContent = noFaces(results, thresholdOf(entry.answer?.model));
  return [
    ...(heading ? [list.heading] : []),
    ...list.rows.map((row) => row.node),
    ...(entry.answer && !n ? [list.nothing] : []),
    ...(entry.answer?.truncated ? [list.truncated] : []),
  ];
}

function listOf(pane, entry) {
  let list = lists.get(pane);
  if (!list || list.entry !== entry) {
    list = { entry, rows: [], shown: 0, heading: el("li", { className: "heading" }), nothing: el("li", { className: "nothing" }), truncated: el("li", { className: "nothing" }, TRUNCATED) };
    lists.set(pane, list);
  }
  return list;
}

/** forgetList drops the rows of a pane. */
export const forgetList = (pane) => lists.delete(pane);

/** refreshCrops draws the small images of all faces again, now that the image on view is loaded. */
export const refreshCrops = () => lists.forEach(({ rows }) => rows.forEach((row) => row.drawCrop()));

/** setAlone marks the rows of the faces of a pane that only one of two models found, and dims those outside of a part: alone and dimmed have a boolean for each face, or are null. */
export function setAlone(pane, alone, dimmed) {
  lists.get(pane)?.rows.forEach((row, i) => {
    row.node.classList.toggle("alone", alone?.[i] ?? false);
    row.node.classList.toggle("dimmed", dimmed?.[i] ?? false);
  });
}

/** hoverRow highlights the row of a pane's face; -1 highlights none. */
export const hoverRow = (pane, i) => lists.get(pane)?.rows.forEach((row, j) => row.node.classList.toggle("hovered", j === i));

/** selectRow selects the row of a pane's face and shows the face's numbers; -1 selects none. */
export function selectRow(pane, i) {
  for (const [owner, { rows }] of lists) rows.forEach((row, j) => setSelected(row, owner === pane && j === i));
}

function setSelected({ node, face }, isSelected) {
  node.classList.toggle("selected", isSelected);
  node.firstChild.setAttribute("aria-pressed", String(isSelected));
  node.querySelector("dl")?.remove();
  if (!isSelected) return;
  node.append(numbersOf(face));
  node.scrollIntoView({ block: "nearest" });
}

// newRow returns the row of a face, {node, face, drawCrop}, and has its crop drawn.
function newRow(face, i, on) {
  const { width, height } = box(face);
  const crop = el("canvas", { width: CROP_SIDE, height: CROP_SIDE, className: "crop", "aria-hidden": "true" });
  const button = el(
    "button",
    { type: "button", className: "face-row", "aria-pressed": "false", onclick: on.select },
    crop,
    el("span", { className: "index" }, el("span", { className: "unseen" }, "Face "), String(i + 1)),
    el("span", { className: "conf" }, percent(face.confidence)),
    el("span", { className: "dim" }, `${width} × ${height} px`),
  );
  const node = el("li", { className: "row" }, button);
  for (const event of ["pointerenter", "focusin"]) node.addEventListener(event, () => on.hover(true));
  for (const event of ["pointerleave", "focusout"]) node.addEventListener(event, () => on.hover(false));
  const row = { node, face, drawCrop: () => drawCropWhenIdle(crop, face) };
  row.drawCrop();
  return row;
}

// numbersOf lists everything that is known of a face.
function numbersOf(face) {
  const { x, y, width, height } = box(face);
  const known = [
    ["box", `${x}, ${y} to ${x + width}, ${y + height}`],
    ["confidence", exact(face.confidence)],
    ...landmarks(face).map(([key, p]) => [LANDMARK_NAMES[key], `${p.x}, ${p.y}`]),
  ];
  return el("dl", { className: "numbers" }, ...known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function drawCropWhenIdle(canvas, face) {
  canvas.setAttribute("aria-busy", "true");
  whenIdle(() => {
    drawCrop(canvas, state.current?.element, face);
    canvas.removeAttribute("aria-busy");
  });
}

function drawCrop(canvas, element, face) {
  if (!element) return;
  const { x, y, width, height } = box(face);
  const side = Math.max(width, height) * 1.3;
  const c = canvas.getContext("2d");
  c.imageSmoothingQuality = "high";
  c.drawImage(element, x + (width - side) / 2, y + (height - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
}

// whenIdle runs short tasks one after the other, when the browser has time.
const tasks = [];

function whenIdle(task) {
  tasks.push(task);
  if (tasks.length === 1) runNext();
}

function runNext() {
  const run = () => {
    tasks.shift()?.();
    if (tasks.length) runNext();
  };
  if (window.requestIdleCallback) requestIdleCallback(run, { timeout: 500 });
  else setTimeout(run, 8);
}
