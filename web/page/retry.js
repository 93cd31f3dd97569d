// Repeats requests that an overloaded server refused. Pure, but for timers.
import { canceledError, isRetryable } from "./replies.js";

const MAX_PAUSE = 15_000; // milliseconds

/**
 * retryPause returns the milliseconds before another attempt: what the server asked for, more
 * after each attempt, and up to a quarter more at random, so that clients do not all come back
 * at the same moment. random is from 0 to 1.
 */
export const retryPause = (retryAfter, attempt, random = Math.random()) => Math.min(retryAfter * 1000 * (1 + 0.3 * (attempt - 1)) * (1 + random / 4), MAX_PAUSE);

/**
 * withRetries returns what send() resolves to. While send() rejects with a ServerError that asks
 * for another attempt, it waits and sends again, maxAttempts times in all. onWait(attempt,
 * milliseconds, error) is called before each pause; signal ends a pause with an error.
 */
export async function withRetries(send, { signal, onWait, maxAttempts = 12 } = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await send();
    } catch (error) {
      if (!isRetryable(error) || attempt >= maxAttempts) throw error;
      const pause = retryPause(error.retryAfter, attempt);
      onWait?.(attempt, pause, error);
      await sleep(pause, signal);
    }
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(canceledError());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
