// The sentences that depend on what was found. Pure.
import { cameraDenied } from "./device.js";
import { percent, plural, wholePercent } from "./format.js";

const is = (n) => (n === 1 ? "is" : "are");

/** facesFound is the announcement of the faces shown: counts and thresholds have a number for each model, place is where the faces are. */
export function facesFound({ counts, models, thresholds, place }) {
  const isSame = thresholds.every((threshold) => threshold === thresholds[0]);
  const from = (i) => ` with a confidence of at least ${wholePercent(thresholds[i])}`;
  const parts = counts.map((n, i) => plural(n, "face") + (models.length > 1 ? ` by ${models[i]}` : "") + (isSame ? "" : from(i)));
  return `${parts.join(", ")}${isSame ? from(0) : ""} in ${place}.`;
}

/** agreement describes the faces of two models in parts [key, count, text]: those that both found, and those that only the first ("0") or second one ("1") found. both and unmatched are those of matchFaces. */
export const agreement = ({ both, unmatched }, models) => [
  ["both", both, "by both"],
  ...models.map((model, m) => [String(m), unmatched[m].filter(Boolean).length, `only ${model}`]),
];

/** noFaces explains an empty list: no result of the model reaches the threshold. */
export const noFaces = (results, threshold) => (results.length ? `No face reaches ${wholePercent(threshold)}. The highest confidence is ${percent(results[0].confidence)}.` : "No face, even with a low confidence.");

/** badgeOf returns the text of an image's badge in the gallery, and its label for screen readers. n is the number of faces shown. */
export function badgeOf(entry, n) {
  if (entry.answer) return { text: String(n), label: n === 1 ? "face" : "faces" };
  if (entry.error) return { text: "!", label: entry.error.title };
  return { text: "…", label: entry.wait ? "waiting for the server" : "being processed" };
}

/** galleryTitle is the title of the gallery. */
export const galleryTitle = (images, faces) => `${plural(images, "image")}, ${plural(faces, "face")}`;

/** aboutImage is the line below the count of faces, of an image or the camera: its parts, without those that are empty. */
export const aboutImage = (...parts) => parts.filter(Boolean).join(" · ");

/** markedNote describes an image with the faces of two models: both and unmatched are those of matchFaces. */
export function markedNote({ both, unmatched }, models) {
  const only = models.map((model, m) => `${unmatched[m].filter(Boolean).length} only by ${model}`);
  return `${plural(both, "face")} found by both models, ${only.join(", ")}. Faces that only one model found are cyan and dashed.`;
}

/** cameraProblem explains why the browser did not start the camera. device is that of deviceOf. */
export function cameraProblem(error, device) {
  const messages = {
    NotAllowedError: cameraDenied(device),
    NotFoundError: "This device has no camera.",
    NotReadableError: "Another program is using the camera.",
    OverconstrainedError: "This device has no such camera.",
  };
  return messages[error.name] ?? error.message;
}

/**
 * hiddenNote describes a saved image whose faces are hidden. result is that of hideFaces; faces
 * is the number of those shown; added that of further faces hidden; models and serverModels are
 * the numbers of models on view and on the server.
 */
export function hiddenNote(result, { faces, added, models, serverModels }) {
  const hidden = models > 1 ? "The faces of both models are hidden" : `${plural(faces, "face")} hidden`;
  const start = hidden + (added ? `, and ${added} more that a later check found` : "");
  if (result.error) return `${start}. The server could not check the result.`;
  const others = result.elsewhere.length;
  const end = others ? ` ${plural(others, "other place")} may show a face and ${is(others)} not hidden.` : "";
  const still = result.stillDetected.length;
  if (still) return `${start}, but a model still detects a face in ${plural(still, "hidden place")}.${end}`;
  return `${start}. The server detects no hidden face in the result${serverModels > 1 ? ", with any of its models" : ""}.${end}`;
}

/** hiddenQuestion returns {title, lines, answers} to ask before an image is saved that may still show a face, or null if the check found none. */
export function hiddenQuestion({ error, stillDetected, elsewhere }) {
  const lines = [];
  if (error) lines.push(`The server could not check the result for faces: ${error.message}`);
  if (elsewhere.length) lines.push(`${plural(elsewhere.length, "place")} that ${is(elsewhere.length)} not hidden may show a face (${confidenceOf(elsewhere)}).`);
  if (stillDetected.length) lines.push(`${plural(stillDetected.length, "hidden place")} ${is(stillDetected.length)} still detected as a face (${confidenceOf(stillDetected)}). None of the original pixels are left there.`);
  if (!lines.length) return null;
  return {
    title: error ? "Save the image unchecked?" : "Save the image anyway?",
    lines: [...lines, "Look at the image before you use it."],
    answers: [...(elsewhere.length ? [["hide", "Hide these too"]] : []), ["save", "Save anyway"], ["", "Do not save"]],
  };
}

function confidenceOf(faces) {
  const { model, confidence } = faces.reduce((a, b) => (b.confidence > a.confidence ? b : a));
  return `${model}: ${faces.length > 1 ? "up to " : ""}${percent(confidence)}`;
}

/** TRUNCATED is shown below the faces of an answer that is truncated. */
export const TRUNCATED = "There may be more faces. The image is too large, or has too many faces, for the model to look at all of it. A part of the image, or a larger smallest face, gives a complete answer.";
