import assert from "node:assert/strict";
import { test } from "node:test";
import { gradientAround, gradientRow } from "../page/gradient.js";

const disk = { cx: 50, cy: 50, r: 20 };

// around returns the pixels around the disk, in which the disk is erased.
function around(colorAt) {
  const [x0, y0, width, height] = [10, 10, 80, 80];
  const data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const isErased = Math.hypot(x0 + x + 0.5 - disk.cx, y0 + y + 0.5 - disk.cy) < disk.r + 1;
      data.set(isErased ? [0, 0, 0, 0] : [...colorAt(x0 + x, y0 + y), 255], (y * width + x) * 4);
    }
  }
  return { data, x: x0, y: y0, width, height };
}

// colorOf returns the color of the gradient at a pixel.
function colorOf(gradient, x, y) {
  const row = new Uint8ClampedArray(4);
  gradientRow(row, gradient, disk, x, y);
  return [...row.slice(0, 3)];
}

test("one color around the disk fills it evenly, rounded", () => {
  const gradient = gradientAround(disk, around(() => [100, 150, 200]));
  assert.deepEqual(gradient, { mean: [96, 144, 208], across: [0, 0, 0], down: [0, 0, 0] });
});

test("the gradient goes from the color on the left to that on the right", () => {
  const gradient = gradientAround(disk, around((x) => (x < disk.cx ? [0, 0, 0] : [160, 160, 160])));
  const [left, center, right] = [30, 50, 69].map((x) => colorOf(gradient, x, 50)[0]);
  assert.ok(left < 10 && Math.abs(center - 80) < 5 && right > 150, `${left}, ${center}, ${right}`);
  assert.deepEqual(colorOf(gradient, 50, 35), colorOf(gradient, 50, 65));
});

test("the gradient goes from the color above to that below", () => {
  const gradient = gradientAround(disk, around((_, y) => (y < disk.cy ? [0, 0, 160] : [160, 0, 0])));
  assert.ok(colorOf(gradient, 50, 31)[2] > 140 && colorOf(gradient, 50, 68)[0] > 140);
});

test("the row has one color per pixel, and keeps its alpha", () => {
  const row = new Uint8ClampedArray(12).fill(7);
  gradientRow(row, { mean: [10, 20, 30], across: [5, 0, -5], down: [1, 1, 1] }, { cx: 0.5, cy: 0.5 }, 0, 2);
  assert.deepEqual([...row], [12, 22, 32, 7, 17, 22, 27, 7, 22, 22, 22, 7]);
});

test("the phase of a fine pattern does not show", () => {
  const checks = (phase) => gradientAround(disk, around((x, y) => Array(3).fill((x + y + phase) % 2 ? 255 : 0)));
  assert.deepEqual(checks(0), checks(1));
});

test("nothing visible around the disk gives no gradient", () => {
  const pixels = around(() => [100, 100, 100]);
  pixels.data.fill(0);
  assert.equal(gradientAround(disk, pixels), null);
  assert.equal(gradientAround(disk, { data: [], x: 0, y: 0, width: 0, height: 0 }), null);
});
