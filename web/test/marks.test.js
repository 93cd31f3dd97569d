import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { AMBER, colorOf, CYAN, DOTS, labelText, LIME, PINK, sizesOf } from "../page/marks.js";
import { face } from "./fixtures.js";

test("the color says how sure a model is, and whether it is alone", () => {
  for (const [confidence, isAlone, want] of [[0.9, false, LIME], [0.5, false, LIME], [0.49, false, AMBER], [0.9, true, CYAN], [0.2, true, CYAN]]) {
    assert.equal(colorOf(face(0, 0, 1, 1, confidence), isAlone), want);
  }
});

test("labels are rounded down", () => {
  for (const [confidence, want] of [[0, "0%"], [0.004, "0%"], [0.29, "29%"], [0.57, "57%"], [0.978, "97%"], [0.9998, "99%"], [1, "100%"]]) {
    assert.equal(labelText(confidence), want);
  }
});

test("lines and dots grow with the image and the face", () => {
  assert.deepEqual(sizesOf({ width: 100, height: 80 }, { width: 640, height: 480 }), { line: 1, rim: 1, dot: 100 / 26 < 640 / 260 ? 100 / 26 : 640 / 260, digits: 6 });
  assert.deepEqual(sizesOf({ width: 10, height: 12 }, { width: 4000, height: 3000 }), { line: 1, rim: 1, dot: 0, digits: 40 });
  assert.equal(sizesOf({ width: 900, height: 900 }, { width: 4000, height: 3000 }).line, 9);
});

test("the style sheet has the same colors", () => {
  const css = readFileSync(new URL("../page/page.css", import.meta.url), "utf8");
  for (const [name, color] of Object.entries({ lime: LIME, amber: AMBER, cyan: CYAN, pink: PINK })) {
    assert.equal(new RegExp(`--${name}: (#[0-9a-f]{6});`).exec(css)?.[1], color, name);
  }
  for (const key of Object.keys(DOTS)) assert.match(css, new RegExp(`\\.${key}\\b`), key);
});
