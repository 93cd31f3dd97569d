// Hides faces, and checks with the server's models that none is left. Pure: drawing and
// detecting are arguments.
import { areCovering, containsCenter, headDisk } from "./disks.js";
import { box, distinctFaces } from "./faces.js";
import { toHundredths } from "./format.js";

// How a disk is filled at first, and what replaces that when a model detects a face in it.
const FILLS = { blur: ["gradient", "plain"], cover: ["plain"] };

const MAX_CHECKS = 8; // of an image

// The minimum confidence of faces that are detected in an image whose faces are hidden.
const CHECK_CONFIDENCE = 0.3;

/**
 * hideFaces hides faces in an image of a size {width, height}. style is "blur" or "cover".
 * render(disks) returns a promise of the image file in which the disks {cx, cy, r, fill} are
 * filled, and detect(file) one of the faces that models still find there: {box, shown}, where
 * shown means that the page would show the face. hideFaces also hides the faces that are shown,
 * and those that extend beyond a disk, and changes the fill of a disk in which a face is
 * detected, until nothing of that kind is left.
 *
 * It returns {file, error, added, stillDetected, elsewhere}: error is why detect failed, or
 * null; added the number of further faces hidden; stillDetected the faces that models find
 * where everything is hidden; elsewhere those that they find in other places.
 */
export async function hideFaces({ faces, style, size, render, detect }) {
  const fills = FILLS[style];
  const newDisk = (face) => ({ ...headDisk(face), fill: 0 });
  const disks = faces.map(newDisk);
  const added = [];
  for (let check = 1; ; check++) {
    const file = await render(disks.map((disk) => ({ ...disk, fill: fills[disk.fill] })));
    let found;
    try {
      found = await detect(file);
    } catch (error) {
      return { file, error, added: distinctFaces(added).length, stillDetected: [], elsewhere: [] };
    }
    const [stillDetected, elsewhere] = [[], []];
    for (const face of found) (areCovering(disks, face, size) ? stillDetected : elsewhere).push(face);
    const isAtDisk = (face) => disks.some((disk) => containsCenter(disk, face));
    const toHide = elsewhere.filter((face) => face.shown || isAtDisk(face));
    const toRefill = disks.filter((disk) => disk.fill < fills.length - 1 && stillDetected.some((face) => containsCenter(disk, face)));
    if (check === MAX_CHECKS || (!toHide.length && !toRefill.length)) {
      return { file, error: null, added: distinctFaces(added).length, stillDetected: distinctFaces(stillDetected), elsewhere: distinctFaces(elsewhere) };
    }
    for (const disk of toRefill) disk.fill++;
    added.push(...toHide.filter((face) => !isAtDisk(face)));
    disks.push(...toHide.map(newDisk));
  }
}

/**
 * detectWithAll returns the faces that any of the server's models finds in a file: {box,
 * confidence, model, shown}, where shown means that the page would show the face. view is what
 * the page shows: {models, threshold, isChosen, minFaceSize}, where isChosen means that the threshold
 * counts for all models, not each model's default. predict(file, options) resolves to an answer.
 */
export async function detectWithAll(file, models, view, predict) {
  const found = [];
  for (const { name, defaultMinConfidence } of models) {
    const own = toHundredths(defaultMinConfidence);
    const minShown = view.models.includes(name) ? (view.isChosen ? view.threshold : own) : Math.max(view.threshold, own);
    const { results } = await predict(file, {
      model: name,
      minConfidence: Math.min(view.threshold, own, CHECK_CONFIDENCE),
      // The hidden faces have at least the minimum size, and a model may detect a part of one.
      minFaceSize: Math.ceil(view.minFaceSize / 2),
    });
    for (const { box: place, confidence } of results) {
      const { width, height } = box({ box: place });
      found.push({ box: place, confidence, model: name, shown: confidence >= minShown && Math.max(width, height) >= view.minFaceSize });
    }
  }
  return found;
}
