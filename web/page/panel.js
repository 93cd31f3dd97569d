// What is told beside the picture: how sure the model is, each face, the time.
import { box, el, ms, overlap, percent, POINT_NAMES, points } from "./dom.js";
import { FLOOR } from "./server.js";

const BIN = 0.05;
const BINS = Math.round((1 - FLOOR) / BIN);

/** drawHistogram draws how many faces there are of each confidence, and which of them pass. */
export function drawHistogram(node, faces, threshold) {
  if (!node.childElementCount) node.append(...Array.from({ length: BINS }, () => el("i")));
  const bins = Array(BINS).fill(0);
  for (const face of faces) bins[Math.min(BINS - 1, Math.max(0, Math.floor((face.confidence - FLOOR) / BIN + 1e-9)))]++;
  const most = Math.max(1, ...bins);
  [...node.children].forEach((bar, i) => {
    // A single face among hundreds is yet to be seen.
    bar.style.height = (bins[i] ? 12 + 88 * Math.sqrt(bins[i] / most) : 0) + "%";
    bar.classList.toggle("in", FLOOR + (i + 1) * BIN > threshold + 1e-9);
  });
}

/**
 * pairs tells which faces of two lists are the same one: how many both have, and
 * for each of either list whether it stands alone.
 */
export function pairs(a, b) {
  const alone = [a.map(() => true), b.map(() => true)];
  let both = 0;
  a.forEach((face, i) => {
    let best = -1;
    let most = 0.4;
    b.forEach((other, j) => {
      const shared = overlap(face, other);
      if (alone[1][j] && shared > most) [best, most] = [j, shared];
    });
    if (best < 0) return;
    both++;
    alone[0][i] = alone[1][best] = false;
  });
  return { both, alone };
}

/**
 * faceRow makes a face's row of the list. image() is the picture, or null before it
 * is there, whereupon the row's crop() is to be called; on has select() and hover(yes).
 */
export function faceRow(face, i, image, on) {
  const b = box(face);
  const crop = el("canvas", { width: 88, height: 88, className: "crop", "aria-hidden": "true" });
  const button = el(
    "button",
    { type: "button", className: "face-row", "aria-pressed": "false", onclick: on.select },
    crop,
    el("span", { className: "index" }, el("span", { className: "unseen" }, "Face "), String(i + 1)),
    el("span", { className: "conf" }, percent(face.confidence)),
    el("span", { className: "dim" }, `${b.width} × ${b.height} px`),
  );
  const row = el("li", { className: "row" }, button);
  for (const event of ["pointerenter", "focusin"]) row.addEventListener(event, () => on.hover(true));
  for (const event of ["pointerleave", "focusout"]) row.addEventListener(event, () => on.hover(false));
  row.face = face;
  row.crop = () => {
    crop.setAttribute("aria-busy", "true");
    later(() => {
      drawCrop(crop, image(), face);
      crop.removeAttribute("aria-busy");
    });
  };
  row.crop();
  return row;
}

/** numbers makes the list of all that is known of a face. */
export function numbers(face) {
  const b = box(face);
  const known = [
    ["box", `${b.x}, ${b.y} to ${b.x + b.width}, ${b.y + b.height}`],
    ["confidence", face.confidence.toFixed(4)],
    ...points(face).map(([name, p]) => [POINT_NAMES[name], `${p.x}, ${p.y}`]),
  ];
  return el("dl", { className: "numbers" }, ...known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function drawCrop(canvas, img, face) {
  if (!img) return;
  const b = box(face);
  const side = Math.max(b.width, b.height) * 1.3;
  const c = canvas.getContext("2d");
  c.imageSmoothingQuality = "high";
  c.drawImage(img, b.x + (b.width - side) / 2, b.y + (b.height - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
}

// later does small things when the browser has time, one after the other.
const chores = [];
function later(chore) {
  chores.push(chore);
  if (chores.length === 1) schedule();
}
function schedule() {
  const next = () => {
    chores.shift()?.();
    if (chores.length) schedule();
  };
  if (window.requestIdleCallback) requestIdleCallback(next, { timeout: 500 });
  else setTimeout(next, 8);
}

const STAGES = [["encode", "Read here"], ["network", "Transfer"], ["queue", "Queue"], ["decode", "Decode"], ["detect", "Detect"]];

/** drawTimes tells where the time went, for each of the models asked. */
export function drawTimes(bars, list, all) {
  bars.replaceChildren(
    ...all.map((times) => {
      const parts = STAGES.map(([key]) => {
        const part = el("i", { className: key });
        part.style.flexGrow = Math.max(times[key], times.total / 200);
        return part;
      });
      return el("div", { className: "bar" }, ...parts);
    }),
  );
  list.replaceChildren(
    ...(all.length ? [...STAGES, ["total", "All"]] : []).map(([key, name]) => el("div", { className: key }, el("dt", {}, name), ...all.map((times) => el("dd", {}, ms(times[key]))))),
  );
}
