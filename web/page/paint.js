// Draws images for saving, at the size of the original: annotated, or with hidden faces.
import { forEachRow } from "./disks.js";
import { box, landmarks } from "./faces.js";
import { savedType } from "./files.js";
import { gradientAround, gradientRow } from "./gradient.js";
import { colorOf, DOTS, isUnsure, labelText, SHADOW, sizesOf } from "./marks.js";

const PLAIN = "#14201c"; // hidden faces
const JPEG_QUALITY = 0.92;
const CAP_HEIGHT = 0.72; // of the digits, in ems
const MIN_DIGITS = 6; // pixels of digits that can be read

/** paintMarked returns a promise of the image file with boxes, landmarks and labels. For marks, sorted by decreasing confidence, see marksOf. */
export function paintMarked(image, marks) {
  const c = contextOf(image);
  const drawn = marks.map((mark) => ({ ...mark, color: colorOf(mark.face, mark.onlyBy), sizes: sizesOf(box(mark.face), image) })).reverse();
  for (const draw of [drawBox, drawLandmarks, drawLabel]) for (const mark of drawn) draw(c, mark);
  return encode(c.canvas, image.blob.type);
}

// drawBox draws a line outside of the box, so that a small face stays visible.
function drawBox(c, { face, onlyBy, color, sizes: { line, rim } }) {
  const { x, y, width, height } = box(face);
  const out = line / 2 + rim;
  const dashes = onlyBy || isUnsure(face) ? [4 * line, 2 * line] : [];
  for (const [style, lineWidth, dash] of [[SHADOW, line + 2 * rim, []], [color, line, dashes]]) {
    c.strokeStyle = style;
    c.lineWidth = lineWidth;
    c.setLineDash(dash);
    c.beginPath();
    c.roundRect(x - out, y - out, width + 2 * out, height + 2 * out, 2 * line + rim);
    c.stroke();
  }
  c.setLineDash([]);
}

function drawLandmarks(c, { face, sizes: { dot } }) {
  if (!dot) return;
  for (const [key, { x, y }] of landmarks(face)) {
    for (const [style, r] of [["#000", dot + Math.max(1, 0.4 * dot)], [DOTS[key], dot]]) {
      c.fillStyle = style;
      c.beginPath();
      c.arc(x, y, r, 0, 2 * Math.PI);
      c.fill();
    }
  }
}

// drawLabel draws a label that is at most as wide as its face, if it is large enough to read. One
// with the name of a model may be wider.
function drawLabel(c, { face, onlyBy, color, sizes: { line, rim, digits } }) {
  const b = box(face);
  const text = labelText(face.confidence) + (onlyBy && ` · ${onlyBy}`);
  const font = (height) => `700 ${height / CAP_HEIGHT}px system-ui, sans-serif`;
  c.font = font(1000);
  const widthOf = (height) => (c.measureText(text).width / 1000 + 1.1) * height;
  const limit = onlyBy ? digits : Math.floor(digits * Math.min(1, (b.width + 2 * line + 2 * rim) / widthOf(digits)));
  if (limit < MIN_DIGITS) return;
  const width = widthOf(limit);
  const height = limit * 1.8;
  const x = Math.max(0, Math.min(b.x - line - rim, c.canvas.width - width));
  const above = b.y - line - 2 * rim - height;
  const y = above >= 0 ? above : Math.min(b.y + b.height + line + 2 * rim, c.canvas.height - height);
  for (const [style, grow] of [[SHADOW, rim], [color, 0]]) {
    c.fillStyle = style;
    c.beginPath();
    c.roundRect(x - grow, y - grow, width + 2 * grow, height + 2 * grow, height / 3);
    c.fill();
  }
  c.font = font(limit);
  c.fillStyle = "#000";
  c.textAlign = "center";
  c.textBaseline = "alphabetic";
  c.fillText(text, x + width / 2, y + (height + limit) / 2);
}

/**
 * paintHidden returns a promise of the image file with disks {cx, cy, r, fill} filled. It erases
 * all disks before it fills the first one, so that no fill depends on what was in any of them.
 * It writes whole pixels, so that none is blended with the original.
 */
export function paintHidden(image, disks) {
  const c = contextOf(image, { willReadFrequently: true });
  for (const disk of disks) forEachRow(c.canvas, disk, (x, y, width) => c.clearRect(x, y, width, 1));
  // All gradients are computed before the first disk is filled.
  const painters = disks.map((disk) => (disk.fill === "gradient" ? gradientPainter(c, disk) : plainPainter(c)));
  disks.forEach((disk, i) => forEachRow(c.canvas, disk, painters[i]));
  return encode(c.canvas, image.blob.type);
}

// A painter fills a row of pixels: see forEachRow.
function plainPainter(c) {
  return (x, y, width) => {
    c.fillStyle = PLAIN;
    c.fillRect(x, y, width, 1);
  };
}

function gradientPainter(c, disk) {
  const gradient = gradientAround(disk, pixelsAround(c, disk));
  if (!gradient) return plainPainter(c);
  return (x, y, width) => {
    const row = new ImageData(width, 1);
    row.data.fill(255);
    gradientRow(row.data, gradient, disk, x, y);
    c.putImageData(row, x, y);
  };
}

// pixelsAround returns the pixels up to twice the radius from the center of a disk: see gradientAround.
function pixelsAround(c, { cx, cy, r }) {
  const [x, y] = [cx, cy].map((v) => Math.max(0, Math.floor(v - 2 * r)));
  const width = Math.min(c.canvas.width, Math.ceil(cx + 2 * r)) - x;
  const height = Math.min(c.canvas.height, Math.ceil(cy + 2 * r)) - y;
  if (width <= 0 || height <= 0) return { data: [], x, y, width: 0, height: 0 };
  return { data: c.getImageData(x, y, width, height).data, x, y, width, height };
}

// contextOf returns the context of a new canvas that shows the image.
function contextOf(image, settings) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d", settings);
  if (!context) throw new Error("This browser cannot draw an image of this size.");
  context.drawImage(image.element, 0, 0, canvas.width, canvas.height);
  return context;
}

function encode(canvas, originalType) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("This browser cannot encode an image of this size."))), savedType(originalType), JPEG_QUALITY);
  });
}
