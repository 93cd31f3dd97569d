// Asks the server for the answers that the view and the gallery need, each once.
import { fileSize } from "./format.js";
import { Queue } from "./queue.js";
import { Reconnect } from "./reconnect.js";
import { drawView, viewChanged } from "./redraw.js";
import { ServerError } from "./replies.js";
import { listModels, predictWithRetries } from "./server.js";
import { answerKey, detectOptions, modelsOnView, state } from "./state.js";

const MAX_FILE_SIZE = 256 << 20; // bytes; larger files are not read
const CONCURRENCY = 2; // calls at once
const MAX_RESENDS = 3; // of an image, to a server that can be reached and yet does not answer it

const queue = new Queue(CONCURRENCY, send);

/** request asks for the answers of an image that are missing. Those of the image on view come first. */
export function request(image) {
  if (!state.model) return;
  const jobs = [];
  for (const model of modelsOnView()) {
    const key = answerKey(model);
    if (image.answers.has(key)) continue;
    const entry = { pending: true };
    image.answers.set(key, entry);
    jobs.push({ image, key, entry, options: detectOptions(model) });
  }
  queue.add(jobs, { first: image === state.current });
}

/** requestAll asks for all answers that the present options need, and cancels calls for other options. */
export function requestAll() {
  const keys = modelsOnView().map(answerKey);
  for (const image of state.images) {
    for (const [key, entry] of image.answers) {
      if (!entry.pending || keys.includes(key)) continue;
      image.answers.delete(key);
      entry.abort?.abort();
    }
  }
  queue.remove((job) => !keys.includes(job.key));
  state.images.toSorted((a, b) => (b === state.current) - (a === state.current)).forEach(request);
  if (!state.cameraOn) drawView();
}

/** retry asks again for the answers of an image that failed. */
export function retry(image) {
  for (const [key, entry] of image.answers) if (entry.error) image.answers.delete(key);
  image.resends = 0;
  request(image);
  drawView();
}

/** stopWaiting cancels the calls of the image on view that wait for another attempt. */
export function stopWaiting(entries) {
  entries.find((entry) => entry.pending && entry.wait)?.abort.abort();
}

/** cancel drops the calls and answers of an image that is removed. */
export function cancel(image) {
  queue.remove((job) => job.image === image);
  for (const entry of image.answers.values()) entry.abort?.abort();
  image.answers.clear();
}

async function send({ image, key, entry, options }) {
  const settle = (outcome) => {
    if (image.answers.get(key) !== entry) return; // canceled, or requested again
    image.answers.set(key, outcome);
    viewChanged();
  };
  entry.abort = new AbortController();
  viewChanged();
  try {
    checkSize(image.blob);
    const { answer, times } = await predictWithRetries(image.blob, options, {
      signal: entry.abort.signal,
      onWait(attempt, pause, error) {
        entry.wait = { attempt, pause, error };
        viewChanged();
      },
    });
    settle({ answer, times });
    image.resends = 0;
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    settle({ error });
    if (error.unreachable) reconnect.schedule();
    else image.resends = 0;
  }
}

function checkSize(blob) {
  if (blob.size <= MAX_FILE_SIZE) return;
  throw new ServerError({ title: "This file is too large", message: `It has ${fileSize(blob.size)}. The page sends files of up to 256 MiB.`, remedy: "Reduce it." });
}

// ---- Calls to a server that cannot be reached

const unreached = (image) => [...image.answers].filter(([, entry]) => entry.error?.unreachable);

const imagesToResend = () => state.images.filter((image) => unreached(image).length && (image.resends ?? 0) < MAX_RESENDS);

const reconnect = new Reconnect({
  isNeeded: () => imagesToResend().length > 0,
  isHidden: () => document.hidden,
  ping: listModels,
  resume: resend,
});

/** reconnectNow looks for a server that could not be reached, if images wait for it. */
export const reconnectNow = () => reconnect.now();

function resend() {
  for (const image of imagesToResend()) {
    image.resends = (image.resends ?? 0) + 1;
    for (const [key] of unreached(image)) image.answers.delete(key);
    request(image);
  }
  viewChanged();
}
