// How a face is marked, on the page and on saved images: the same as package annotate does it. Pure.

export const LIME = "#c6ff00";
export const AMBER = "#ffb300"; // dashed: a confidence below UNSURE
export const CYAN = "#00e5ff"; // dashed: only one of two models found the face
export const PINK = "#ff6edc";
export const WHITE = "#ffffff";
export const SHADOW = "rgba(0, 0, 0, 0.75)"; // the rim of lines and labels

/** UNSURE is the confidence below which a face is dashed. */
export const UNSURE = 0.5;

/** DOTS are the colors of landmarks: those on the viewer's left, on the right, and the nose. */
export const DOTS = { leftEye: CYAN, rightEye: PINK, nose: WHITE, mouthLeft: CYAN, mouthRight: PINK };

/** colorOf returns the color of a face's box and label. isAlone means that only one of two models found the face. */
export const colorOf = (face, isAlone) => (isAlone ? CYAN : isUnsure(face) ? AMBER : LIME);

/** isUnsure reports whether the confidence of a face is low. */
export const isUnsure = (face) => !(face.confidence >= UNSURE);

/** labelText formats a confidence from 0 to 1 for a label, rounded down so that 99.9 % does not become 100 %. */
export const labelText = (confidence) => Math.floor(100 * confidence + 1e-6) + "%";

/**
 * sizesOf returns how a face is drawn on an image, in pixels of the image: {line, rim, dot,
 * digits}. dot is the radius of a landmark, or 0 if the face is too small for landmarks. digits
 * is the height of a label's digits, which the width of the face may limit further.
 */
export function sizesOf({ width, height }, image) {
  const side = Math.max(width, height);
  const longer = Math.max(image.width, image.height);
  const line = Math.max(1, Math.round(Math.min(side / 14, longer / 450)));
  return {
    line,
    rim: Math.floor((line + 1) / 2),
    dot: side < 20 ? 0 : Math.max(1, Math.min(side / 26, Math.max(1.6, longer / 260))),
    digits: Math.max(6, Math.floor(longer / 100)),
  };
}
