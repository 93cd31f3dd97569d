// Small things of the page. Texts are set as text, never as HTML: file names and
// what a server says are strangers'.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/** el makes an element. Properties are set as such; those with a dash, and role, as attributes. */
export function el(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** svg makes an element of SVG, all of whose properties are attributes. */
export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  set(node, attributes);
  node.append(...children);
  return node;
}

/** set sets attributes. */
export function set(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
}

function fill(node, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** percent writes a confidence, rounded down so that it never says more than there is. */
export const percent = (c) => (Math.floor(c * 1000 + 1e-6) / 10).toFixed(1) + " %";

/** whole writes a threshold. */
export const whole = (c) => Math.round(c * 100) + " %";

export const faces = (n) => (n === 1 ? "1 face" : `${n} faces`);

/** ms writes milliseconds. */
export const ms = (t) => (t >= 1000 ? (t / 1000).toFixed(2) + " s" : t >= 10 || t < 0.05 ? Math.round(t) + " ms" : t.toFixed(1) + " ms");

/** bytes writes a size. */
export const bytes = (n) => (n >= 1e6 ? (n / 1e6).toFixed(1) + " MB" : n >= 1000 ? Math.round(n / 1000) + " kB" : n + " bytes");

const POINTS = ["leftEye", "rightEye", "nose", "mouthLeft", "mouthRight"];
export const POINT_NAMES = { leftEye: "left eye", rightEye: "right eye", nose: "nose", mouthLeft: "mouth, left", mouthRight: "mouth, right" };

/** points returns the landmarks of a face as [name, {x, y}], none when it has none. */
export const points = (face) => (face.landmarks ? POINTS.map((name) => [name, face.landmarks[name]]) : []);

/** box returns {x, y, width, height} of a face, in pixels of the picture. */
export function box(face) {
  const { upLeft, lowerRight } = face.box;
  return { x: upLeft.x, y: upLeft.y, width: lowerRight.x - upLeft.x, height: lowerRight.y - upLeft.y };
}

/** overlap is the intersection over the union of two faces' boxes. */
export function overlap(a, b) {
  const p = box(a);
  const q = box(b);
  const w = Math.min(p.x + p.width, q.x + q.width) - Math.max(p.x, q.x);
  const h = Math.min(p.y + p.height, q.y + q.height) - Math.max(p.y, q.y);
  if (w <= 0 || h <= 0) return 0;
  return (w * h) / (p.width * p.height + q.width * q.height - w * h);
}
