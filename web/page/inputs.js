// The ways to add images: choosing, pasting, dropping, the camera and the samples.
import { clipboardDenied, deviceOf } from "./device.js";
import { $ } from "./dom.js";
import { addImages, lastAdded, removeAllImages, removeImage, selectImage } from "./images.js";
import { keepFrame, startCamera, stopCamera, switchCamera } from "./live.js";
import { showPageError } from "./message.js";
import { whileReading } from "./redraw.js";
import { panes } from "./stage.js";
import { state } from "./state.js";

/** listenForImages wires everything that adds images or removes all of them. */
export function listenForImages() {
  listenToButtons();
  listenToCamera();
  listenToDrops();
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    add(files, "paste");
  });
}

function add(files, source) {
  if (!files.length) return;
  stopCamera();
  addImages(files, source);
}

/** chooseFiles opens the browser's dialog for files. */
export const chooseFiles = () => $("files").click();


const sampleButtons = () => [...$("samples").querySelectorAll("button")];

let opening = 0; // how often a sample was opened

/** openSample shows a sample by its name, or the first one if there is none of that name. What the user opens while it is on its way wins. */
export async function openSample(wanted) {
  stopCamera();
  const buttons = sampleButtons();
  const { name, src } = (buttons.find((button) => button.dataset.name === wanted) ?? buttons[0]).dataset;
  const sample = state.images.find((image) => nameOfSample(image) === name);
  if (sample) {
    selectImage(sample);
    return;
  }
  const before = lastAdded();
  const mine = ++opening;
  try {
    const blob = await whileReading(fetch(src).then((response) => response.blob()));
    if (mine === opening && lastAdded() === before && !state.cameraOn) addImages([new File([blob], name + ".jpg", { type: "image/jpeg" })], "sample");
  } catch {
    showPageError("The sample could not be loaded", "The server cannot be reached. Is it still running?");
  }
}

/** nameOfSample returns the name of a sample, and "" for other images and for null. */
export const nameOfSample = (image) => (image?.source === "sample" ? image.name.replace(".jpg", "") : "");

/** firstSample returns the name of the sample that the page opens by itself. */
export const firstSample = () => sampleButtons()[0].dataset.name;

/** drawSamples shows which sample is on view. */
export function drawSamples() {
  const onView = state.cameraOn ? "" : nameOfSample(state.current);
  for (const button of sampleButtons()) button.setAttribute("aria-pressed", String(button.dataset.name === onView));
}

function listenToButtons() {
  $("choose").onclick = chooseFiles;
  $("files").onchange = () => {
    add($("files").files, "file");
    $("files").value = "";
  };
  for (const button of sampleButtons()) button.onclick = () => openSample(button.dataset.name);
  $("paste").hidden = !navigator.clipboard?.read;
  $("paste").onclick = () => paste().catch((error) => showPageError("Nothing pasted", clipboardProblem(error)));
  $("discard").onclick = () => {
    removeImage(state.current);
    (state.current ? panes[0].viewport : $("choose")).focus();
  };
  $("clear").onclick = () => {
    removeAllImages();
    $("choose").focus();
  };
}

async function paste() {
  const files = [];
  for (const item of await whileReading(navigator.clipboard.read())) {
    const type = item.types.find((t) => t.startsWith("image/"));
    if (type) files.push(new File([await whileReading(item.getType(type))], "pasted." + type.slice(6).replace("jpeg", "jpg"), { type }));
  }
  if (!files.length) throw new Error("The clipboard does not hold an image. Copy one first.");
  add(files, "paste");
}

const clipboardProblem = (error) => (error.name === "NotAllowedError" ? clipboardDenied(deviceOf(navigator)) : error.message);

function listenToCamera() {
  $("camera").onclick = () => (state.cameraOn ? stopCamera() : startCamera("user"));
  $("stop").onclick = () => {
    stopCamera();
    $("camera").focus();
  };
  $("facing").onclick = switchCamera;
  $("mirror").onchange = () => panes[0].setMirrored($("mirror").checked);
  $("keep").onclick = () =>
    keepFrame()
      .then((file) => add([file], "camera"))
      .catch((error) => showPageError("No image", error.message));
}

function listenToDrops() {
  let depth = 0; // of nested elements that the files were dragged into
  const on = (type, act) =>
    document.addEventListener(type, (event) => {
      if (event.dataTransfer?.types.includes("Files")) act(event);
    });
  const move = (step) => {
    depth += step;
    $("drop").hidden = depth < 1;
  };
  on("dragenter", () => move(1));
  on("dragleave", () => move(-1));
  on("dragover", (event) => event.preventDefault());
  on("drop", (event) => {
    event.preventDefault();
    move(-depth);
    add(event.dataTransfer.files, "file");
  });
}
