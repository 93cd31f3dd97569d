import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue } from "../page/queue.js";
import { settle } from "./fixtures.js";

// newQueue returns a queue whose jobs end when the test says so.
function newQueue(concurrency) {
  const started = [];
  const ends = new Map();
  const queue = new Queue(concurrency, (job) => {
    started.push(job);
    return new Promise((resolve) => ends.set(job, resolve));
  });
  const end = async (job) => {
    ends.get(job)();
    await settle();
  };
  return { queue, started, end };
}

test("jobs start in order, as many at once as allowed", async () => {
  const { queue, started, end } = newQueue(2);
  queue.add(["a", "b", "c", "d"]);
  assert.deepEqual(started, ["a", "b"]);
  await end("b");
  assert.deepEqual(started, ["a", "b", "c"]);
  await end("a");
  await end("c");
  assert.deepEqual(started, ["a", "b", "c", "d"]);
});

test("jobs that are added first start before all that wait, in their order", async () => {
  const { queue, started, end } = newQueue(1);
  queue.add(["running", "later"]);
  queue.add(["a", "b"], { first: true });
  for (const job of ["running", "a", "b"]) await end(job);
  assert.deepEqual(started, ["running", "a", "b", "later"]);
});

test("removed jobs do not start, and running ones go on", async () => {
  const { queue, started, end } = newQueue(1);
  queue.add([1, 2, 3, 4]);
  queue.remove((job) => job % 2 === 1);
  await end(1);
  await end(2);
  assert.deepEqual(started, [1, 2, 4]);
});

test("an idle queue starts what is added", async () => {
  const { queue, started, end } = newQueue(1);
  queue.add(["a"]);
  await end("a");
  queue.add([]);
  queue.add(["b"]);
  assert.deepEqual(started, ["a", "b"]);
});
