import assert from "node:assert/strict";
import { test } from "node:test";
import { dimensions, duration, exact, fileSize, percent, plural, toHundredths, wholePercent } from "../page/format.js";

test("percent rounds down, and does not lose what a float cannot hold", () => {
  for (const [confidence, want] of [[0, "0.0 %"], [0.9999, "99.9 %"], [1, "100.0 %"], [0.3, "30.0 %"], [0.29, "29.0 %"], [0.05, "5.0 %"]]) {
    assert.equal(percent(confidence), want);
  }
});

test("exact rounds down too", () => {
  assert.deepEqual([0, 0.99999, 0.3, 0.123456, 1].map(exact), ["0.0000", "0.9999", "0.3000", "0.1234", "1.0000"]);
});

test("thresholds are rounded to the steps of the slider", () => {
  assert.equal(wholePercent(0.649999976), "65 %");
  assert.equal(toHundredths(0.649999976), 0.65);
});

test("duration has about three digits", () => {
  for (const [ms, want] of [[0, "0 ms"], [0.04, "0 ms"], [0.05, "0.1 ms"], [9.94, "9.9 ms"], [10.4, "10 ms"], [999.4, "999 ms"], [1000, "1.00 s"], [61_234, "61.23 s"]]) {
    assert.equal(duration(ms), want);
  }
});

test("fileSize uses decimal units", () => {
  for (const [n, want] of [[0, "0 bytes"], [999, "999 bytes"], [1000, "1 kB"], [999_499, "999 kB"], [1e6, "1.0 MB"], [12_345_678, "12.3 MB"]]) {
    assert.equal(fileSize(n), want);
  }
});

test("dimensions are empty while they are unknown", () => {
  assert.equal(dimensions({ width: 840, height: 558 }), "840 × 558");
  for (const unknown of [undefined, null, { width: 0, height: 0 }]) assert.equal(dimensions(unknown), "");
});

test("plural agrees with its number", () => {
  assert.deepEqual([0, 1, 2].map((n) => plural(n, "face")), ["0 faces", "1 face", "2 faces"]);
});
