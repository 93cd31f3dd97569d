// Asks the user a question about an image, in a dialog.
import { el } from "./dom.js";
import { box } from "./faces.js";
import { AMBER, SHADOW } from "./marks.js";

const MAX_SIDE = 520; // of the image in the dialog, in CSS pixels

/**
 * askUser shows a question with an image in which faces are framed. It returns a promise of the
 * key of the answer, or of "" when the dialog is closed without an answer, for instance with
 * Escape. Answers are [key, label]; the last one has the focus at first, so it should be the
 * safest.
 */
export async function askUser({ title, lines, blob, faces, answers }) {
  const canvas = await framed(blob, faces);
  return new Promise((resolve) => {
    const buttons = answers.map(([key, label], i) => el("button", { type: "submit", value: key, autofocus: i === answers.length - 1 }, label));
    const dialog = el(
      "dialog",
      { className: "ask", "aria-labelledby": "ask-title", "aria-describedby": "ask-lines" },
      el(
        "form",
        { method: "dialog" },
        el("h2", { id: "ask-title" }, title),
        el("div", { id: "ask-lines" }, ...lines.map((line) => el("p", {}, line))),
        canvas,
        el("div", { className: "actions" }, ...buttons),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// framed returns a promise of a canvas with the image, reduced, and frames around the faces.
async function framed(blob, faces) {
  const bitmap = await createImageBitmap(blob);
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height)); // CSS pixels per pixel of the image
  const density = scale * Math.min(2, Math.max(1, devicePixelRatio)); // canvas pixels per pixel of the image
  const canvas = el("canvas", { role: "img", "aria-label": faces.length ? "The image to be saved, with these places framed" : "The image to be saved" });
  canvas.width = Math.max(1, Math.round(bitmap.width * density));
  canvas.height = Math.max(1, Math.round(bitmap.height * density));
  canvas.style.width = `${Math.round(bitmap.width * scale)}px`;
  const c = canvas.getContext("2d");
  c.imageSmoothingQuality = "high";
  c.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  for (const face of faces) drawFrame(c, box(face), density, density / scale);
  return canvas;
}

// drawFrame draws a frame around a box, large enough to be visible. unit is a CSS pixel in canvas pixels.
function drawFrame(c, b, density, unit) {
  const side = (length) => Math.max(length * density + 4 * unit, 14 * unit);
  const [width, height] = [side(b.width), side(b.height)];
  const [x, y] = [(b.x + b.width / 2) * density - width / 2, (b.y + b.height / 2) * density - height / 2];
  for (const [style, lineWidth] of [[SHADOW, 5], [AMBER, 2.5]]) {
    c.strokeStyle = style;
    c.lineWidth = lineWidth * unit;
    c.strokeRect(x, y, width, height);
  }
}
