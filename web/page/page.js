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
//   words      announcements.js, wording.js, format.js
//   helpers    dom.js, faces.js
//
// Pure modules do not touch the document, the network or the state; ../test has their tests.
import { drawCode, listenForCode } from "./code.js";
import { listenToControls, setModels } from "./controls.js";
import { drawExports, listenForExports } from "./exports.js";
import { drawGallery, drawGalleryCounts } from "./gallery.js";
import { chooseFiles, listenForImages, openSample } from "./inputs.js";
import { askAgain } from "./key.js";
import { releaseCamera } from "./live.js";
import { clearPageErrors, drawMessage, onMessageAction, showPageError } from "./message.js";
import { drawPanel } from "./panel.js";
import { drawFaces, drawView, onDraw, updateBusy } from "./redraw.js";
import { reconnectNow, requestAll, retry, stopWaiting } from "./requests.js";
import { listModels } from "./server.js";
import { drawStage, panes } from "./stage.js";
import { entriesOnView, state } from "./state.js";

const START_PAUSE = 2000; // milliseconds before the models are requested again

let enterKey = () => {}; // continues the start after the user has declined to enter a key

onDraw({
  view() {
    drawGallery();
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
  sample: openSample,
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
  const sample = openSample();
  setModels(await modelsOfServer());
  clearPageErrors();
  await sample;
  requestAll();
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
