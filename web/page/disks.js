// Disks {cx, cy, r} that cover heads, in pixels of the image. Pure.
import { box } from "./faces.js";

/**
 * headDisk returns a disk that covers the whole head of a face, with hair, ears and chin, which
 * the boxes of most models leave out. The disk does not depend on the landmarks, because those
 * of turned faces may be wrong. Models detect a face more often in a smaller disk on shoulders.
 */
export function headDisk(face) {
  const b = box(face);
  return { cx: b.x + b.width / 2, cy: b.y + b.height * 0.45, r: 1.1 * Math.max(4, b.width, b.height) };
}

const contains = ({ cx, cy, r }, x, y) => (x - cx) ** 2 + (y - cy) ** 2 < r * r;

/** containsCenter reports whether the center of a face's box is in the disk. */
export function containsCenter(disk, face) {
  const b = box(face);
  return contains(disk, b.x + b.width / 2, b.y + b.height / 2);
}

/** areCovering reports whether the disks together cover the box of a face, as far as it is within the image's size {width, height}. */
export function areCovering(disks, face, size) {
  const b = box(face);
  const near = disks.filter((d) => b.x < d.cx + d.r && b.x + b.width > d.cx - d.r && b.y < d.cy + d.r && b.y + b.height > d.cy - d.r);
  const parts = 12; // points of a grid on the box
  for (let i = 0; i <= parts; i++) {
    for (let j = 0; j <= parts; j++) {
      const x = Math.max(0, Math.min(b.x + (b.width * i) / parts, size.width));
      const y = Math.max(0, Math.min(b.y + (b.height * j) / parts, size.height));
      if (!near.some((d) => contains(d, x, y))) return false;
    }
  }
  return true;
}

/** forEachRow calls visit(x, y, width) for each row of whole pixels that the disk touches, within the size {width, height}. */
export function forEachRow({ width, height }, { cx, cy, r }, visit) {
  const end = Math.min(height, Math.ceil(cy + r));
  for (let y = Math.max(0, Math.floor(cy - r)); y < end; y++) {
    const distance = Math.max(0, y - cy, cy - y - 1); // from the center to the nearest edge of the row
    const half = Math.sqrt(Math.max(0, r * r - distance * distance));
    const left = Math.max(0, Math.floor(cx - half));
    const right = Math.min(width, Math.ceil(cx + half));
    if (right > left) visit(left, y, right - left);
  }
}
