// Names, types and contents of the files that the page saves. Pure.
import { matchFaces } from "./faces.js";

const LOSSLESS = /^image\/(png|gif|webp|bmp)$/;

/** savedType returns the media type in which an image made from a file of this type is saved. */
export const savedType = (type) => (LOSSLESS.test(type) ? "image/png" : "image/jpeg");

/** extension returns the file extension of savedType. */
export const extension = (type) => (savedType(type) === "image/png" ? ".png" : ".jpg");

/** renamed replaces the extension of a file name with an ending. */
export const renamed = (name, ending) => name.replace(/\.[a-z0-9]{1,5}$/i, "") + ending;

/** answersJSON returns the text of a JSON file with one answer, or with a list of several. */
export const answersJSON = (answers) => JSON.stringify(answers.length > 1 ? answers : answers[0], null, 2) + "\n";

/**
 * marksOf returns what to draw on an annotated image: {marks, both, unmatched}. found has the
 * faces of each model. Marks are {face, number, onlyBy}: all faces of the first model, and those
 * that only the second one found; onlyBy is the name of the model if the other did not find the
 * face, else "". both and unmatched are those of matchFaces, for two models.
 */
export function marksOf(found, models) {
  const mark = (face, i, onlyBy) => ({ face, number: i + 1, onlyBy });
  if (found.length < 2) return { marks: found[0].map((face, i) => mark(face, i, "")) };
  const { both, unmatched } = matchFaces(...found);
  const [first, second] = found.map((faces, m) => faces.map((face, i) => mark(face, i, unmatched[m][i] ? models[m] : "")));
  return { marks: [...first, ...second.filter((m) => m.onlyBy)], both, unmatched };
}
