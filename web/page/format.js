// Numbers as texts: confidences, durations, sizes and counts. Pure.

/** percent formats a confidence from 0 to 1, rounded down so that it never claims too much. */
export const percent = (confidence) => (Math.floor(confidence * 1000 + 1e-6) / 10).toFixed(1) + " %";

/** exact formats a confidence from 0 to 1 with four decimals, rounded down like all confidences. */
export const exact = (confidence) => (Math.floor(confidence * 10_000 + 1e-6) / 10_000).toFixed(4);

/** wholePercent formats a threshold from 0 to 1. */
export const wholePercent = (threshold) => Math.round(threshold * 100) + " %";

/** toHundredths rounds a confidence to the steps of the slider. */
export const toHundredths = (confidence) => Math.round(confidence * 100) / 100;

/** duration formats milliseconds. */
export function duration(ms) {
  if (ms >= 1000) return (ms / 1000).toFixed(2) + " s";
  return (ms >= 10 || ms < 0.05 ? Math.round(ms) : ms.toFixed(1)) + " ms";
}

/** fileSize formats a number of bytes. */
export function fileSize(n) {
  if (n >= 1e6) return (n / 1e6).toFixed(1) + " MB";
  return n >= 1000 ? Math.round(n / 1000) + " kB" : n + " bytes";
}

/** dimensions formats the size of an image or answer {width, height}, and is "" while it is unknown. */
export const dimensions = (of) => (of?.width ? `${of.width} × ${of.height}` : "");

/** plural formats a count with its noun: "1 face", "2 faces". */
export const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
