// The panel beside the image: the count of faces, the slider, the comparison and the times.
import { $, el } from "./dom.js";
import { drawList, setAlone } from "./facelist.js";
import { histogram, matchFaces } from "./faces.js";
import { dimensions, duration, fileSize, wholePercent } from "./format.js";
import { thresholdChanged } from "./redraw.js";
import { hoverFace, panesOnView, toggleFace } from "./stage.js";
import { countShown, filtered, MIN_CONFIDENCE, modelsOnView, state } from "./state.js";
import { aboutImage, agreement } from "./wording.js";

const BIN = 0.05; // the width of a bar of the histogram
const BINS = Math.round((1 - MIN_CONFIDENCE) / BIN);

const STAGES = [["encode", "Encode"], ["network", "Transfer"], ["queue", "Queue"], ["decode", "Decode"], ["detect", "Detect"]];

/** drawPanel draws all of the panel, and which faces the panes show. entries are those on view. */
export function drawPanel(entries) {
  const panes = panesOnView();
  panes.forEach((pane, i) => pane.setShown(Math.min(countShown(entries[i].answer), pane.marks.length)));
  drawCount(entries);
  $("about").textContent = aboutLine(entries);
  drawSlider();
  drawHistogram(entries[0].answer?.results ?? []);
  drawList(entries, panes, { select: toggleFace, hover: hoverFace });
  drawComparison(entries, panes);
  drawTimes(entries.map((entry) => entry.times).filter(Boolean));
}

let part = ""; // of a comparison that is emphasized: a key of agreement, or "" for all

// drawComparison shows, with two models, how many faces both found, and dashes the others. Each
// number is a button that dims all other faces.
function drawComparison(entries, panes) {
  const node = $("both");
  node.hidden = entries.length < 2 || !entries.every((entry) => entry.answer);
  if (node.hidden) {
    part = "";
    for (const pane of panes) mark(pane, null, null);
    return;
  }
  const match = matchFaces(...entries.map((entry) => filtered(entry.answer).results));
  panes.forEach((pane, i) => mark(pane, match.unmatched[i], part && match.unmatched[i].map((isAlone) => part !== (isAlone ? String(i) : "both"))));
  const parts = agreement(match, modelsOnView());
  if (node.childElementCount !== parts.length) node.replaceChildren(...parts.map(() => el("button", { type: "button", className: "part" }, el("b"), el("span"))));
  parts.forEach(([key, count, text], i) => drawPart(node.children[i], key, count, text));
}

function mark(pane, alone, dimmed) {
  pane.setUnmatched(alone, dimmed);
  setAlone(pane, alone, dimmed);
}

function drawPart(button, key, count, text) {
  button.firstChild.textContent = count;
  button.lastChild.textContent = ` ${text}`;
  button.classList.toggle("dashed", key !== "both");
  button.setAttribute("aria-pressed", String(part === key));
  button.onclick = () => {
    part = part === key ? "" : key;
    thresholdChanged();
  };
}

// drawCount shows the number of faces, with two models that of each.
function drawCount(entries) {
  const models = modelsOnView();
  const tallies = entries.map((entry, i) => {
    const n = entry.answer ? countShown(entry.answer) : "–";
    const noun = n === 1 ? "face" : "faces";
    return el("span", { className: "tally" }, el("span", { className: "n" }, String(n)), " ", el("span", {}, models.length > 1 ? `by ${models[i]}` : noun));
  });
  $("count").replaceChildren(...tallies);
}

function aboutLine(entries) {
  const { answer } = entries[0];
  const image = state.current;
  if (state.cameraOn) return aboutImage("Camera", dimensions(answer), state.model);
  if (!image) return "No image yet";
  const note = image.unreadable && entries.every((entry) => entry.answer) ? "not shown by this browser" : image.fromServer && image.element && "shown as decoded by the server";
  return aboutImage(image.name, dimensions(answer ?? image), fileSize(image.blob.size), entries.length > 1 ? "" : state.model, note);
}

function drawSlider() {
  const slider = $("confidence");
  // While the user moves the slider, its value is not set, which would interfere.
  if (document.activeElement !== slider || Number(slider.value) !== state.threshold) slider.value = state.threshold;
  slider.style.setProperty("--at", ((state.threshold - MIN_CONFIDENCE) / (1 - MIN_CONFIDENCE)) * 100 + "%");
  const models = state.model ? modelsOnView() : [];
  const defaults = models.map((name) => wholePercent(state.models.find((m) => m.name === name).defaultMinConfidence));
  const isOwn = !state.thresholdChosen && new Set(defaults).size > 1;
  $("confidence-value").textContent = isOwn ? defaults.join(" | ") : wholePercent(state.threshold);
  slider.setAttribute("aria-valuetext", isOwn ? models.map((name, i) => `${defaults[i]} for ${name}`).join(", ") : wholePercent(state.threshold));
  $("confidence-own").hidden = !isOwn;
  $("confidence-reset").hidden = !state.thresholdChosen || !models.length;
  $("confidence-reset").textContent = `Reset to ${[...new Set(defaults)].join(" | ")}`;
}

function drawHistogram(faces) {
  const node = $("histogram");
  if (!node.childElementCount) node.append(...Array.from({ length: BINS }, () => el("i")));
  const counts = histogram(faces, MIN_CONFIDENCE, BINS);
  const max = Math.max(1, ...counts);
  [...node.children].forEach((bar, i) => {
    // The square root keeps a bar of one face visible beside one of hundreds.
    bar.style.height = (counts[i] ? 12 + 88 * Math.sqrt(counts[i] / max) : 0) + "%";
    bar.classList.toggle("in", MIN_CONFIDENCE + (i + 1) * BIN > state.threshold + 1e-9);
  });
}

// drawTimes shows the total, and folded below it where the time of each model's call went: see timesOf.
function drawTimes(all) {
  $("time-bars").replaceChildren(...all.map((times) => el("div", { className: "bar" }, ...STAGES.map(([key]) => barPart(key, times)))));
  $("time-total").textContent = all.length ? all.map((times) => duration(times.total)).join(" | ") : "–";
  const rows = all.length ? STAGES : [];
  const names = all.length > 1 ? [el("div", { className: "names" }, el("dt", {}, "Model"), ...modelsOnView().map((name) => el("dd", {}, name)))] : [];
  $("time").replaceChildren(...names, ...rows.map(([key, name]) => el("div", { className: key }, el("dt", {}, name), ...all.map((times) => el("dd", {}, duration(times[key]))))));
}

function barPart(key, times) {
  const part = el("i", { className: key });
  part.style.flexGrow = Math.max(times[key], times.total / 200);
  return part;
}
