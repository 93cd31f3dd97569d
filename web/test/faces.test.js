import assert from "node:assert/strict";
import { test } from "node:test";
import { box, countAbove, distinctFaces, histogram, landmarks, matchFaces, overlap } from "../page/faces.js";
import { face } from "./fixtures.js";

test("box has the corner and the size", () => {
  assert.deepEqual(box(face(3, 4, 50, 60)), { x: 3, y: 4, width: 50, height: 60 });
});

test("landmarks keep the order of the API, and may be missing", () => {
  const point = { x: 1, y: 2 };
  const all = { mouthRight: point, nose: point, leftEye: point, rightEye: point, mouthLeft: point };
  assert.deepEqual(landmarks(face(0, 0, 1, 1, 1, { landmarks: all })).map(([key]) => key), ["leftEye", "rightEye", "nose", "mouthLeft", "mouthRight"]);
  assert.deepEqual(landmarks(face(0, 0, 1, 1)), []);
});

test("overlap is the intersection over union", () => {
  const a = face(0, 0, 10, 10);
  for (const [b, want] of [
    [face(0, 0, 10, 10), 1],
    [face(5, 0, 10, 10), 50 / 150],
    [face(2, 2, 5, 5), 25 / 100],
    [face(10, 0, 10, 10), 0], // they touch
    [face(30, 30, 10, 10), 0], // apart on both axes, where two negative sides have a positive product
  ]) {
    assert.equal(overlap(a, b), want);
    assert.equal(overlap(b, a), want);
  }
});

test("matchFaces pairs each face once, with the one that overlaps it most", () => {
  const [left, right] = [face(0, 0, 10, 10), face(100, 0, 10, 10)];
  for (const { a, b, want } of [
    { a: [], b: [], want: { both: 0, unmatched: [[], []] } },
    { a: [left], b: [], want: { both: 0, unmatched: [[true], []] } },
    { a: [left, right], b: [face(101, 0, 10, 10)], want: { both: 1, unmatched: [[true, false], [false]] } },
    { a: [left], b: [face(3, 0, 10, 10), face(1, 0, 10, 10)], want: { both: 1, unmatched: [[false], [true, false]] } },
    { a: [left, face(1, 0, 10, 10)], b: [left], want: { both: 1, unmatched: [[false, true], [false]] } },
    { a: [left], b: [face(6, 0, 10, 10)], want: { both: 0, unmatched: [[true], [true]] } }, // 0.25 is too little
  ]) {
    assert.deepEqual(matchFaces(a, b), want);
  }
});

test("distinctFaces keeps the first of those that overlap", () => {
  const [a, again, other] = [face(0, 0, 10, 10), face(1, 0, 10, 10), face(50, 0, 10, 10)];
  assert.deepEqual(distinctFaces([a, again, other]), [a, other]);
});

test("countAbove includes the threshold", () => {
  const faces = [0.9, 0.5, 0.1].map((confidence) => face(0, 0, 1, 1, confidence));
  assert.deepEqual([0, 0.5, 0.51, 1].map((threshold) => countAbove(faces, threshold)), [3, 2, 1, 0]);
  assert.equal(countAbove([], 0.5), 0);
});

test("histogram counts every face once, also at the ends", () => {
  const counts = histogram([0.05, 0.0999, 0.15, 0.999, 1, 0.01].map((c) => face(0, 0, 1, 1, c)), 0.05, 19);
  assert.equal(counts.length, 19);
  assert.deepEqual([counts[0], counts[1], counts[2], counts[18]], [3, 0, 1, 2]);
});
