// Reads the server's replies: times, and errors with advice for the user. Pure.

const LARGE = 8 << 20; // bytes of a file that may exceed the server's limit

// A title and advice for each reason. The server's own message, shown with them, has the details.
const ADVICE = {
  EMPTY_IMAGE: ["This file is empty", "Choose another file."],
  UNSUPPORTED_FORMAT: ["This format is not supported", "Send a JPEG, PNG, GIF, WebP, BMP or TIFF file."],
  CORRUPT_IMAGE: ["This image is damaged", "Send the original file. The usual cause is an upload or a copy that was cut short."],
  INVALID_OPTIONS: ["An option is out of range", "Correct the options beside the image."],
  INVALID_PIXELS: ["The raw pixels do not match the size", "Send an encoded image."],
  TOO_MANY_PIXELS: ["This image has too many pixels", "Reduce it, or start the server with a larger --max-pixels."],
  TOO_MANY_BYTES: ["This file is too large", "Reduce it, or start the server with a larger --max-image-bytes."],
  UNKNOWN_MODEL: ["This server does not have that model", "Choose another model, or reload the page."],
  QUOTA: ["Your quota is used up", "Try again in a moment."],
  OVERLOADED: ["The server is busy", "Try again in a moment."],
  DRAINING: ["The server is shutting down", "Try again when it is back."],
  DEADLINE: ["The request took too long", "Raise the smallest face, or start the server with a larger --default-timeout."],
  UNAUTHENTICATED: ["This server requires an API key", "Ask the server’s operator for one."],
  PERMISSION_DENIED: ["The server does not allow this page", "Open the page by another address, or ask the server’s operator."],
  INTERNAL: ["The server failed", "Report the request ID to the server’s operator. The server’s log has the cause."],
};

/**
 * A ServerError is a request that failed. It has a title, a message and a remedy for the user,
 * the server's reason and request ID, or "", and retryAfter: the seconds after which the server
 * asked for another attempt, or null. canceled is true when the user stopped the request,
 * unreachable when the server did not reply.
 */
export class ServerError extends Error {
  constructor({ title, message, remedy = "", reason = "", requestID = "", retryAfter = null, canceled = false, unreachable = false }) {
    super(message);
    Object.assign(this, { title, remedy, reason, requestID, retryAfter, canceled, unreachable });
  }
}

/** canceledError returns the error of a request that the user stopped. */
export const canceledError = () => new ServerError({ title: "Stopped", message: "stopped", canceled: true });

/** isRetryable reports whether the server asked for another attempt. */
export const isRetryable = (error) => typeof error.retryAfter === "number";

/**
 * timesOf returns in milliseconds where the time of a request went: encode in the browser,
 * queue, decode and detect on the server, network for the rest, and the total.
 */
export function timesOf({ answer, encode, roundTrip }) {
  const { queue, decode, detect } = answer.timing ?? {};
  const times = { encode, queue: milliseconds(queue), decode: milliseconds(decode), detect: milliseconds(detect) };
  times.network = Math.max(0, roundTrip - times.queue - times.decode - times.detect);
  times.total = encode + roundTrip;
  return times;
}

/** errorOf returns the ServerError of a reply of worker.js without a result. size is that of the image sent, in bytes. */
export function errorOf(reply, size = 0) {
  switch (reply.failed) {
    case undefined:
      return rejection(reply);
    case "AbortError":
      return canceledError();
    case "NotReadableError":
    case "NotFoundError":
      return new ServerError({ title: "This file cannot be read", message: reply.text, remedy: "It may be a folder, or it was moved or changed after you chose it. Choose it again." });
    default:
      return unreachable(size > LARGE);
  }
}

function unreachable(large) {
  return new ServerError({
    title: "The server cannot be reached",
    message: large ? "The connection was closed while the image was being sent." : "The server did not answer.",
    remedy: large
      ? "The file may exceed the server’s limit, which is 16 MiB by default. Reduce it, or try again."
      : "Check that the server is running and that you are online. This page reconnects automatically.",
    unreachable: true,
  });
}

// rejection reads an error in Connect's JSON, or what a proxy answered instead.
function rejection({ status, answer, text, requestID, retryAfter }) {
  const detail = (type) => answer?.details?.find((d) => d.type === type)?.debug;
  const reason = detail("google.rpc.ErrorInfo")?.reason ?? "";
  const [title, remedy] = ADVICE[reason] ?? ["The server rejected the request", ""];
  return new ServerError({
    title,
    message: answer?.message || text || `The server answered with status ${status}.`,
    remedy,
    reason: reason || answer?.code || `HTTP ${status}`,
    requestID: requestID ?? "",
    retryAfter: secondsToWait(status, detail("google.rpc.RetryInfo")?.retryDelay, retryAfter),
  });
}

function secondsToWait(status, retryDelay, retryAfter) {
  if (status !== 503 && status !== 429) return null;
  const seconds = milliseconds(retryDelay) / 1000 || Number(retryAfter);
  return seconds > 0 ? seconds : null;
}

// milliseconds reads a Duration in protobuf's JSON, such as "0.012s".
const milliseconds = (text) => (text ? parseFloat(text) * 1000 : 0);
