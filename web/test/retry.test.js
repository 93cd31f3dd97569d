import assert from "node:assert/strict";
import { test } from "node:test";
import { ServerError } from "../page/replies.js";
import { retryPause, withRetries } from "../page/retry.js";
import { settle } from "./fixtures.js";

const busy = (retryAfter = 1) => new ServerError({ title: "The server is busy", message: "busy", retryAfter });

test("pauses grow with each attempt, by chance, and up to 15 seconds", () => {
  assert.equal(retryPause(2, 1, 0), 2000);
  assert.equal(retryPause(2, 1, 1), 2500);
  assert.equal(retryPause(2, 2, 0), 2600);
  assert.equal(retryPause(60, 1, 0), 15_000);
  const pauses = new Set(Array.from({ length: 20 }, () => retryPause(1, 1)));
  assert.ok(pauses.size > 1, "no chance in it");
  for (const pause of pauses) assert.ok(pause >= 1000 && pause <= 1250, String(pause));
});

test("the server's refusals are repeated until it answers", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const outcomes = [busy(), busy(), "answer"];
  const waits = [];
  const result = withRetries(
    async () => {
      const outcome = outcomes.shift();
      if (outcome instanceof Error) throw outcome;
      return outcome;
    },
    { onWait: (attempt, pause, error) => waits.push([attempt, pause >= 1000, error.title]) },
  );
  for (let i = 0; i < 2; i++) {
    await settle();
    t.mock.timers.tick(2000);
  }
  assert.equal(await result, "answer");
  assert.deepEqual(waits, [[1, true, "The server is busy"], [2, true, "The server is busy"]]);
});

test("it gives up after the last attempt, and at once on other errors", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let sent = 0;
  const refused = withRetries(
    async () => {
      sent++;
      throw busy();
    },
    { maxAttempts: 2 },
  );
  const outcome = assert.rejects(refused, { message: "busy" });
  await settle();
  t.mock.timers.tick(2000);
  await outcome;
  assert.equal(sent, 2);
  const wrong = new ServerError({ title: "This image is damaged", message: "damaged" });
  const waited = [];
  await assert.rejects(withRetries(() => Promise.reject(wrong), { onWait: () => waited.push(1) }), wrong);
  assert.deepEqual(waited, []);
});

test("a pause ends when the user stops it, before or within", async () => {
  for (const early of [true, false]) {
    const abort = new AbortController();
    if (early) abort.abort();
    const stopped = assert.rejects(withRetries(() => Promise.reject(busy(10)), { signal: abort.signal }), (error) => error.canceled);
    await settle();
    abort.abort();
    await stopped;
  }
});
