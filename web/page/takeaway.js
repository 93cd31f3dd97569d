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

// head returns a disk that covers a whole head, with hair, ears and chin, which the boxes of
// most models leave out. It is the same whichever way the head is turned, because the
// landmarks of turned faces may be wrong. A smaller one, on shoulders, is taken for a face
// more often.
function head(face) {
  const b = box(face);
  return { cx: b.x + b.width / 2, cy: b.y + b.height * 0.45, r: 1.1 * Math.max(4, b.width, b.height) };
}

const isIn = ({ cx, cy, r }, x, y) => (x - cx) ** 2 + (y - cy) ** 2 < r * r;

/** middleIs reports whether the middle of a face's box is in a disk. */
function middleIs(disk, face) {
  const b = box(face);
  return isIn(disk, b.x + b.width / 2, b.y + b.height / 2);
}

/** isCovered reports whether disks hide all of a face's box. */
function isCovered(face, disks, picture) {
  const b = box(face);
  const near = disks.filter((d) => b.x < d.cx + d.r && b.x + b.width > d.cx - d.r && b.y < d.cy + d.r && b.y + b.height > d.cy - d.r);
  const parts = 12;
  for (let i = 0; i <= parts; i++) {
    for (let j = 0; j <= parts; j++) {
      const x = Math.max(0, Math.min(b.x + (b.width * i) / parts, picture.width));
      const y = Math.max(0, Math.min(b.y + (b.height * j) / parts, picture.height));
      if (!near.some((d) => isIn(d, x, y))) return false;
    }
  }
  return true;
}

/** distinct returns the faces without those that another model found too. */
const distinct = (faces) => faces.filter((f, i) => !faces.slice(0, i).some((g) => overlap(f, g) > 0.4));

// How a place is filled at first, and when a model takes the result for a face.
const FILLS = { blur: ["surroundings", "plain"], cover: ["plain"] };

const PLAIN = "#14201c";

const MAX_CHECKS = 8; // of a picture

/**
 * hidden hides the faces for good. It asks find(blob) which faces models find in the result:
 * {box, shown}, where shown means that the page would show the face. It then hides what is
 * shown, and what reaches beyond a hidden place; and it fills a hidden place in another way
 * when a model takes it for a face. It returns {blob, error, more, left, others}: error is why
 * find failed, or null; more is how many more faces were hidden; left are the faces that
 * models still find where everything is hidden; others are those elsewhere.
 */
export async function hidden(picture, given, style, find) {
  const fills = FILLS[style];
  const places = given.map((face) => ({ ...head(face), fill: 0 }));
  const more = [];
  for (let check = 1; ; check++) {
    const [canvas, c] = canvasOf(picture, { willReadFrequently: true });
    hide(c, places.map(({ fill, ...disk }) => ({ ...disk, fill: fills[fill] })));
    const blob = await encode(canvas, picture.blob);
    let found;
    try {
      found = await find(blob);
    } catch (error) {
      return { blob, error, more: distinct(more).length, left: [], others: [] };
    }
    const [left, others] = [[], []];
    for (const face of found) (isCovered(face, places, picture) ? left : others).push(face);
    const isAtPlace = (face) => places.some((place) => middleIs(place, face));
    const uncovered = others.filter((face) => face.shown || isAtPlace(face));
    const taken = places.filter((place) => place.fill < fills.length - 1 && left.some((face) => middleIs(place, face)));
    if (check === MAX_CHECKS || (!uncovered.length && !taken.length)) {
      return { blob, error: null, more: distinct(more).length, left: distinct(left), others: distinct(others) };
    }
    for (const place of taken) place.fill++;
    more.push(...uncovered.filter((face) => !isAtPlace(face)));
    places.push(...uncovered.map((face) => ({ ...head(face), fill: 0 })));
  }
}

/** rows calls act(x, y, width) for each row of the canvas's pixels that a disk touches. */
function rows({ width, height }, { cx, cy, r }, act) {
  const last = Math.min(height, Math.ceil(cy + r));
  for (let y = Math.max(0, Math.floor(cy - r)); y < last; y++) {
    const away = Math.max(0, y - cy, cy - y - 1); // to the nearest part of the row
    const half = Math.sqrt(Math.max(0, r * r - away * away));
    const x = Math.max(0, Math.floor(cx - half));
    const end = Math.min(width, Math.ceil(cx + half));
    if (end > x) act(x, y, end - x);
  }
}

// hide fills disks {cx, cy, r, fill}. It erases all of them before it fills the first, so
// that no fill depends on what was in any of them. It writes whole pixels: none is blended
// with what was there.
function hide(c, disks) {
  for (const disk of disks) rows(c.canvas, disk, (x, y, width) => c.clearRect(x, y, width, 1));
  const painters = disks.map((disk) => (disk.fill === "surroundings" ? surroundings(c, disk) : plain(c)));
  disks.forEach((disk, i) => rows(c.canvas, disk, painters[i]));
}

// plain returns the painter of one color, for rows().
function plain(c) {
  return (x, y, width) => {
    c.fillStyle = PLAIN;
    c.fillRect(x, y, width, 1);
  };
}

// surroundings returns the painter of a gradient between the mean colors of what can be seen
// around a disk: on its left and right, above and below. The means are rounded, so that the
// phase of a fine pattern does not change them.
function surroundings(c, { cx, cy, r }) {
  const reach = 2 * r;
  const [x0, y0] = [Math.max(0, Math.floor(cx - reach)), Math.max(0, Math.floor(cy - reach))];
  const [w, h] = [Math.min(c.canvas.width, Math.ceil(cx + reach)) - x0, Math.min(c.canvas.height, Math.ceil(cy + reach)) - y0];
  if (w <= 0 || h <= 0) return plain(c);
  const { data } = c.getImageData(x0, y0, w, h);
  const [left, right, above, below] = [0, 1, 2, 3].map(() => ({ sum: [0, 0, 0], n: 0 }));
  for (let y = 0, at = 0; y < h; y++) {
    for (let x = 0; x < w; x++, at += 4) {
      const [dx, dy] = [x0 + x + 0.5 - cx, y0 + y + 0.5 - cy];
      if (!data[at + 3] || dx * dx + dy * dy > reach * reach) continue; // erased, or too far
      for (const side of [dx < 0 ? left : right, dy < 0 ? above : below]) {
        side.n++;
        for (let i = 0; i < 3; i++) side.sum[i] += data[at + i];
      }
    }
  }
  const seen = [left, right, above, below].filter((side) => side.n);
  if (!seen.length) return plain(c);
  for (const side of seen) side.color = side.sum.map((sum) => Math.round(sum / side.n / 16) * 16);
  const mean = [0, 1, 2].map((i) => seen.reduce((sum, side) => sum + side.color[i], 0) / seen.length);
  const slope = (from, to) => mean.map((m, i) => ((to.color?.[i] ?? m) - (from.color?.[i] ?? m)) / 2 / r); // for a pixel
  const [across, down] = [slope(left, right), slope(above, below)];
  return (x, y, width) => {
    const row = new ImageData(width, 1);
    row.data.fill(255);
    for (let i = 0; i < 3; i++) {
      let value = mean[i] + down[i] * (y + 0.5 - cy) + across[i] * (x + 0.5 - cx);
      for (let at = i; at < row.data.length; at += 4, value += across[i]) row.data[at] = value;
    }
    c.putImageData(row, x, y);
  };
}
