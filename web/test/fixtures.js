// What several tests share.

/** face returns a face as the server describes it. */
export const face = (x, y, width, height, confidence = 0.9, more = {}) => ({
  box: { upLeft: { x, y }, lowerRight: { x: x + width, y: y + height } },
  confidence,
  ...more,
});

/** settle lets everything that is ready to run run. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));
