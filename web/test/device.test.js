import assert from "node:assert/strict";
import { test } from "node:test";
import { cameraDenied, cameraInsecure, clipboardDenied, deviceOf, remedyOf } from "../page/device.js";

const MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15";

test("devices are known by their browser", () => {
  for (const [userAgent, maxTouchPoints, want] of [
    ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15", 5, "iphone"],
    [MAC, 5, "iphone"], // an iPad
    [MAC, 0, "mac"],
    ["Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36", 5, "android"],
    ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36", 10, "windows"],
    ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", 0, "other"],
    [undefined, undefined, "other"],
  ]) {
    assert.equal(deviceOf({ userAgent, maxTouchPoints }), want);
  }
});

test("the remedy is one that the device has", () => {
  const heic = { reason: "UNSUPPORTED_FORMAT", message: "HEIC is not supported; send JPEG", remedy: "Send a JPEG." };
  assert.match(remedyOf(heic, "iphone"), /screenshot.+Most Compatible/);
  assert.match(remedyOf(heic, "mac"), /Preview/);
  assert.equal(remedyOf({ ...heic, message: "this is text" }, "iphone"), "Send a JPEG.");
  const large = { reason: "TOO_MANY_BYTES", message: "", remedy: "Start the server with a larger --max-image-bytes." };
  assert.equal(remedyOf(large, "other"), large.remedy);
  assert.doesNotMatch(remedyOf(large, "android"), /--/);
  assert.match(remedyOf({ reason: "", message: "", remedy: "Is it running?", unreachable: true }, "android"), /network/);
  assert.equal(remedyOf({ reason: "", message: "", remedy: "Is it running?", unreachable: true }, "mac"), "Is it running?");
});

test("the clipboard and the camera are explained in the words of the device", () => {
  assert.match(clipboardDenied("mac"), /⌘V/);
  assert.match(clipboardDenied("other"), /Ctrl\+V/);
  assert.doesNotMatch(clipboardDenied("iphone"), /Ctrl|⌘/);
  assert.match(cameraDenied("iphone"), /Settings/);
  assert.match(cameraDenied("other"), /beside the address/);
  assert.match(cameraInsecure("android"), /^Browsers allow the camera only on HTTPS.+offers its camera/);
  assert.match(cameraInsecure("other"), /--tls-key/);
});
