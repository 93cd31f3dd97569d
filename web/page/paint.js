// Draws images for saving, at the size of the original: annotated, or with hidden faces.
import { forEachRow } from "./disks.js";
import { box, landmarks } from "./faces.js";
import { savedType } from "./files.js";
import { percent } from "./format.js";
import { gradientAround, gradientRow } from "./gradient.js";

const MINT = "#46e6a4";
const AMBER = "#ffc24b"; // faces that only one model found
const DARK = "rgba(4, 16, 12, 0.82)";
const PLAIN = "#14201c"; // hidden faces
const JPEG_QUALITY = 0.92;

/** paintMarked returns a promise of the image file with boxes, landmarks and labels. For marks, sorted by decreasing confidence, see marksOf. */
export function paintMarked(image, marks) {
  const c = contextOf(image);
  const unit = Math.max(1, Math.max(image.width, image.height) / 800); // a CSS pixel at a usual size of display
  c.lineJoin = "round";
  for (const mark of marks.toReversed()) {
    drawBox(c, mark, unit);
    drawLandmarks(c, mark, unit);
    drawLabel(c, mark, unit);
  }
  return encode(c.canvas, image.blob.type);
}

const colorOf = ({ onlyBy }) => (onlyBy ? AMBER : MINT);

function drawBox(c, mark, unit) {
  const { x, y, width, height } = box(mark.face);
  for (const [style, lineWidth, dashes] of [[DARK, 4.5, []], [colorOf(mark), 2.25, mark.onlyBy ? [7 * unit, 5 * unit] : []]]) {
    c.strokeStyle = style;
    c.lineWidth = lineWidth * unit;
    c.setLineDash(dashes);
    c.strokeRect(x, y, width, height);
  }
  c.setLineDash([]);
}

function drawLandmarks(c, mark, unit) {
  const r = Math.max(1.2, Math.min(4 * unit, box(mark.face).width / 26));
  c.fillStyle = colorOf(mark);
  c.strokeStyle = DARK;
  c.lineWidth = 1.5 * unit;
  for (const [, { x, y }] of landmarks(mark.face)) {
    c.beginPath();
    c.arc(x, y, r, 0, 2 * Math.PI);
    c.stroke();
    c.fill();
  }
}

function drawLabel(c, { face, number, onlyBy }, unit) {
  const b = box(face);
  c.font = `600 ${13 * unit}px system-ui, sans-serif`;
  const text = [number, percent(face.confidence), onlyBy].filter(Boolean).join(" · ");
  const width = c.measureText(text).width + 12 * unit;
  const height = 20 * unit;
  const x = Math.max(0, Math.min(b.x, c.canvas.width - width));
  const y = Math.max(unit, b.y - height - 3 * unit);
  c.fillStyle = DARK;
  c.beginPath();
  c.roundRect(x, y, width, height, 4 * unit);
  c.fill();
  c.fillStyle = "#fff";
  c.textBaseline = "middle";
  c.fillText(text, x + 6 * unit, y + height / 2 + unit / 2);
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
