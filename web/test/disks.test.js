import assert from "node:assert/strict";
import { test } from "node:test";
import { areCovering, containsCenter, forEachRow, headDisk } from "../page/disks.js";
import { face } from "./fixtures.js";

const size = { width: 200, height: 100 };

test("the disk of a head extends beyond the box on all sides", () => {
  const f = face(50, 20, 40, 50);
  const disk = headDisk(f);
  for (const [x, y] of [[50, 20], [90, 20], [50, 70], [90, 70]]) assert.ok(Math.hypot(x - disk.cx, y - disk.cy) < disk.r, `${x}, ${y}`);
  assert.ok(disk.cy - disk.r < 20 - 0.4 * 50, "not enough room for hair");
  assert.ok(headDisk(face(5, 5, 1, 1)).r > 4, "a tiny face has a tiny disk");
});

test("containsCenter", () => {
  const disk = { cx: 50, cy: 50, r: 10 };
  assert.equal(containsCenter(disk, face(45, 45, 10, 10)), true);
  assert.equal(containsCenter(disk, face(0, 0, 100, 100)), true);
  assert.equal(containsCenter(disk, face(58, 45, 10, 10)), false);
});

test("a face is covered by one disk, or by several together", () => {
  const f = face(50, 20, 40, 20);
  assert.equal(areCovering([headDisk(f)], f, size), true);
  assert.equal(areCovering([], f, size), false);
  const [left, right] = [{ cx: 60, cy: 30, r: 15 }, { cx: 80, cy: 30, r: 15 }];
  assert.equal(areCovering([left], f, size), false);
  assert.equal(areCovering([right], f, size), false);
  assert.equal(areCovering([left, right], f, size), true);
});

test("what is outside of the image need not be covered", () => {
  const disk = { cx: 195, cy: 50, r: 20 };
  const f = face(190, 45, 60, 10);
  assert.equal(areCovering([disk], f, size), true);
  assert.equal(areCovering([disk], f, { width: 400, height: 100 }), false);
});

test("rows include every pixel that the disk touches, and stay within the image", () => {
  for (const disk of [{ cx: 50, cy: 50, r: 20 }, { cx: 0.3, cy: 0.7, r: 5.5 }, { cx: 199, cy: 99, r: 7 }, { cx: -3, cy: 50, r: 5 }]) {
    const touched = new Set();
    forEachRow(size, disk, (x, y, width) => {
      assert.ok(x >= 0 && x + width <= size.width && y >= 0 && y < size.height, `${x}, ${y}, ${width}`);
      for (let i = x; i < x + width; i++) touched.add(`${i},${y}`);
    });
    for (let y = 0; y < size.height; y++) {
      for (let x = 0; x < size.width; x++) {
        // The point of the pixel nearest to the center.
        const [nx, ny] = [Math.max(x, Math.min(disk.cx, x + 1)), Math.max(y, Math.min(disk.cy, y + 1))];
        const distance = Math.hypot(nx - disk.cx, ny - disk.cy);
        if (distance < disk.r - 1e-9) assert.ok(touched.has(`${x},${y}`), `${x}, ${y} is left out`);
        if (distance > disk.r + 1) assert.ok(!touched.has(`${x},${y}`), `${x}, ${y} is too much`);
      }
    }
  }
});

test("a disk outside of the image has no rows", () => {
  forEachRow(size, { cx: -50, cy: 50, r: 20 }, () => assert.fail("a row"));
  forEachRow(size, { cx: 50, cy: 150, r: 20 }, () => assert.fail("a row"));
});
