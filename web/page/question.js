// A question to the user, in a dialog.
import { box, el } from "./dom.js";

const SIDE = 520; // of the picture in the question, in CSS pixels

/**
 * askUser shows a question with a picture in which faces are framed. It returns the key of
 * the answer, or "" when the dialog is closed without one, as by Escape. Answers are
 * [key, name]; the last one has the focus at first, and should be the safest.
 */
export async function askUser({ title, lines, blob, faces, answers }) {
  const canvas = await framed(blob, faces);
  return new Promise((resolve) => {
    const buttons = answers.map(([key, name], i) => el("button", { type: "submit", value: key, autofocus: i === answers.length - 1 }, name));
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

/** framed returns a canvas with the picture, reduced, and frames around the faces. */
async function framed(blob, faces) {
  const img = await createImageBitmap(blob);
  const scale = Math.min(1, SIDE / Math.max(img.width, img.height));
  const dense = scale * Math.min(2, Math.max(1, devicePixelRatio)); // canvas pixels for each of the picture's
  const canvas = el("canvas", { role: "img", "aria-label": faces.length ? "The picture as it would be saved, with the places framed" : "The picture as it would be saved" });
  canvas.width = Math.max(1, Math.round(img.width * dense));
  canvas.height = Math.max(1, Math.round(img.height * dense));
  canvas.style.width = `${Math.round(img.width * scale)}px`;
  const c = canvas.getContext("2d");
  c.imageSmoothingQuality = "high";
  c.drawImage(img, 0, 0, canvas.width, canvas.height);
  img.close();
  const unit = dense / scale;
  for (const face of faces) {
    const b = box(face);
    // Around the box, and large enough to be seen.
    const side = (length) => Math.max(length * dense + 4 * unit, 14 * unit);
    const [w, h] = [side(b.width), side(b.height)];
    const at = [(b.x + b.width / 2) * dense - w / 2, (b.y + b.height / 2) * dense - h / 2, w, h];
    for (const [style, width] of [["rgba(4, 16, 12, 0.82)", 5], ["#ffc24b", 2.5]]) {
      c.strokeStyle = style;
      c.lineWidth = width * unit;
      c.strokeRect(...at);
    }
  }
  return canvas;
}
