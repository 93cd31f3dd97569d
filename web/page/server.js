// The server's RPCs, called in JSON through a worker.
import { apiKey, askForKey } from "./key.js";
import { errorOf, timesOf } from "./replies.js";
import { withRetries } from "./retry.js";

const SERVICE = "/inference.v1.Inference/";

const worker = new Worker("/page/worker.js", { type: "module" });
const replied = new Map(); // by the ID of the call, what to call with the worker's reply
let lastID = 0;

worker.onmessage = ({ data }) => {
  replied.get(data.id)?.(data);
  replied.delete(data.id);
};
worker.onerror = () => {
  for (const [id, resolve] of replied) resolve({ id, failed: "Error", text: "the page’s worker stopped; reload the page" });
  replied.clear();
};

/** listModels returns the models of the server, the default one first. Errors are ServerErrors. */
export async function listModels() {
  return (await call("ListModels", null, {})).answer.models;
}

/** predict sends an image once, and returns {answer, times}: see timesOf. Options are DetectOptions. Errors are ServerErrors. */
export async function predict(blob, options, signal) {
  const reply = await call("Predict", blob, { options }, signal);
  return { answer: reply.answer, times: timesOf(reply) };
}

/** predictWithRetries is predict, repeated while the server is overloaded: see withRetries. */
export const predictWithRetries = (blob, options, { signal, ...retries } = {}) => withRetries(() => predict(blob, options, signal), { signal, ...retries });

/**
 * picture returns a promise of a JPEG of an image, for one that this browser cannot show. The
 * server marks no face in it, because none has a confidence of 1 and such a size.
 */
export async function picture(blob) {
  const key = apiKey();
  const headers = { Accept: "image/jpeg", ...(key ? { "X-Api-Key": key } : {}) };
  const response = await fetch("/predict?min_confidence=1&max_results=1&min_face_size=100000", { method: "POST", headers, body: blob, cache: "no-store" });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.blob();
}

// call sends a request, and again with each API key that the user enters, as long as the server
// requires another one.
async function call(method, blob, request, signal) {
  for (;;) {
    const key = apiKey();
    const reply = await post(method, blob, request, key, signal);
    if (reply.status === 200 && reply.answer) return reply;
    const error = errorOf(reply, blob?.size);
    // In the meantime, another call may have asked for a key.
    const again = reply.status === 401 && (apiKey() !== key || (await askForKey(error.message)));
    if (!again) throw error;
  }
}

function post(method, blob, request, key, signal) {
  const id = ++lastID;
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve({ id, failed: "AbortError" });
    replied.set(id, resolve);
    signal?.addEventListener("abort", () => worker.postMessage({ id, cancel: true }), { once: true });
    worker.postMessage({ id, url: SERVICE + method, key, blob, request });
  });
}
