// The gradient that fills a disk with the colors around it. Pure.

const CHANNELS = [0, 1, 2]; // red, green, blue

/**
 * gradientAround returns a gradient between the mean colors of what is visible around a disk
 * {cx, cy, r}, on its left and right, above and below: {mean, across, down}, the color at the
 * center and its change for a pixel to the right and down, as [red, green, blue]. It returns
 * null when nothing is visible. pixels are {data, x, y, width, height}: RGBA of the rectangle at
 * (x, y); transparent pixels are erased ones, and do not count. The means are rounded, so that
 * the phase of a fine pattern does not change them.
 */
export function gradientAround({ cx, cy, r }, pixels) {
  const sides = meanSides({ cx, cy, reach: 2 * r }, pixels);
  const visible = Object.values(sides).filter((side) => side.color);
  if (!visible.length) return null;
  const mean = CHANNELS.map((i) => visible.reduce((sum, side) => sum + side.color[i], 0) / visible.length);
  const slope = (from, to) => mean.map((m, i) => ((to.color?.[i] ?? m) - (from.color?.[i] ?? m)) / 2 / r);
  return { mean, across: slope(sides.left, sides.right), down: slope(sides.above, sides.below) };
}

// meanSides returns the mean color of the opaque pixels on each side of a center, up to reach from it.
function meanSides({ cx, cy, reach }, { data, x: x0, y: y0, width, height }) {
  const [left, right, above, below] = [0, 1, 2, 3].map(() => ({ sum: [0, 0, 0], n: 0, color: null }));
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const [dx, dy] = [x0 + x + 0.5 - cx, y0 + y + 0.5 - cy];
      if (!data[at + 3] || dx * dx + dy * dy > reach * reach) continue;
      for (const side of [dx < 0 ? left : right, dy < 0 ? above : below]) {
        side.n++;
        for (const i of CHANNELS) side.sum[i] += data[at + i];
      }
    }
  }
  for (const side of [left, right, above, below]) {
    if (side.n) side.color = side.sum.map((sum) => Math.round(sum / side.n / 16) * 16);
  }
  return { left, right, above, below };
}

/** gradientRow writes the colors of one row of pixels, from (x, y) to the right, into RGBA data. Alpha stays as it is. */
export function gradientRow(data, { mean, across, down }, { cx, cy }, x, y) {
  for (const i of CHANNELS) {
    let value = mean[i] + down[i] * (y + 0.5 - cy) + across[i] * (x + 0.5 - cx);
    for (let at = i; at < data.length; at += 4, value += across[i]) data[at] = value;
  }
}
