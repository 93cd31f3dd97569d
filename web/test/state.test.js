import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { answerKey, countShown, detectOptions, entriesOnView, filtered, isGalleryComplete, isViewComplete, modelsOnView, state, thresholdOf } from "../page/state.js";
import { face } from "./fixtures.js";

const answer = { results: [face(0, 0, 1, 1, 0.9), face(0, 0, 1, 1, 0.4)] };

beforeEach(() => Object.assign(state, { models: [], model: "pigo", compare: "", minFaceSize: 0, anyOrientation: false, threshold: 0.5, thresholdChosen: false, images: [], current: null, cameraOn: false, frame: null }));

// show puts an image on view, with entries by model.
function show(entries, image = {}) {
  const answers = new Map(Object.entries(entries).map(([model, entry]) => [answerKey(model), entry]));
  state.current = { element: {}, answers, ...image };
  state.images.push(state.current);
}

test("two models are on view when they are compared, but not of the camera", () => {
  assert.deepEqual(modelsOnView(), ["pigo"]);
  state.compare = "yunet";
  assert.deepEqual(modelsOnView(), ["pigo", "yunet"]);
  state.cameraOn = true;
  assert.deepEqual(modelsOnView(), ["pigo"]);
});

test("requests ask for all faces that the slider can show", () => {
  assert.deepEqual(detectOptions("pigo"), { minConfidence: 0.05, maxResults: 500, model: "pigo" });
  state.minFaceSize = 30;
  assert.equal(detectOptions("pigo").minFaceSize, 30);
  assert.equal(detectOptions("pigo", 15).minFaceSize, 15);
  assert.equal("anyOrientation" in detectOptions("pigo"), false);
  state.anyOrientation = true;
  assert.equal(detectOptions("pigo").anyOrientation, true);
});

test("answers are those of the present options", () => {
  show({ pigo: { answer } });
  assert.deepEqual(entriesOnView(), [{ answer }]);
  state.minFaceSize = 30;
  assert.deepEqual(entriesOnView(), [{}]);
  state.cameraOn = true;
  assert.deepEqual(entriesOnView(), [{}]);
  state.frame = { answer, times: {} };
  assert.deepEqual(entriesOnView(), [state.frame]);
});

test("the threshold filters", () => {
  assert.equal(countShown(answer), 1);
  assert.equal(countShown(undefined), 0);
  assert.deepEqual(filtered({ ...answer, model: "pigo" }), { model: "pigo", results: [answer.results[0]] });
  assert.equal(answer.results.length, 2, "the answer itself was changed");
});

test("each model has its own threshold, until the user chooses one", () => {
  state.models = [{ name: "pigo", defaultMinConfidence: 0.5 }, { name: "yunet", defaultMinConfidence: 0.300000012 }];
  state.thresholdChosen = false;
  assert.deepEqual(["pigo", "yunet", "another"].map(thresholdOf), [0.5, 0.3, 0.5]);
  assert.deepEqual(["pigo", "yunet"].map((model) => countShown({ ...answer, model })), [1, 2]);
  Object.assign(state, { threshold: 0.95, thresholdChosen: true });
  assert.deepEqual(["pigo", "yunet"].map(thresholdOf), [0.95, 0.95]);
  assert.equal(countShown({ ...answer, model: "yunet" }), 0);
});

test("the view is complete when all of it has arrived, or failed", () => {
  assert.equal(isViewComplete(), true);
  state.model = "";
  assert.equal(isViewComplete(), false, "without models");
  state.model = "pigo";
  for (const [entries, image, want] of [
    [{ pigo: { answer } }, {}, true],
    [{ pigo: { error: {} } }, {}, true],
    [{ pigo: { pending: true } }, {}, false],
    [{}, {}, false],
    [{ pigo: { answer } }, { element: null }, false],
    [{ pigo: { answer } }, { element: null, unreadable: true }, true],
    [{ pigo: { answer } }, { secondLoading: true }, false],
  ]) {
    show(entries, image);
    assert.equal(isViewComplete(), want, JSON.stringify([entries, image]));
  }
  state.cameraOn = true;
  assert.equal(isViewComplete(), false);
  state.frame = { answer };
  assert.equal(isViewComplete(), true);
});

test("a comparison is complete when both models have answered", () => {
  state.compare = "yunet";
  show({ pigo: { answer }, yunet: { pending: true } });
  assert.equal(isViewComplete(), false);
  show({ pigo: { answer }, yunet: { answer } });
  assert.equal(isViewComplete(), true);
});

test("the gallery is complete when all images have their count and thumbnail", () => {
  show({ pigo: { pending: true } });
  assert.equal(isGalleryComplete(), true, "of one image");
  show({ pigo: { answer } }, { thumbnail: {} });
  assert.equal(isGalleryComplete(), false);
  state.images.shift();
  show({ pigo: { answer } });
  assert.equal(isGalleryComplete(), false);
  state.current.unreadable = true;
  assert.equal(isGalleryComplete(), true);
});
