// What a person takes away: pictures with the faces marked or hidden, made here
// in the browser, at the size of the original.
import { box, overlap, percent, points } from "./dom.js";

const MINT = "#46e6a4";
const AMBER = "#ffc24b";
const DARK = "rgba(4, 16, 12, 0.82)";

/** save lets the browser download a blob. */
export function save(blob, name) {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(blob);
  a.download = name;
  document.body.append(a);
  a.click();
  a.remove();
  setTimeout(() => URL.revokeObjectURL(a.href), 60_000);
}

/** rename gives a picture's name an ending of our own. */
export const rename = (name, ending) => name.replace(/\.[a-z0-9]{1,5}$/i, "") + ending;

const isPhoto = (blob) => !/^image\/(png|gif|webp|bmp)$/.test(blob.type);

export const extension = (blob) => (isPhoto(blob) ? ".jpg" : ".png");

function canvasOf(picture, settings) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d", settings);
  if (!context) throw new Error("This browser cannot draw a picture of that size.");
  context.drawImage(picture.img, 0, 0, canvas.width, canvas.height);
  return [canvas, context];
}

function encode(canvas, like) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("This browser cannot write a picture of that size."))), isPhoto(like) ? "image/jpeg" : "image/png", 0.92);
  });
}

/**
 * marked draws boxes, landmarks and confidences: of marks {face, number, by}, the
 * surest first. By is the name of the model if it is the only one to find it, whose
 * box is dashed.
 */
export function marked(picture, marks) {
  const [canvas, c] = canvasOf(picture);
  const unit = Math.max(1, Math.max(canvas.width, canvas.height) / 800);
  c.lineJoin = "round";
  for (const { face, number, by } of marks.toReversed()) {
    const b = box(face);
    const colour = by ? AMBER : MINT;
    for (const [style, width, dashes] of [[DARK, 4.5, []], [colour, 2.25, by ? [7 * unit, 5 * unit] : []]]) {
      c.strokeStyle = style;
      c.lineWidth = width * unit;
      c.setLineDash(dashes);
      c.strokeRect(b.x, b.y, b.width, b.height);
    }
    c.setLineDash([]);
    const r = Math.max(1.2, Math.min(4 * unit, b.width / 26));
    for (const [, p] of points(face)) {
      c.beginPath();
      c.arc(p.x, p.y, r, 0, 2 * Math.PI);
      c.fillStyle = colour;
      c.strokeStyle = DARK;
      c.lineWidth = 1.5 * unit;
      c.stroke();
      c.fill();
    }
    c.font = `600 ${13 * unit}px system-ui, sans-serif`;
    const words = [number, percent(face.confidence), by].filter(Boolean).join(" · ");
    const w = c.measureText(words).width + 12 * unit;
    const h = 20 * unit;
    const x = Math.max(0, Math.min(b.x, canvas.width - w));
    const y = Math.max(unit, b.y - h - 3 * unit);
    c.fillStyle = DARK;
    c.beginPath();
    c.roundRect(x, y, w, h, 4 * unit);
    c.fill();
    c.fillStyle = "#fff";
    c.textBaseline = "middle";
    c.fillText(words, x + 6 * unit, y + h / 2 + unit / 2);
  }
  return encode(canvas, picture.blob);
}

// head is the ellipse that covers a whole head, hair, ears and chin: the corners
// of the face's box lie within it.
function head(face) {
  const b = box(face);
  return { cx: b.x + b.width / 2, cy: b.y + b.height * 0.375, rx: Math.max(3, b.width * 0.8), ry: Math.max(3, b.height * 0.9) };
}

// How faces are hidden, from the least on. A head becomes so many cells across,
// each of one colour of few, smoothed: what was within a cell is not in the
// picture any more, whatever is done to it. 0: one colour.
const STRENGTHS = { blur: [6, 4, 3, 2, 0], cover: [0] };

/**
 * hidden hides the faces for good, and asks still(blob), which returns the faces
 * that a model yet finds there, until it finds none of them. A face that it finds
 * elsewhere, and that is to be shown, is hidden as well. Returns {blob, checked,
 * left, doubted, more, others}: whether it could be asked; how many of the faces it
 * sees after all, for sure, and with doubts; how many more were found elsewhere and
 * hidden; and how many elsewhere were not, because they are not to be shown.
 */
