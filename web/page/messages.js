// Which message is shown beside the image, and its words. Pure.
import { remedyOf } from "./device.js";
import { duration } from "./format.js";

/**
 * messageFor returns the message to show, or null: {kind, title, message, remedy, actions,
 * details, isFolded}. Actions are [label, key]; details are codes; isFolded means that the message
 * and the details are shown on demand. The first that applies wins: an error
 * of the page itself, a request that failed, was stopped or waits, an image that the browser
 * cannot show, and no image at all.
 *
 * pageErrors are {title, message}, and actions other than to close them; entries are those on view; image is the one on view or null;
 * isEmpty is whether the view should invite the user to add an image; device is that of deviceOf.
 */
export function messageFor({ pageErrors, entries, image, isEmpty, device = "other" }) {
  const failed = entries.find((e) => e.error && !e.error.canceled);
  const waiting = entries.find((e) => e.pending && e.wait);
  if (pageErrors.length) return message("error", { actions: [["Close", "closeError"]], ...pageErrors[0] });
  if (failed) return failedMessage(failed.error, device);
  if (entries.some((e) => e.error?.canceled)) return message("error", { title: "Stopped", message: "The image was not processed.", actions: [["Try again", "retry"]] });
  if (waiting) return waitingMessage(waiting.wait);
  if (image?.unreadable && !image.pictureLoading) return entries.some((e) => e.answer) && !image.noteClosed ? unreadableMessage() : null;
  return isEmpty ? emptyMessage() : null;
}

const message = (kind, parts) => ({ kind, remedy: "", details: [], isFolded: false, ...parts });

// Errors of an image, which another attempt does not change, and whose remedy says enough.
const IMAGE_REASONS = new Set(["EMPTY_IMAGE", "UNSUPPORTED_FORMAT", "CORRUPT_IMAGE", "TOO_MANY_PIXELS", "TOO_MANY_BYTES"]);

const failedMessage = (error, device) =>
  message("error", { title: error.title, message: error.message, remedy: remedyOf(error, device), isFolded: IMAGE_REASONS.has(error.reason), actions: [IMAGE_REASONS.has(error.reason) ? ["Choose another image", "choose"] : ["Try again", "retry"]], details: [error.reason, error.requestID && `request ${error.requestID}`].filter(Boolean) });

const waitingMessage = ({ attempt, pause, error }) =>
  message("waiting", {
    title: error.title,
    message: error.message,
    remedy: `Retrying automatically in ${duration(pause)}. Attempts so far: ${attempt}.`,
    actions: [["Stop", "stop"]],
    details: [error.reason].filter(Boolean),
  });

const unreadableMessage = () =>
  message("note", {
    title: "This browser cannot show this format",
    message: "The server supports it, but could not send a picture of it. The faces are marked at their positions. The annotated image and the image with hidden faces cannot be saved.",
    actions: [["Close", "closeNote"]],
  });

const emptyMessage = () =>
  message("empty", {
    title: "No image",
    message: "Drop images anywhere, choose or paste them, or turn on the camera.",
    actions: [["Choose images", "choose"], ["Open a sample", "sample"]],
  });
