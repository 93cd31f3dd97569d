// The options in the page's address, so that a link or a reload shows the same. Pure.
import { toHundredths } from "./format.js";

const number = (text, min, max) => {
  const n = text === null || text === "" ? NaN : Number(text);
  return n >= min && n <= max ? n : null;
};

/**
 * readAddress returns the options of a query such as "?sample=hard&model=pigo": {sample, model,
 * compare, threshold, minFaceSize, anyOrientation}. Those that are missing or invalid are "",
 * null, 0 or false.
 */
export function readAddress(search) {
  const query = new URLSearchParams(search);
  const threshold = number(query.get("min_confidence"), 0, 1);
  return {
    sample: query.get("sample") ?? "",
    model: query.get("model") ?? "",
    compare: query.get("compare") ?? "",
    threshold: threshold === null ? null : toHundredths(threshold),
    minFaceSize: Math.trunc(number(query.get("min_face_size"), 0, 100_000) ?? 0),
    anyOrientation: query.get("any_orientation") === "true",
  };
}

/** writeAddress returns the query for options: see readAddress. It has those only that are set, and is "" without any. */
export function writeAddress({ sample, model, compare, threshold, minFaceSize, anyOrientation }) {
  const query = new URLSearchParams();
  if (sample) query.set("sample", sample);
  if (model) query.set("model", model);
  if (compare) query.set("compare", compare);
  if (threshold !== null) query.set("min_confidence", String(threshold));
  if (minFaceSize) query.set("min_face_size", String(minFaceSize));
  if (anyOrientation) query.set("any_orientation", "true");
  const text = query.toString();
  return text && "?" + text;
}
