// The server, as this page knows it: JSON by POST, errors with reasons, and
// waiting while it is overloaded.

const SERVICE = "/inference.v1.Inference/";

// What is asked for, always: the slider then filters without another call. Below
// this a model tells thousands of places that are hardly ever faces.
export const FLOOR = 0.05;
export const MOST = 500;

// What the errors mean for a person at this page; the server's own message,
// shown above it, has the particulars.
const REMEDIES = {
  EMPTY_IMAGE: ["This file is empty", "Choose another file."],
  UNSUPPORTED_FORMAT: ["This is no picture that Mien reads", "Send a JPEG, PNG, GIF, WebP, BMP or TIFF file."],
  CORRUPT_IMAGE: ["This picture is damaged", "Send the file as it was made; an upload or a copy that was cut short is the usual cause."],
  INVALID_OPTIONS: ["An option is out of range", "Correct it on the right."],
  INVALID_PIXELS: ["The pixels do not fit the size", "Send an encoded picture."],
  TOO_MANY_PIXELS: ["This picture has too many pixels", "Reduce it, or start the server with a larger --max-pixels."],
  TOO_MANY_BYTES: ["This file is too large", "Reduce it, or start the server with a larger --max-image-bytes."],
  UNKNOWN_MODEL: ["This server has no such model", "Choose another model, or reload the page."],
  OVERLOADED: ["The server is busy", "Try again in a moment."],
  DRAINING: ["The server is shutting down", "Try again when it is back."],
  DEADLINE: ["It took too long", "Look for larger faces, or start the server with a larger --default-timeout."],
  UNAUTHENTICATED: ["This server wants to know who calls", "Ask its operator how to."],
  INTERNAL: ["Something broke on the server", "Report it with the request id; the server’s log has the cause."],
};

export class ServerError extends Error {
  constructor({ title, message, remedy, reason = "", requestID = "", retryAfter = null, canceled = false, unreachable = false }) {
    super(message);
    Object.assign(this, { title, remedy, reason, requestID, retryAfter, canceled, unreachable });
  }
}

const worker = new Worker("/page/worker.js", { type: "module" });
const waiting = new Map();
let lastID = 0;

worker.onmessage = ({ data }) => {
  waiting.get(data.id)?.(data);
  waiting.delete(data.id);
};
worker.onerror = () => {
  for (const [id, resolve] of waiting) resolve({ id, failed: "Error", text: "the page’s worker has ended; reload the page" });
  waiting.clear();
};

function post(method, blob, request, signal) {
  const id = ++lastID;
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve({ id, failed: "AbortError" });
    waiting.set(id, resolve);
    signal?.addEventListener("abort", () => worker.postMessage({ id, cancel: true }), { once: true });
    worker.postMessage({ id, url: SERVICE + method, blob, request });
  });
}

/** listModels returns the models of the server, the default one first. */
export async function listModels() {
  return (await call("ListModels", null, {})).answer.models;
}

/**
 * predict asks once and returns {answer, times}; throws a ServerError. Options
 * are those of DetectOptions; times are in milliseconds.
 */
export async function predict(blob, options, signal) {
  const reply = await call("Predict", blob, { options }, signal);
  const { queue, decode, detect } = reply.answer.timing ?? {};
  const times = { encode: reply.encode, queue: milliseconds(queue), decode: milliseconds(decode), detect: milliseconds(detect) };
  times.network = Math.max(0, reply.roundTrip - times.queue - times.decode - times.detect);
  times.total = reply.encode + reply.roundTrip;
  return { answer: reply.answer, times };
}

/**
 * predictPatiently is predict that waits while the server is overloaded, as long
 * as it asks to, and then asks again. waits(attempt, milliseconds, error) is told
 * before each wait.
 */
export async function predictPatiently(blob, options, { signal, waits, attempts = 12 } = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await predict(blob, options, signal);
    } catch (error) {
      if (error.retryAfter === null || error.retryAfter === undefined || attempt >= attempts) throw error;
      // Not all at once, or they would meet again.
      const pause = Math.min(error.retryAfter * 1000 * (1 + 0.3 * (attempt - 1)) * (1 + Math.random() / 4), 15_000);
      waits?.(attempt, pause, error);
      await sleep(pause, signal);
    }
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(canceled());
    if (signal?.aborted) return stop();
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), stop()), { once: true });
  });
}

const canceled = () => new ServerError({ title: "Stopped", message: "stopped", remedy: "", canceled: true });

async function call(method, blob, request, signal) {
  const reply = await post(method, blob, request, signal);
  if (reply.status === 200 && reply.answer) return reply;
  if (reply.failed === "AbortError") throw canceled();
  if (reply.failed === "NotReadableError" || reply.failed === "NotFoundError") {
    throw new ServerError({ title: "This file cannot be read", message: reply.text, remedy: "It may be a folder, or was moved or changed since it was chosen. Choose it again." });
  }
  if (reply.failed) {
    const large = blob && blob.size > 8 << 20;
    throw new ServerError({
      title: "The server cannot be reached",
      message: large ? "The connection was cut while the picture was being sent." : "No answer came.",
      remedy: large ? "The file may be larger than the server takes (16 MiB, unless it is configured otherwise). Reduce it, or try again." : "Is it still running, and is the network there? This page looks for it by itself.",
      unreachable: true,
    });
  }
  throw told(reply);
}

// told makes a ServerError of an answer that is an error, in Connect's JSON.
function told({ status, answer, text, requestID, retryAfter }) {
  const details = answer?.details ?? [];
  const detail = (type) => details.find((d) => d.type === type)?.debug;
  const reason = detail("google.rpc.ErrorInfo")?.reason ?? "";
  const [title, remedy] = REMEDIES[reason] ?? ["The server refused", ""];
  let wait = null;
  if (status === 503 || status === 429) {
    const asked = milliseconds(detail("google.rpc.RetryInfo")?.retryDelay) / 1000 || Number(retryAfter);
    if (asked > 0) wait = asked;
  }
  return new ServerError({
    title,
    message: answer?.message || text || `The server answered with status ${status}.`,
    remedy,
    reason: reason || answer?.code || `HTTP ${status}`,
    requestID: requestID ?? "",
    retryAfter: wait,
  });
}

// milliseconds reads a Duration as JSON has it, "0.012s".
function milliseconds(text) {
  return text ? parseFloat(text) * 1000 : 0;
}
