import assert from "node:assert/strict";
import { test } from "node:test";
import { detectWithAll, hideFaces } from "../page/hiding.js";
import { face } from "./fixtures.js";

const size = { width: 400, height: 300 };
const shown = (f) => ({ ...f, shown: true });
const hidden = (f) => ({ ...f, shown: false });

// hide runs hideFaces with a server that finds the given faces, check by check, and the last ones ever after.
async function hide(style, faces, ...found) {
  const renders = [];
  const result = await hideFaces({
    faces,
    style,
    size,
    render: async (disks) => {
      renders.push(disks);
      return `file ${renders.length}`;
    },
    detect: async (file) => {
      assert.equal(file, `file ${renders.length}`, "another file is checked than was made");
      const outcome = found.length > 1 ? found.shift() : found[0];
      if (outcome instanceof Error) throw outcome;
      return outcome;
    },
  });
  return { result, renders, fills: renders.map((disks) => disks.map((disk) => disk.fill)) };
}

const [a, far] = [face(100, 100, 40, 50), face(300, 100, 40, 50)];

test("faces that are not found again need one check", async () => {
  for (const [style, fill] of [["blur", "gradient"], ["cover", "plain"]]) {
    const { result, fills } = await hide(style, [a], []);
    assert.deepEqual(result, { file: "file 1", error: null, added: 0, stillDetected: [], elsewhere: [] });
    assert.deepEqual(fills, [[fill]]);
  }
});

test("a blurred face that is found again is covered, and others stay blurred", async () => {
  const { result, fills } = await hide("blur", [a, far], [hidden(a)], []);
  assert.deepEqual(fills, [["gradient", "gradient"], ["plain", "gradient"]]);
  assert.deepEqual(result, { file: "file 2", error: null, added: 0, stillDetected: [], elsewhere: [] });
});

test("a covered face that is found again is reported", async () => {
  const { result, renders } = await hide("cover", [a], [hidden(a), shown(face(101, 100, 40, 50))]);
  assert.equal(renders.length, 1);
  assert.equal(result.stillDetected.length, 1, "the same face is counted twice");
  assert.deepEqual(result.elsewhere, []);
});

test("a face elsewhere is hidden if the page would show it, else reported", async () => {
  const hides = await hide("cover", [a], [shown(far)], []);
  assert.deepEqual(hides.fills, [["plain"], ["plain", "plain"]]);
  assert.equal(hides.result.added, 1);
  const reports = await hide("cover", [a], [hidden(far)]);
  assert.equal(reports.renders.length, 1);
  assert.deepEqual(reports.result.elsewhere, [hidden(far)]);
  assert.equal(reports.result.added, 0);
});

test("a face that extends beyond a disk is hidden too, and not counted as another", async () => {
  const large = hidden(face(60, 50, 130, 150));
  const { result, renders } = await hide("cover", [a], [large], []);
  assert.equal(renders[1].length, 2);
  assert.equal(result.added, 0);
});

test("it ends when a model finds a new face each time", async () => {
  let x = 0;
  const renders = [];
  const result = await hideFaces({
    faces: [a],
    style: "blur",
    size: { width: 10_000, height: 300 },
    render: async (disks) => renders.push(disks),
    detect: async () => [shown(face((x += 400), 200, 20, 20))],
  });
  assert.equal(renders.length, 8);
  assert.equal(result.added, 7);
  assert.equal(result.elsewhere.length, 1);
});

test("when the server does not answer, the image and the error are returned", async () => {
  const error = new Error("no answer");
  const { result } = await hide("cover", [a], [shown(far)], error);
  assert.deepEqual(result, { file: "file 2", error, added: 1, stillDetected: [], elsewhere: [] });
});

test("all models are asked for unlikely faces too, and say what the page would show", async () => {
  const asked = [];
  const predict = async (file, options) => {
    asked.push([file, options]);
    return { results: [face(0, 0, 50, 50, 0.75), face(0, 0, 20, 10, 0.65)] };
  };
  const models = [{ name: "on view", defaultMinConfidence: 0.9 }, { name: "other", defaultMinConfidence: 0.699999988 }, { name: "unsure", defaultMinConfidence: 0.2 }];
  const found = await detectWithAll("file", models, { models: ["on view"], threshold: 0.6, isChosen: true, minFaceSize: 25 }, predict);
  assert.deepEqual(asked, [
    ["file", { model: "on view", minConfidence: 0.3, minFaceSize: 13 }],
    ["file", { model: "other", minConfidence: 0.3, minFaceSize: 13 }],
    ["file", { model: "unsure", minConfidence: 0.2, minFaceSize: 13 }],
  ]);
  const small = { models: ["on view"], threshold: 0.6, isChosen: true, minFaceSize: 0 };
  const isShown = (faces) => faces.map((f) => [f.model, f.confidence, f.shown]);
  assert.deepEqual(isShown(found), [["on view", 0.75, true], ["on view", 0.65, false], ["other", 0.75, true], ["other", 0.65, false], ["unsure", 0.75, true], ["unsure", 0.65, false]]);
  // Of any size: the threshold counts for the model on view, and for others their default if it is higher.
  assert.deepEqual(isShown(await detectWithAll("file", models.slice(0, 2), small, predict)), [["on view", 0.75, true], ["on view", 0.65, true], ["other", 0.75, true], ["other", 0.65, false]]);
  // Without a choice, the default counts for the model on view too.
  assert.deepEqual(isShown(await detectWithAll("file", models.slice(0, 1), { ...small, isChosen: false }, predict)), [["on view", 0.75, false], ["on view", 0.65, false]]);
});
