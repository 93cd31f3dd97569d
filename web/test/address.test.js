import assert from "node:assert/strict";
import { test } from "node:test";
import { readAddress, writeAddress } from "../page/address.js";

const none = { sample: "", model: "", compare: "", threshold: null, minFaceSize: 0, anyOrientation: false };

test("an address without options has none", () => {
  assert.deepEqual(readAddress(""), none);
  assert.equal(writeAddress(none), "");
});

test("options survive the address", () => {
  for (const options of [
    { ...none, sample: "hard" },
    { ...none, model: "a b&c=d", compare: "pigo" },
    { ...none, threshold: 0 },
    { sample: "group", model: "pigo", compare: "mtcnn", threshold: 0.29, minFaceSize: 40, anyOrientation: true },
  ]) {
    assert.deepEqual(readAddress(writeAddress(options)), options);
  }
  assert.equal(writeAddress({ ...none, model: "pigo", minFaceSize: 40 }), "?model=pigo&min_face_size=40");
});

test("invalid options are ignored", () => {
  for (const query of ["?min_confidence=2", "?min_confidence=", "?min_confidence=many", "?min_face_size=-4", "?min_face_size=1e9", "?any_orientation=perhaps", "?another=1"]) {
    assert.deepEqual(readAddress(query), none, query);
  }
  assert.equal(readAddress("?min_confidence=0.649999976").threshold, 0.65);
  assert.equal(readAddress("?min_face_size=30.7").minFaceSize, 30);
});
