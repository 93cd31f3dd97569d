// The state of the page: the server's models, what the user chose, the images and their
// answers. Modules that change it call redraw.js. It knows nothing of elements.
//
// An image is {id, name, blob, source, url, width, height, answers}. source is "file", "paste",
// "camera" or "sample". images.js adds the elements that show it, when they are loaded.
// answers maps a key (see answerKey) to an entry: {pending, abort, wait} while the server works,
// then {answer, times} or {error}.
import { countAbove } from "./faces.js";
import { toHundredths } from "./format.js";

// Every request asks for all faces from this confidence on, so that the slider filters without
// another request. Below it, a network returns thousands of places that are hardly ever faces.
export const MIN_CONFIDENCE = 0.05;
const MAX_RESULTS = 500;

export const state = {
  models: [], // as ListModels returns them
  model: "", // the name of the model chosen, "" until the models are known
  compare: "", // the name of the model to compare with, or ""
  minFaceSize: 0, // in pixels of the image; 0 leaves it to the server
  anyOrientation: false, // whether faces that are turned are looked for too
  threshold: 0.5, // the confidence from which faces are shown: see thresholdOf
  thresholdChosen: false, // by the user, not by the model's default
  images: [],
  current: null, // the image on view
  cameraOn: false,
  frame: null, // {answer, times} of the camera's last frame
};

/** modelsOnView returns the names of the models whose faces are shown: one, or two to compare. */
export const modelsOnView = () => (state.compare && !state.cameraOn ? [state.model, state.compare] : [state.model]);

/** chosenModel returns the description of the model chosen, or undefined before the models are known. */
export const chosenModel = () => state.models.find((model) => model.name === state.model);

/** detectOptions returns the DetectOptions of a request. */
export const detectOptions = (model, minFaceSize = state.minFaceSize) => ({ minConfidence: MIN_CONFIDENCE, maxResults: MAX_RESULTS, model, ...(minFaceSize ? { minFaceSize } : {}), ...(state.anyOrientation ? { anyOrientation: true } : {}) });

/** answerKey returns the key of an image's answer by a model with the present options. */
export const answerKey = (model) => `${model} ${state.minFaceSize} ${state.anyOrientation}`;

/** entriesOnView returns an entry for each of modelsOnView: of the image on view, or of the camera's frame. An entry is {} when nothing was requested. */
export function entriesOnView() {
  if (state.cameraOn) return [state.frame ?? {}];
  return modelsOnView().map((model) => state.current?.answers.get(answerKey(model)) ?? {});
}

/** thresholdOf returns the confidence from which the faces of a model are shown: the one that the user chose for all, or else the model's default. */
export function thresholdOf(name) {
  const model = state.thresholdChosen ? undefined : state.models.find((m) => m.name === name);
  return model ? toHundredths(model.defaultMinConfidence) : state.threshold;
}

/** countShown returns how many faces of an answer are at or above its model's threshold. It is 0 without an answer. */
export const countShown = (answer) => countAbove(answer?.results ?? [], thresholdOf(answer?.model));

/** filtered returns an answer without the faces below the threshold. */
export const filtered = (answer) => ({ ...answer, results: answer.results.slice(0, countShown(answer)) });

const isAnswered = (image, model) => {
  const entry = image.answers.get(answerKey(model));
  return Boolean(entry?.answer || entry?.error);
};

/** isViewComplete reports whether everything that the view shows has arrived, or failed. */
export function isViewComplete() {
  if (!state.model) return false;
  if (state.cameraOn) return Boolean(state.frame);
  const image = state.current;
  if (!image) return true;
  return modelsOnView().every((model) => isAnswered(image, model)) && Boolean(image.element || image.unreadable) && !image.secondLoading && !image.pictureLoading;
}

/** isGalleryComplete reports whether the gallery, which shows two images or more, has all counts and thumbnails. */
export const isGalleryComplete = () => state.images.length < 2 || state.images.every((image) => isAnswered(image, state.model) && Boolean(image.thumbnail || image.unreadable));
