import assert from "node:assert/strict";
import { test } from "node:test";
import { answersJSON, extension, marksOf, renamed, savedType } from "../page/files.js";
import { face } from "./fixtures.js";

test("photographs are saved as JPEG, and lossless formats as PNG", () => {
  for (const [type, want] of [["image/jpeg", "image/jpeg"], ["image/tiff", "image/jpeg"], ["", "image/jpeg"], ["image/png", "image/png"], ["image/gif", "image/png"], ["image/webp", "image/png"], ["image/bmp", "image/png"]]) {
    assert.equal(savedType(type), want, type);
    assert.equal(extension(type), want === "image/png" ? ".png" : ".jpg", type);
  }
});

test("renamed replaces an extension, and only that", () => {
  for (const [name, want] of [["a.jpg", "a-hidden.jpg"], ["a.b.JPEG", "a.b-hidden.jpg"], ["a", "a-hidden.jpg"], ["1. holiday", "1. holiday-hidden.jpg"], ["a.toolong", "a.toolong-hidden.jpg"]]) {
    assert.equal(renamed(name, "-hidden.jpg"), want);
  }
});

test("JSON has one answer as an object, and several as a list", () => {
  const answer = { model: "pigo", results: [] };
  assert.deepEqual(JSON.parse(answersJSON([answer])), answer);
  assert.deepEqual(JSON.parse(answersJSON([answer, answer])), [answer, answer]);
  assert.ok(answersJSON([answer]).endsWith("}\n"));
});

test("marks have the faces of the first model, and those that only the second one found", () => {
  const [a, b, c] = [face(0, 0, 10, 10), face(50, 0, 10, 10), face(100, 0, 10, 10)];
  assert.deepEqual(marksOf([[a, b]], ["pigo"]), { marks: [{ face: a, number: 1, onlyBy: "" }, { face: b, number: 2, onlyBy: "" }] });
  assert.deepEqual(marksOf([[a, b], [c, a]], ["pigo", "yunet"]), {
    marks: [{ face: a, number: 1, onlyBy: "" }, { face: b, number: 2, onlyBy: "pigo" }, { face: c, number: 1, onlyBy: "yunet" }],
    both: 1,
    unmatched: [[false, true], [true, false]],
  });
});
