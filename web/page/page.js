// Wires the page: what is drawn, what the controls do, and the start.
//
// The modules, each of which begins with what it owns:
//
//   state      state.js; redraw.js draws when it has changed
//   images     inputs.js (ways to add them), images.js, gallery.js
//   answers    requests.js, with queue.js and reconnect.js; server.js, with worker.js, key.js,
//              retry.js and replies.js
//   view       stage.js, with pane.js; live.js, with camera.js; message.js, with messages.js
//   panel      panel.js, facelist.js, controls.js
//   exports    exports.js, with files.js, paint.js, hiding.js, disks.js, gradient.js and
//              dialog.js; code.js, with snippets.js
//   address    address.js
//   words      announcements.js, wording.js, device.js, format.js
//   helpers    dom.js, faces.js, marks.js
//
// Pure modules do not touch the document, the network or the state; ../test has their tests.
import { readAddress, writeAddress } from "./address.js";
import { drawCode, listenForCode } from "./code.js";
import { listenToControls, setModels } from "./controls.js";
import { drawExports, listenForExports } from "./exports.js";
import { drawGallery, drawGalleryCounts } from "./gallery.js";
import { loadFromServer } from "./images.js";
import { chooseFiles, drawSamples, firstSample, listenForImages, nameOfSample, openSample } from "./inputs.js";
import { askAgain } from "./key.js";
import { releaseCamera } from "./live.js";
import { clearPageErrors, drawMessage, onMessageAction, showPageError } from "./message.js";
import { drawPanel } from "./panel.js";
import { drawFaces, drawView, onDraw, updateBusy } from "./redraw.js";
import { reconnectNow, requestAll, retry, stopWaiting } from "./requests.js";
import { listModels } from "./server.js";
import { drawStage, panes } from "./stage.js";
import { chosenModel, entriesOnView, state } from "./state.js";

const ADDRESS_PAUSE = 300; // milliseconds without a change before the address is replaced, which browsers limit
const START_PAUSE = 2000; // milliseconds before the models are requested again

let addressTimer = 0;
let enterKey = () => {}; // continues the start after the user has declined to enter a key

onDraw({
  view() {
    if (state.current) loadFromServer(state.current);
    drawGallery();
    drawSamples();
    if (!state.cameraOn) drawStage(entriesOnView());
    drawMessage();
    drawFaces();
    updateBusy();
  },
  faces() {
    drawPanel(entriesOnView());
    drawGalleryCounts();
    drawCode();
    drawExports();
    drawAddressSoon();
  },
});

onMessageAction({
  retry() {
    askAgain();
    retry(state.current);
  },
  enterKey: () => enterKey(),
  stop: () => stopWaiting(entriesOnView()),
  closeNote() {
    state.current.noteClosed = true;
    drawView();
    panes[0].viewport.focus();
  },
  choose: chooseFiles,
  sample: () => openSample(),
});

listenForImages();
listenToControls();
listenForExports();
listenForCode();
addEventListener("pagehide", releaseCamera);
addEventListener("online", reconnectNow);
document.addEventListener("visibilitychange", reconnectNow);
start();

async function start() {
  drawFaces();
  const wanted = readAddress(location.search);
  const sample = openSample(wanted.sample);
  setModels(await modelsOfServer(), wanted);
  clearPageErrors();
  await sample;
  requestAll();
}

// drawAddressSoon puts the options into the address of the page, where they differ from the defaults.
function drawAddressSoon() {
  clearTimeout(addressTimer);
  if (!state.model) return;
  addressTimer = setTimeout(() => {
    const sample = nameOfSample(state.current);
    const query = writeAddress({
      sample: sample === firstSample() ? "" : sample,
      model: chosenModel().default ? "" : state.model,
      compare: state.compare,
      threshold: state.thresholdChosen ? state.threshold : null,
      minFaceSize: state.minFaceSize,
      anyOrientation: state.anyOrientation,
    });
    if (query !== location.search) history.replaceState(null, "", location.pathname + query + location.hash);
  }, ADDRESS_PAUSE);
}

// modelsOfServer asks for the models until the server answers.
async function modelsOfServer() {
  for (;;) {
    try {
      return await listModels();
    } catch (error) {
      const isKeyMissing = error.reason === "UNAUTHENTICATED";
      showPageError(error.title, `${error.message} ${error.remedy}`, isKeyMissing ? [["Enter a key", "enterKey"]] : undefined);
      await new Promise((resolve) => {
        if (isKeyMissing) enterKey = resolve;
        else setTimeout(resolve, START_PAUSE);
      });
      askAgain();
    }
  }
}
