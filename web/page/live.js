// The camera on the stage: starting and stopping it, and showing its frames with their faces.
import { announce, announceFacesSoon } from "./announcements.js";
import { Camera } from "./camera.js";
import { deviceOf } from "./device.js";
import { $ } from "./dom.js";
import { duration } from "./format.js";
import { clearPageErrors, drawMessage, showPageError } from "./message.js";
import { drawFaces, drawView, updateBusy, whileReading } from "./redraw.js";
import { leaveVideo, panes, showVideo } from "./stage.js";
import { detectOptions, state } from "./state.js";
import { cameraProblem } from "./wording.js";

const camera = new Camera({
  onFrame: showFrame,
  onWait: (error, pause) => showPageError(error.title, `Retrying automatically in ${duration(pause)}.`),
  onError(error) {
    stopCamera();
    showPageError(error.title ?? "The camera stopped", error.message);
  },
});

let facing = "user"; // the side of the camera that was chosen: "user" is the front, "environment" the back
let kept = 0; // frames that the user kept

/** startCamera shows the front ("user") or back ("environment") camera. */
export async function startCamera(side) {
  clearPageErrors();
  facing = side;
  Object.assign(state, { cameraOn: true, frame: null });
  try {
    const started = camera.start(side, () => detectOptions(state.model));
    drawStart();
    await started;
    if (!camera.isRunning || facing !== side) return; // stopped or switched in the meantime
    const { width, height } = camera.size;
    panes[0].show(camera.video, width, height);
    const mirror = (camera.facing || side) === "user";
    $("mirror").checked = mirror;
    panes[0].setMirrored(mirror);
    announce("The camera is on.");
  } catch (error) {
    stopCamera();
    showPageError("No camera", cameraProblem(error, deviceOf(navigator)));
  }
}

/** switchCamera changes between the front and the back camera. */
export const switchCamera = () => startCamera(facing === "user" ? "environment" : "user");

/** stopCamera turns the camera off, if it is on, and shows the image on view again. */
export function stopCamera() {
  if (!state.cameraOn) return;
  releaseCamera();
  state.frame = null;
  leaveVideo();
  $("camera").removeAttribute("aria-pressed");
  $("compare").disabled = state.models.length < 2;
  drawView();
}

/** releaseCamera turns the camera off when the user leaves the page. */
export function releaseCamera() {
  camera.stop();
  state.cameraOn = false;
}

/** keepFrame returns a promise of the newest frame as a File. */
export async function keepFrame() {
  const blob = await whileReading(camera.takeFrame());
  return new File([blob], `camera-${++kept}.jpg`, { type: "image/jpeg" });
}

function drawStart() {
  showVideo(camera.video);
  $("live").hidden = false;
  $("meter").textContent = "Starting…";
  $("facing").textContent = facing === "user" ? "Back camera" : "Front camera";
  $("camera").setAttribute("aria-pressed", "true");
  $("compare").disabled = true;
  drawView();
}

function showFrame({ answer, times }, { milliseconds, perSecond }) {
  const isFirst = !state.frame;
  clearPageErrors();
  state.frame = { answer, times };
  panes[0].show(camera.video, answer.width, answer.height);
  panes[0].setFaces(answer.results);
  $("meter").textContent = `${perSecond.toFixed(perSecond < 10 ? 1 : 0)} frames/s · ${duration(milliseconds)}`;
  drawFaces();
  drawMessage();
  updateBusy();
  if (isFirst) announceFacesSoon();
}
