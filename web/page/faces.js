// Faces as the server describes them, and the geometry of their boxes. Coordinates are pixels
// of the upright image, x to the right and y down. Pure.

const LANDMARKS = ["leftEye", "rightEye", "nose", "mouthLeft", "mouthRight"];

/** LANDMARK_NAMES are the names of landmarks for readers. */
export const LANDMARK_NAMES = { leftEye: "left eye", rightEye: "right eye", nose: "nose", mouthLeft: "mouth, left", mouthRight: "mouth, right" };

// Boxes of the same face in two lists overlap by more than this.
const MIN_OVERLAP = 0.4;

/** landmarks returns the landmarks of a face as [key, {x, y}], or [] for a face without landmarks. */
export const landmarks = (face) => (face.landmarks ? LANDMARKS.map((key) => [key, face.landmarks[key]]) : []);

/** box returns the box of a face as {x, y, width, height}. */
export function box(face) {
  const { upLeft, lowerRight } = face.box;
  return { x: upLeft.x, y: upLeft.y, width: lowerRight.x - upLeft.x, height: lowerRight.y - upLeft.y };
}

/** overlap returns the intersection over union (IoU) of the boxes of two faces. */
export function overlap(a, b) {
  const p = box(a);
  const q = box(b);
  const width = Math.min(p.x + p.width, q.x + q.width) - Math.max(p.x, q.x);
  const height = Math.min(p.y + p.height, q.y + q.height) - Math.max(p.y, q.y);
  if (width <= 0 || height <= 0) return 0;
  return (width * height) / (p.width * p.height + q.width * q.height - width * height);
}

/**
 * matchFaces matches the faces of two models: each face of a with the face of b that overlaps
 * it most and is still free. It returns {both, unmatched}: the number of pairs, and for each
 * list an array of booleans that are true for the faces without a match.
 */
export function matchFaces(a, b) {
  const unmatched = [a.map(() => true), b.map(() => true)];
  let both = 0;
  a.forEach((face, i) => {
    let best = -1;
    let bestOverlap = MIN_OVERLAP;
    b.forEach((other, j) => {
      const shared = overlap(face, other);
      if (unmatched[1][j] && shared > bestOverlap) [best, bestOverlap] = [j, shared];
    });
    if (best < 0) return;
    both++;
    unmatched[0][i] = unmatched[1][best] = false;
  });
  return { both, unmatched };
}

/** distinctFaces returns the faces without those that overlap an earlier face of the list. */
export const distinctFaces = (faces) => faces.filter((face, i) => !faces.slice(0, i).some((earlier) => overlap(face, earlier) > MIN_OVERLAP));

/** countAbove returns how many faces have at least the threshold's confidence. Faces are sorted by falling confidence. */
export function countAbove(faces, threshold) {
  const first = faces.findIndex((face) => !(face.confidence >= threshold));
  return first < 0 ? faces.length : first;
}

/** histogram counts the faces by confidence, in equal bins from min to 1. */
export function histogram(faces, min, bins) {
  const counts = Array(bins).fill(0);
  const width = (1 - min) / bins;
  for (const { confidence } of faces) {
    const i = Math.floor((confidence - min) / width + 1e-9); // 0.15 is in the bin that starts there, whatever its last bit
    counts[Math.min(bins - 1, Math.max(0, i))]++;
  }
  return counts;
}
