import assert from "node:assert/strict";
import { test } from "node:test";
import { agreement, badgeOf, cameraProblem, facesFound, galleryTitle, hiddenNote, hiddenQuestion, markedNote, noFaces } from "../page/wording.js";
import { face } from "./fixtures.js";

const detected = (confidence, model = "pigo") => ({ ...face(0, 0, 10, 10, confidence), model });
const clean = { error: null, stillDetected: [], elsewhere: [] };
const single = { faces: 1, added: 0, models: 1, serverModels: 1 };

test("announcements count the faces of each model", () => {
  const place = "people.jpg";
  assert.equal(facesFound({ counts: [1], models: ["pigo"], thresholds: [0.65], place }), "1 face with a confidence of at least 65 % in people.jpg.");
  assert.equal(facesFound({ counts: [4, 0], models: ["pigo", "yunet"], thresholds: [0.65, 0.65], place }), "4 faces by pigo, 0 faces by yunet with a confidence of at least 65 % in people.jpg.");
  assert.equal(facesFound({ counts: [4, 1], models: ["pigo", "yunet"], thresholds: [0.4, 0.7], place }), "4 faces by pigo with a confidence of at least 40 %, 1 face by yunet with a confidence of at least 70 % in people.jpg.");
});

test("the agreement of two models has three parts", () => {
  assert.deepEqual(agreement({ both: 3, unmatched: [[false, false, false], [true, false, false, false]] }, ["pigo", "yunet"]), [
    ["both", 3, "by both"],
    ["0", 0, "only pigo"],
    ["1", 1, "only yunet"],
  ]);
});

test("an empty list says what the highest confidence is", () => {
  assert.equal(noFaces([detected(0.7777), detected(0.5)], 0.9), "No face reaches 90 %. The highest confidence is 77.7 %.");
  assert.equal(noFaces([], 0.9), "No face, even with a low confidence.");
});

test("badges have a count, or the state", () => {
  assert.deepEqual(badgeOf({ answer: {} }, 1), { text: "1", label: "face" });
  assert.deepEqual(badgeOf({ answer: {} }, 0), { text: "0", label: "faces" });
  assert.deepEqual(badgeOf({ error: { title: "This file is empty" } }, 0), { text: "!", label: "This file is empty" });
  assert.deepEqual(badgeOf({ pending: true, wait: {} }, 0), { text: "…", label: "waiting for the server" });
  assert.deepEqual(badgeOf({ pending: true }, 0), { text: "…", label: "being processed" });
  assert.equal(galleryTitle(2, 1), "2 images, 1 face");
});

test("an annotated image of two models says how many faces each found alone", () => {
  assert.equal(
    markedNote({ both: 3, unmatched: [[false, false, false], [true, false, false, false]] }, ["pigo", "yunet"]),
    "3 faces found by both models, 0 only by pigo, 1 only by yunet. Faces that only one model found are cyan and dashed.",
  );
});

test("the browser's errors of the camera are explained", () => {
  assert.match(cameraProblem({ name: "NotAllowedError", message: "Permission denied" }, "other"), /^Access to the camera was denied\./);
  assert.equal(cameraProblem({ name: "Error", message: "as it is" }, "other"), "as it is");
});

test("an image that is clean is saved without a question", () => {
  assert.equal(hiddenQuestion(clean), null);
});

test("questions name what may still show a face, and offer to hide what is elsewhere", () => {
  for (const { result, title, lines, answers } of [
    {
      result: { ...clean, stillDetected: [detected(0.31)] },
      title: "Save the image anyway?",
      lines: ["1 hidden place is still detected as a face (pigo: 31.0 %). None of the original pixels are left there."],
      answers: ["save", ""],
    },
    {
      result: { ...clean, elsewhere: [detected(0.31), detected(0.5, "yunet"), detected(0.4)] },
      title: "Save the image anyway?",
      lines: ["3 places that are not hidden may show a face (yunet: up to 50.0 %)."],
      answers: ["hide", "save", ""],
    },
    {
      result: { ...clean, error: new Error("no answer") },
      title: "Save the image unchecked?",
      lines: ["The server could not check the result for faces: no answer"],
      answers: ["save", ""],
    },
  ]) {
    const question = hiddenQuestion(result);
    assert.equal(question.title, title);
    assert.deepEqual(question.lines, [...lines, "Look at the image before you use it."]);
    assert.deepEqual(question.answers.map(([key]) => key), answers);
  }
});

test("notes say what was hidden, and what the check found", () => {
  for (const { result, counts, want } of [
    { result: clean, counts: {}, want: "1 face hidden. The server detects no hidden face in the result." },
    { result: clean, counts: { faces: 4, serverModels: 2 }, want: "4 faces hidden. The server detects no hidden face in the result, with any of its models." },
    { result: clean, counts: { models: 2, serverModels: 2 }, want: "The faces of both models are hidden. The server detects no hidden face in the result, with any of its models." },
    { result: clean, counts: { added: 3 }, want: "1 face hidden, and 3 more that a later check found. The server detects no hidden face in the result." },
    { result: { ...clean, elsewhere: [detected(0.3)] }, counts: {}, want: "1 face hidden. The server detects no hidden face in the result. 1 other place may show a face and is not hidden." },
    {
      result: { ...clean, stillDetected: [detected(0.3)], elsewhere: [detected(0.3), detected(0.3)] },
      counts: {},
      want: "1 face hidden, but a model still detects a face in 1 hidden place. 2 other places may show a face and are not hidden.",
    },
    { result: { ...clean, error: new Error("no answer") }, counts: {}, want: "1 face hidden. The server could not check the result." },
  ]) {
    assert.equal(hiddenNote(result, { ...single, ...counts }), want);
  }
});
