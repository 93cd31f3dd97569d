// Saves what is on view: the answer as JSON, the annotated image, and the image with hidden faces.
import { askUser } from "./dialog.js";
import { $, el } from "./dom.js";
import { answersJSON, extension, marksOf, renamed } from "./files.js";
import { detectWithAll, hideFaces } from "./hiding.js";
import { paintHidden, paintMarked } from "./paint.js";
import { predictWithRetries } from "./server.js";
import { countShown, detectOptions, entriesOnView, filtered, modelsOnView, state } from "./state.js";
import { hiddenNote, hiddenQuestion, markedNote } from "./wording.js";

const CHECK_ATTEMPTS = 4; // of a call that checks hidden faces, when the server is overloaded

/** listenForExports wires the buttons that save. */
export function listenForExports() {
  listen("save-json", saveJSON);
  listen("save-marked", saveMarked);
  listen("save-hidden", saveHidden);
}

/** drawExports enables the buttons for what can be saved now. */
export function drawExports() {
  const isReady = !state.cameraOn && Boolean(state.current) && entriesOnView().every((entry) => entry.answer);
  $("save-json").disabled = !isReady;
  $("save-marked").disabled = $("save-hidden").disabled = !isReady || !state.current.element;
}

// listen runs save() on a click, once at a time, and shows the note that it returns.
function listen(id, save) {
  const button = $(id);
  button.onclick = async () => {
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    setNote("");
    try {
      setNote((await save()) ?? "");
    } catch (error) {
      setNote(`Not saved: ${error.message}`);
    } finally {
      button.removeAttribute("aria-busy");
    }
  };
}

const setNote = (text) => ($("save-note").textContent = text);

const answersShown = () => entriesOnView().map((entry) => filtered(entry.answer));

function saveJSON() {
  download(new Blob([answersJSON(answersShown())], { type: "application/json" }), renamed(state.current.name, ".json"));
}

async function saveMarked() {
  const image = state.current;
  const models = modelsOnView();
  const { marks, ...match } = marksOf(answersShown().map((answer) => answer.results), models);
  download(await paintMarked(image, marks), renamed(image.name, "-marked" + extension(image.blob.type)));
  return models.length > 1 ? markedNote(match, models) : "";
}

// saveHidden saves an image that may still show a face only if the user says so.
async function saveHidden() {
  const image = { ...state.current };
  const view = { models: modelsOnView(), threshold: state.threshold, isChosen: state.thresholdChosen, minFaceSize: state.minFaceSize };
  const faces = answersShown().flatMap((answer) => answer.results);
  const counts = { faces: countShown(entriesOnView()[0].answer), models: view.models.length, serverModels: state.models.length };
  if (!faces.length) return "No face is above the slider, so there is nothing to hide.";
  const style = document.querySelector("input[name=hide]:checked").value;
  const extra = []; // faces that the user asked to hide too
  for (;;) {
    setNote("Hiding the faces, and checking the result with the server…");
    const result = await hideFaces({
      faces: [...faces, ...extra],
      style,
      size: image,
      render: (disks) => paintHidden(image, disks),
      detect: (file) => detectWithAll(file, state.models, view, predictForCheck),
    });
    setNote("");
    const question = hiddenQuestion(result);
    const choice = question ? await askUser({ ...question, blob: result.file, faces: [...result.elsewhere, ...result.stillDetected] }) : "save";
    if (choice === "hide") {
      extra.push(...result.elsewhere);
      continue;
    }
    if (choice !== "save") return "Not saved.";
    download(result.file, renamed(image.name, "-hidden" + extension(image.blob.type)));
    return hiddenNote(result, { ...counts, added: extra.length + result.added });
  }
}

async function predictForCheck(file, { model, minConfidence, minFaceSize }) {
  const options = { ...detectOptions(model, minFaceSize), minConfidence, skipLandmarks: true };
  return (await predictWithRetries(file, options, { maxAttempts: CHECK_ATTEMPTS })).answer;
}

function download(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