export async function hidden(picture, given, style, still) {
  const faces = [...given];
  const original = canvasOf(picture, { willReadFrequently: true })[1];
  const level = faces.map(() => 0);
  const steps = STRENGTHS[style];
  for (;;) {
    const [canvas, c] = canvasOf(picture);
    faces.forEach((face, i) => hide(c, original, head(face), steps[level[i]], style));
    const blob = await encode(canvas, picture.blob);
    let seen;
    try {
      seen = await still(blob);
    } catch {
      return { blob, checked: false, left: 0, doubted: 0, more: faces.length - given.length, others: 0 };
    }
    const at = (f, face) => isIn(f, head(face)) || overlap(f, face) > 0.2;
    const outside = seen.filter((f) => !faces.some((face) => at(f, face)));
    const elsewhere = outside.filter((f) => f.shown);
    if (elsewhere.length) {
      faces.push(...elsewhere);
      level.push(...elsewhere.map(() => 0));
      continue;
    }
    const found = faces.map((face, i) => i).filter((i) => seen.some((f) => at(f, faces[i])));
    const weak = found.filter((i) => level[i] < steps.length - 1);
    if (!weak.length) {
      const left = found.filter((i) => seen.some((f) => f.sure && at(f, faces[i]))).length;
      const others = outside.filter((f, i) => !outside.slice(0, i).some((g) => overlap(f, g) > 0.4)); // models find the same
      return { blob, checked: true, left, doubted: found.length - left, more: faces.length - given.length, others: others.length };
    }
    for (const i of weak) level[i]++;
  }
}

function isIn(face, { cx, cy, rx, ry }) {
  const b = box(face);
  return ((b.x + b.width / 2 - cx) / rx) ** 2 + ((b.y + b.height / 2 - cy) / ry) ** 2 < 1;
}

function hide(c, original, { cx, cy, rx, ry }, cells, style) {
  c.save();
  c.beginPath();
  c.ellipse(cx, cy, rx, ry, 0, 0, 2 * Math.PI);
  c.clip();
  const x = Math.max(0, Math.floor(cx - rx));
  const y = Math.max(0, Math.floor(cy - ry));
  const w = Math.min(c.canvas.width, Math.ceil(cx + rx)) - x;
  const h = Math.min(c.canvas.height, Math.ceil(cy + ry)) - y;
  if (style === "cover") {
    c.fillStyle = "#14201c";
    c.fillRect(x, y, w, h);
  } else if (w > 0 && h > 0) {
    const columns = Math.max(1, cells);
    const rows = Math.max(1, Math.round((cells * ry) / rx));
    const few = average(original.getImageData(x, y, w, h), columns, rows);
    const small = document.createElement("canvas");
    small.width = columns;
    small.height = rows;
    small.getContext("2d").putImageData(few, 0, 0);
    c.imageSmoothingEnabled = true;
    c.imageSmoothingQuality = "high";
    // The smoothing fades to the edge of what is drawn: draw beyond the clip.
    c.filter = `blur(${Math.max(1, w / columns / 3)}px)`;
    c.drawImage(small, x - w * 0.06, y - h * 0.06, w * 1.12, h * 1.12);
    c.filter = "none";
  }
  c.restore();
}

function average({ data, width, height }, columns, rows) {
  const out = new ImageData(columns, rows);
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < columns; k++) {
      const [x0, x1] = [Math.floor((k * width) / columns), Math.max(1, Math.floor(((k + 1) * width) / columns))];
      const [y0, y1] = [Math.floor((r * height) / rows), Math.max(1, Math.floor(((r + 1) * height) / rows))];
      const step = Math.max(1, Math.floor(Math.max(x1 - x0, y1 - y0) / 64));
      const sum = [0, 0, 0];
      let n = 0;
      for (let y = y0; y < y1; y += step) {
        for (let x = x0; x < x1; x += step, n++) {
          const at = 4 * (y * width + x);
          for (let i = 0; i < 3; i++) sum[i] += data[at + i];
        }
      }
      for (let i = 0; i < 3; i++) out.data[4 * (r * columns + k) + i] = Math.round(sum[i] / Math.max(1, n) / 16) * 16;
      out.data[4 * (r * columns + k) + 3] = 255;
    }
  }
  return out;
}
