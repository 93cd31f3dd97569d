import assert from "node:assert/strict";
import { test } from "node:test";
import { messageFor } from "../page/messages.js";
import { canceledError, ServerError } from "../page/replies.js";

const nothing = { pageErrors: [], entries: [], image: null, isEmpty: false };
const failed = { error: new ServerError({ title: "This image is damaged", message: "cut short", remedy: "Send the original file.", reason: "CORRUPT_IMAGE", requestID: "r-1" }) };
const stopped = { error: canceledError() };
const waiting = { pending: true, wait: { attempt: 2, pause: 1500, error: new ServerError({ title: "The server is busy", message: "overloaded", reason: "OVERLOADED", retryAfter: 1 }) } };
const answered = { answer: { results: [] } };
const unreadable = { unreadable: true };

const actionsOf = (message) => message.actions.map(([, key]) => key);

test("there is no message while nothing is wrong", () => {
  for (const entries of [[], [{}], [{ pending: true }], [answered]]) assert.equal(messageFor({ ...nothing, entries, image: {} }), null);
});

test("a failed request shows the server's message, advice, reason and request ID", () => {
  assert.deepEqual(messageFor({ ...nothing, entries: [answered, failed] }), {
    kind: "error",
    title: "This image is damaged",
    message: "cut short",
    remedy: "Send the original file.",
    isFolded: true,
    actions: [["Choose another image", "choose"]],
    details: ["CORRUPT_IMAGE", "request r-1"],
  });
});

test("a request that waits says for how long, and can be stopped", () => {
  const message = messageFor({ ...nothing, entries: [waiting] });
  assert.equal(message.remedy, "Retrying automatically in 1.50 s. Attempts so far: 2.");
  assert.deepEqual([message.kind, message.title, message.details, actionsOf(message)], ["waiting", "The server is busy", ["OVERLOADED"], ["stop"]]);
});

test("the most urgent message wins", () => {
  const all = { pageErrors: [{ title: "No camera", message: "" }], entries: [waiting, stopped, failed, answered], image: unreadable, isEmpty: true };
  const without = (...gone) => all.entries.filter((entry) => !gone.includes(entry));
  for (const [state, title] of [
    [all, "No camera"],
    [{ ...all, pageErrors: [] }, "This image is damaged"],
    [{ ...all, pageErrors: [], entries: without(failed) }, "Stopped"],
    [{ ...all, pageErrors: [], entries: without(failed, stopped) }, "The server is busy"],
    [{ ...all, pageErrors: [], entries: [answered] }, "This browser cannot show this format"],
    [{ ...all, pageErrors: [], entries: [answered], image: null }, "No image"],
  ]) {
    assert.equal(messageFor(state).title, title);
  }
});

test("the note about a format that cannot be shown waits for the answer, and stays closed", () => {
  assert.equal(messageFor({ ...nothing, image: unreadable, entries: [{ pending: true }] }), null);
  assert.deepEqual(actionsOf(messageFor({ ...nothing, image: unreadable, entries: [answered] })), ["closeNote"]);
  assert.equal(messageFor({ ...nothing, image: { ...unreadable, noteClosed: true }, entries: [answered] }), null);
});

test("an empty view invites to add an image", () => {
  assert.deepEqual(actionsOf(messageFor({ ...nothing, isEmpty: true })), ["choose", "sample"]);
});
