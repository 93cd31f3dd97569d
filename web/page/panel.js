// The panel beside the image: the count of faces, the slider, the comparison and the times.
import { $, el } from "./dom.js";
import { drawList } from "./facelist.js";
import { histogram, matchFaces } from "./faces.js";
import { dimensions, duration, fileSize, wholePercent } from "./format.js";
import { hoverFace, panesOnView, toggleFace } from "./stage.js";
import { chosenModel, countShown, filtered, MIN_CONFIDENCE, modelsOnView, state } from "./state.js";
import { aboutImage } from "./wording.js";

const BIN = 0.05; // the width of a bar of the histogram
const BINS = Math.round((1 - MIN_CONFIDENCE) / BIN);

const STAGES = [["encode", "Encode"], ["network", "Transfer"], ["queue", "Queue"], ["decode", "Decode"], ["detect", "Detect"]];

/** drawPanel draws all of the panel, and which faces the panes show. entries are those on view. */
export function drawPanel(entries) {
  const panes = panesOnView();
  panes.forEach((pane, i) => pane.setShown(Math.min(countShown(entries[i].answer), pane.marks.length)));
  drawComparison(entries, panes);
  drawCount(entries);
  $("about").textContent = aboutLine(entries);
  drawSlider();
  drawHistogram(entries[0].answer?.results ?? []);
  drawList(entries, panes, { select: toggleFace, hover: hoverFace });
  drawTimes(entries.map((entry) => entry.times).filter(Boolean));
}

// drawComparison shows, with two models, how many faces both found, and dashes the others.
function drawComparison(entries, panes) {
  const node = $("both");
  node.hidden = entries.length < 2 || !entries.every((entry) => entry.answer);
  panes.forEach((pane) => pane.setUnmatched(null));
  if (node.hidden) return;
  const { both, unmatched } = matchFaces(...entries.map((entry) => filtered(entry.answer).results));
  panes.forEach((pane, i) => pane.setUnmatched(unmatched[i]));
  const only = (model, i) => el("span", { className: "dashed" }, el("b", {}, String(unmatched[i].filter(Boolean).length)), ` only ${model}`);
  node.replaceChildren(el("span", {}, el("b", {}, String(both)), " both"), ...modelsOnView().map(only));
}

function drawCount(entries) {
  const isAnswered = entries.every((entry) => entry.answer);
  const counts = entries.map((entry) => countShown(entry.answer));
  $("count").replaceChildren(
    el("span", { className: "n" }, isAnswered ? counts.join(" | ") : "–"),
    " ",
    el("span", {}, isAnswered && counts.length === 1 && counts[0] === 1 ? "face" : "faces"),
  );
}

function aboutLine(entries) {
  const { answer } = entries[0];
  const image = state.current;
  if (state.cameraOn) return aboutImage("Camera", dimensions(answer), state.model);
  if (!image) return "No image yet";
  const isUnreadable = image.unreadable && entries.every((entry) => entry.answer);
  return aboutImage(image.name, dimensions(answer ?? image), fileSize(image.blob.size), entries.length > 1 ? "" : state.model, isUnreadable && "not shown by this browser");
}

function drawSlider() {
  const slider = $("confidence");
  // While the user moves the slider, its value is not set, which would interfere.
  if (document.activeElement !== slider || Number(slider.value) !== state.threshold) slider.value = state.threshold;
  slider.style.setProperty("--at", ((state.threshold - MIN_CONFIDENCE) / (1 - MIN_CONFIDENCE)) * 100 + "%");
  slider.setAttribute("aria-valuetext", wholePercent(state.threshold));
  $("confidence-value").textContent = wholePercent(state.threshold);
  const model = chosenModel();
  $("confidence-reset").hidden = !state.thresholdChosen || !model;
  $("confidence-reset").textContent = model ? `Reset to ${wholePercent(model.defaultMinConfidence)}` : "";
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
  $("time").replaceChildren(...rows.map(([key, name]) => el("div", { className: key }, el("dt", {}, name), ...all.map((times) => el("dd", {}, duration(times[key]))))));
}

function barPart(key, times) {
  const part = el("i", { className: key });
  part.style.flexGrow = Math.max(times[key], times.total / 200);
  return part;
}
