import assert from "node:assert/strict";
import { test } from "node:test";
import { errorOf, isRetryable, ServerError, timesOf } from "../page/replies.js";

const detail = (type, debug) => ({ type: "google.rpc." + type, debug });
const rejected = (status, reason, more = [], header = null) => ({
  status,
  retryAfter: header,
  requestID: "r-1",
  text: "",
  answer: { code: "unavailable", message: "from the server", details: [detail("ErrorInfo", { reason, domain: "mien" }), ...more] },
});

test("an error has the server's message, reason and request ID, and advice", () => {
  const error = errorOf(rejected(400, "CORRUPT_IMAGE"));
  assert.ok(error instanceof ServerError);
  assert.equal(error.message, "from the server");
  assert.equal(error.title, "This image is damaged");
  assert.match(error.remedy, /^Send the original file\./);
  assert.deepEqual([error.reason, error.requestID, error.retryAfter, error.unreachable, error.canceled], ["CORRUPT_IMAGE", "r-1", null, false, false]);
});

test("an error without a known reason still has a title and a reason", () => {
  for (const { reply, want } of [
    { reply: rejected(400, "NEW_REASON"), want: ["from the server", "NEW_REASON"] },
    { reply: { status: 404, answer: { code: "unimplemented", message: "no such method" }, text: "" }, want: ["no such method", "unimplemented"] },
    { reply: { status: 502, answer: null, text: "<html>Bad gateway" }, want: ["<html>Bad gateway", "HTTP 502"] },
    { reply: { status: 413, answer: null, text: "" }, want: ["The server answered with status 413.", "HTTP 413"] },
    { reply: { status: 200, answer: null, text: "not JSON" }, want: ["not JSON", "HTTP 200"] },
  ]) {
    const error = errorOf(reply);
    assert.deepEqual([error.message, error.reason], want);
    assert.equal(error.title, "The server rejected the request");
    assert.equal(isRetryable(error), false);
  }
});

test("only a status of overload asks for another attempt, with RetryInfo before Retry-After", () => {
  const delay = detail("RetryInfo", { retryDelay: "0.25s" });
  for (const [reply, want] of [
    [rejected(503, "OVERLOADED", [], "2"), 2],
    [rejected(503, "OVERLOADED", [delay], "2"), 0.25],
    [rejected(429, "OVERLOADED", [delay]), 0.25],
    [rejected(503, "DRAINING"), null],
    [rejected(503, "OVERLOADED", [], "soon"), null],
    [rejected(400, "OVERLOADED", [delay], "2"), null],
  ]) {
    assert.equal(errorOf(reply).retryAfter, want);
    assert.equal(isRetryable(errorOf(reply)), want !== null);
  }
});

test("requests that got no reply are told apart", () => {
  assert.equal(errorOf({ failed: "AbortError" }).canceled, true);
  for (const failed of ["NotReadableError", "NotFoundError"]) {
    const error = errorOf({ failed, text: "gone" });
    assert.deepEqual([error.title, error.message, error.unreachable], ["This file cannot be read", "gone", false]);
  }
  const small = errorOf({ failed: "TypeError", text: "Failed to fetch" }, 1000);
  assert.deepEqual([small.title, small.unreachable], ["The server cannot be reached", true]);
  assert.match(small.remedy, /reconnects automatically/);
  assert.match(errorOf({ failed: "TypeError", text: "" }, 9 << 20).remedy, /server’s limit/);
});

test("times add up to the total", () => {
  const answer = { timing: { queue: "0.010s", decode: "0.0205s", detect: "1s" } };
  const times = timesOf({ answer, encode: 5, roundTrip: 1040 });
  assert.deepEqual(times, { encode: 5, queue: 10, decode: 20.5, detect: 1000, network: 9.5, total: 1045 });
  // Clocks differ a little, and a server may send no times.
  assert.equal(timesOf({ answer, encode: 5, roundTrip: 1000 }).network, 0);
  assert.deepEqual(timesOf({ answer: {}, encode: 1, roundTrip: 2 }), { encode: 1, queue: 0, decode: 0, detect: 0, network: 2, total: 3 });
});
