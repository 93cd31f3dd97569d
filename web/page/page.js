// The page: what there is to look at, what was asked for, and what is on view.
import { Camera } from "./camera.js";
import { $, bytes, el, faces as count, ms, percent, whole } from "./dom.js";
import { drawHistogram, drawTimes, faceRow, numbers, pairs } from "./panel.js";
import { askUser } from "./question.js";
import { FLOOR, listModels, MOST, predictPatiently, ServerError } from "./server.js";
import { LANGUAGES, snippets } from "./snippets.js";
import { extension, hidden, marked, rename, save } from "./takeaway.js";
import { Pane } from "./view.js";

const MOST_BYTES = 256 << 20; // of a file that is read at all
const AT_ONCE = 2; // calls

const state = {
  models: [],
  model: "",
  compare: "",
  smallest: 0,
  threshold: 0.5,
  touched: false, // the threshold, by a person
  pictures: [],
  current: null,
  live: null, // what the camera's last answer was, while it runs
  language: "curl",
};

// ---- What is asked

let lastID = 0;
let running = 0;
const jobs = [];

/** modelsAsked are the names of those on view: one, or two to compare. */
const modelsAsked = () => (state.compare && !camera.running ? [state.model, state.compare] : [state.model]);

/** optionsOf are what the server is asked with; the slider then filters here. */
const optionsOf = (model, smallest = state.smallest) => ({ minConfidence: FLOOR, maxResults: MOST, model, ...(smallest ? { minFaceSize: smallest } : {}) });

const keyOf = (model) => `${model} ${state.smallest}`;

/** wanted asks for what is missing of a picture, the one on view first. */
function wanted(picture) {
  if (!state.model) return;
  for (const model of modelsAsked()) {
    const key = keyOf(model);
    if (picture.answers.has(key) || jobs.some((job) => job.picture === picture && job.key === key)) continue;
    const entry = { pending: true };
    picture.answers.set(key, entry);
    const job = { picture, key, entry, model, smallest: state.smallest };
    if (picture === state.current) jobs.unshift(job);
    else jobs.push(job);
  }
  work();
}

function work() {
  while (running < AT_ONCE && jobs.length) {
    running++;
    const job = jobs.shift();
    ask(job).finally(() => {
      running--;
      work();
    });
  }
}

async function ask({ picture, key, entry, model, smallest }) {
  const settle = (outcome) => {
    if (picture.answers.get(key) !== entry) return; // removed, or asked anew
    picture.answers.set(key, outcome);
    changed();
  };
  entry.abort = new AbortController();
  changed();
  try {
    if (picture.blob.size > MOST_BYTES) {
      throw new ServerError({ title: "This file is too large", message: `It has ${bytes(picture.blob.size)}.`, remedy: "Reduce it." });
    }
    const reply = await predictPatiently(picture.blob, optionsOf(model, smallest), {
      signal: entry.abort.signal,
      waits: (attempt, pause, error) => {
        entry.waits = { attempt, pause, error };
        changed();
      },
    });
    settle({ answer: reply.answer, times: reply.times });
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    settle({ error });
    if (error.unreachable) lookLater();
    return;
  }
  picture.sentAgain = 0;
}

// ---- A server that is away

const MOST_PAUSE = 30_000;
const MOST_AGAIN = 3; // times that a picture is sent again to a server that is there, and yet does not take it

let pause = 0;
let looking = 0; // the timer until it is looked for

const unanswered = (picture) => [...picture.answers].filter(([, entry]) => entry.error?.unreachable);

const toSendAgain = () => state.pictures.filter((p) => unanswered(p).length && (p.sentAgain ?? 0) < MOST_AGAIN);

/** lookLater looks for the server after a pause, longer each time. */
function lookLater() {
  if (looking || !toSendAgain().length) return;
  pause = Math.min(pause * 2 || 1000, MOST_PAUSE);
  looking = setTimeout(look, pause);
}

/** look asks the server for little, unseen, and when it is there, for what it did not answer. */
async function look() {
  clearTimeout(looking);
  looking = 0;
  if (document.hidden || !toSendAgain().length) return; // it is done when the page is seen again
  try {
    await listModels();
  } catch {
    lookLater();
    return;
  }
  pause = 0;
  for (const picture of toSendAgain()) {
    picture.sentAgain = (picture.sentAgain ?? 0) + 1;
    for (const [key] of unanswered(picture)) picture.answers.delete(key);
    wanted(picture);
  }
  changed();
}

// ---- What there is to look at

function add(files, source) {
  const added = [...files].map((file) => ({
    id: ++lastID,
    name: file.name || "pasted" + extension(file),
    blob: file,
    source,
    url: URL.createObjectURL(file),
    img: null,
    width: 0,
    height: 0,
    answers: new Map(),
  }));
  if (!added.length) return;
  stopCamera();
  // The sample has done its work once there are others.
  if (source !== "sample") state.pictures.filter((p) => p.source === "sample").forEach(drop);
  state.pictures.push(...added);
  select(added[0]);
  added.forEach(wanted);
}

/** load reads the picture for display, once it is on view: the browser turns it upright, as the server does. */
async function load(picture) {
  if (picture.loading) return;
  picture.loading = true;
  const img = new Image();
  img.alt = "";
  img.decoding = "async";
  img.draggable = false;
  img.src = picture.url;
  try {
    await img.decode();
    Object.assign(picture, { img, width: img.naturalWidth, height: img.naturalHeight });
    for (const { rows } of lists.values()) rows.forEach((row) => row.crop()); // which show each face
  } catch {
    picture.unreadable = true; // by this browser; the server may read it
  }
  changed();
}

/** second is the picture's other element, for the second pane. */
function second(picture) {
  if (!picture.second) {
    picture.second = Object.assign(picture.img.cloneNode(), { decoding: "async" });
    picture.secondLoading = true;
    picture.second
      .decode()
      .catch(() => {})
      .then(() => {
        picture.secondLoading = false;
        changed();
      });
  }
  return picture.second;
}

// One after the other: a folder of large photographs must not be decoded at once.
let thumbnails = Promise.resolve();
function thumbnail(picture) {
  thumbnails = thumbnails.then(() => state.pictures.includes(picture) && !picture.unreadable && makeThumbnail(picture));
}

async function makeThumbnail(picture) {
  try {
    const bitmap = await createImageBitmap(picture.blob, { resizeWidth: 176, resizeQuality: "medium" });
    picture.thumb = el("canvas", { width: bitmap.width, height: bitmap.height });
    // Drawn, not transferred: what is transferred, Chromium does not turn upright.
    picture.thumb.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  } catch {
    picture.unreadable = true;
  }
  changed();
}

function drop(picture) {
  state.pictures = state.pictures.filter((p) => p !== picture);
  for (let i = jobs.length - 1; i >= 0; i--) if (jobs[i].picture === picture) jobs.splice(i, 1);
  for (const entry of picture.answers.values()) entry.abort?.abort();
  picture.answers.clear();
  URL.revokeObjectURL(picture.url);
  picture.item?.remove();
  Object.assign(picture, { img: null, second: null, secondLoading: false });
  if (state.current === picture) state.current = null;
}

function select(picture) {
  state.current = picture;
  if (picture) {
    load(picture);
    wanted(picture);
  }
  draw();
  if (picture?.item) reveal(picture.item, $("thumbs"));
}

/** reveal scrolls a strip sideways until an item of it is in sight. */
function reveal(item, strip) {
  const [at, within] = [item.getBoundingClientRect(), strip.getBoundingClientRect()];
  if (at.left < within.left) strip.scrollLeft -= within.left - at.left;
  else if (at.right > within.right) strip.scrollLeft += at.right - within.right;
}

async function openSample() {
  const there = state.pictures.find((p) => p.source === "sample");
  if (there) {
    stopCamera();
    select(there);
    return;
  }
  try {
    const blob = await coming(fetch("/page/sample.jpg").then((response) => response.blob()));
    add([new File([blob], "sample.jpg", { type: "image/jpeg" })], "sample");
  } catch {
    mistake("No sample", new Error("The server cannot be reached. Is it still running?"));
  }
}

let onTheWay = 0;

/** coming returns what the promise of a picture gives; until then the view is not settled. */
async function coming(promise) {
  onTheWay++;
  tellBusy();
  try {
    return await promise;
  } finally {
    onTheWay--;
    changed(); // after what is done with it, which is at once
  }
}

// ---- What is on view

const on = {
  select: (pane, i) => selectFace(pane, pane.selected === i ? -1 : i),
  hover: (pane, i) => {
    pane.hover(i);
    lists.get(pane)?.rows.forEach((row, j) => row.classList.toggle("hovered", j === i));
  },
  view: (pane, view) => {
    for (const other of panes) if (other !== pane && other.root.isConnected) other.follow(view);
  },
};
const panes = [new Pane(on), new Pane(on)];
const lists = new Map(); // of faces, by pane

let scheduled = false;
function changed() {
  if (scheduled) return;
  scheduled = true;
  tellBusy();
  requestAnimationFrame(() => {
    scheduled = false;
    draw();
  });
}

/**
 * tellBusy tells readers of the screen, and programs, whether the view is complete:
 * aria-busy is false when all that was asked of it was answered, or has failed, and
 * is drawn, here and in the panel. It is true from the moment on that a choice was
 * made; whoever waits for it never sees the state before.
 */
function tellBusy() {
  $("panes").setAttribute("aria-busy", String(unsettled()));
  const strip = state.pictures.length > 1 ? state.pictures : [];
  $("thumbs").setAttribute("aria-busy", String(strip.some((p) => !settled(p, state.model) || !(p.thumb || p.unreadable))));
}

function unsettled() {
  if (scheduled || frame || typing || onTheWay || !state.model) return true;
  if (camera.running) return !state.live;
  const picture = state.current;
  if (!picture) return false;
  return !modelsAsked().every((model) => settled(picture, model)) || !(picture.img || picture.unreadable) || Boolean(picture.secondLoading);
}

const settled = (picture, model) => {
  const entry = picture.answers.get(keyOf(model));
  return Boolean(entry?.answer || entry?.error);
};

/** entries are what is known of the picture on view, by pane. */
const entries = () => modelsAsked().map((model) => state.current?.answers.get(keyOf(model)) ?? {});

const passing = (list, threshold = state.threshold) => {
  let n = 0;
  while (n < list.length && list[n].confidence >= threshold) n++;
  return n;
};

function draw() {
  drawGallery();
  if (camera.running) {
    tellBusy();
    return;
  }
  const picture = state.current;
  const models = modelsAsked();
  const known = entries();
  const used = panes.slice(0, models.length);
  if ($("panes").childElementCount !== used.length || used.some((p) => !p.root.isConnected)) $("panes").replaceChildren(...used.map((p) => p.root));
  $("panes").classList.toggle("two", used.length === 2);
  if (used.length === 1) clear(panes[1]);
  $("zoom").hidden = !picture;
  $("live").hidden = true;
  if (!picture) {
    used.forEach(clear);
    drawFaces();
    drawMessage([]);
    tellBusy();
    return;
  }
  used.forEach((pane, i) => {
    const entry = known[i];
    const size = entry.answer ?? picture;
    pane.caption.textContent = models.length > 1 ? models[i] : "";
    pane.root.classList.toggle("busy", Boolean(entry.pending));
    pane.viewport.setAttribute("aria-label", `Picture${models.length > 1 ? ", " + models[i] : ""}. Plus and minus zoom, zero fits, arrow keys move.`);
    let media = picture.img;
    // An element is in one place only.
    if (media && i > 0) media = second(picture);
    if (size.width) pane.show(media, size.width, size.height);
    else if (picture.unreadable || entry.error) pane.show(null, 0, 0);
    if (pane.picture !== picture || (entry.answer && pane.entry !== entry) || entry.error) {
      pane.zoom = pane.picture === picture ? pane.zoom : 1;
      pane.picture = picture;
      pane.entry = entry;
      pane.setFaces(entry.answer?.results ?? []);
      pane.layout();
      if (entry.answer) announceSoon();
    }
  });
  drawMessage(known);
  drawFaces();
  tellBusy();
}

/** clear leaves nothing in a pane, which would keep a picture in memory. */
function clear(pane) {
  pane.caption.textContent = "";
  if (!pane.media && !pane.picture) return;
  pane.show(null, 0, 0);
  pane.setFaces([]);
  pane.picture = pane.entry = null;
  lists.delete(pane);
}

let mistakes = []; // of this page's own, such as a camera that is not there

function drawMessage(known) {
  const node = $("message");
  const picture = state.current;
  const failed = known.find((e) => e.error && !e.error.canceled);
  const stopped = known.find((e) => e.error?.canceled);
  const waiting = known.find((e) => e.pending && e.waits);
  let content = null;
  if (mistakes.length) {
    const { title, message } = mistakes[0];
    content = card("error", title, message, "", [["Close", () => (mistakes.shift(), refresh())]]);
  } else if (failed) {
    const { title, message, remedy, reason, requestID } = failed.error;
    content = card("error", title, message, remedy, [["Try again", () => again(picture)]], [reason, requestID && `request ${requestID}`]);
  } else if (stopped) {
    content = card("error", "Stopped", "The picture was not looked at.", "", [["Try again", () => again(picture)]]);
  } else if (waiting) {
    const { attempt, pause, error } = waiting.waits;
    content = card("waiting", error.title, error.message, `Trying again by itself in ${ms(pause)}. Attempts so far: ${attempt}.`, [["Stop", () => waiting.abort.abort()]], [error.reason]);
  } else if (picture?.unreadable) {
    const seen = known.some((e) => e.answer);
    const close = () => {
      picture.noted = true;
      draw();
      panes[0].viewport.focus();
    };
    if (seen && !picture.noted) content = card("note", "This browser cannot show this format", "The server reads it, and its faces are marked where they are. They cannot be drawn into the picture here.", "", [["Close", close]]);
  } else if (!picture && !camera.running && !onTheWay && state.model) {
    content = card("empty", "No picture", "Drop pictures anywhere, choose or paste them, or turn on the camera.", "", [["Choose pictures", () => $("choose").click()], ["Look at the sample", openSample]]);
  }
  // One that stays keeps the focus, and its buttons what they act on.
  const about = content ? [picture?.id, modelsAsked(), state.smallest, content.textContent].join(" ") : "";
  if (node.dataset.about === about) return;
  node.dataset.about = about;
  node.hidden = !content;
  node.replaceChildren(...(content ? [content] : []));
  if (content) announce([...content.querySelectorAll("h2, p")].map((p) => p.textContent).join(" "));
}

function card(kind, title, message, remedy, actions, small = []) {
  return el(
    "div",
    { className: "card " + kind },
    el("h2", {}, title),
    el("p", {}, message),
    remedy ? el("p", { className: "remedy" }, remedy) : null,
    actions.length ? el("div", { className: "actions" }, ...actions.map(([name, act]) => el("button", { type: "button", onclick: act }, name))) : null,
    small.some(Boolean) ? el("p", { className: "small" }, ...small.filter(Boolean).map((s) => el("code", {}, s))) : null,
  );
}

function again(picture) {
  for (const [key, entry] of picture.answers) if (entry.error) picture.answers.delete(key);
  picture.sentAgain = 0;
  wanted(picture);
  draw();
}

function mistake(title, error) {
  mistakes = [{ title, message: String(error.message ?? error) }];
  refresh();
}

function refresh() {
  if (camera.running) drawMessage([]);
  else draw();
}

/** drawFaces brings all that depends on the threshold up to date. */
function drawFaces() {
  const known = camera.running ? [{ answer: state.live?.answer, times: state.live?.times }] : entries();
  const picture = state.current;
  const shown = known.map((e) => passing(e.answer?.results ?? []));
  const used = panes.slice(0, known.length);
  used.forEach((pane, i) => pane.setShown(Math.min(shown[i], pane.marks.length)));
  drawAlone(known, shown, used);

  const answered = known.every((e) => e.answer);
  $("count").replaceChildren(
    el("span", { className: "n" }, answered ? shown.join(" | ") : "–"),
    " ",
    el("span", {}, answered && shown.length === 1 && shown[0] === 1 ? "face" : "faces"),
  );
  const about = camera.running
    ? ["Camera", size(known[0].answer), state.model]
    : picture
      ? [picture.name, size(known[0].answer ?? picture), bytes(picture.blob.size), modelsAsked().length > 1 ? "" : state.model, picture.unreadable && answered ? "not shown by this browser" : ""]
      : ["No picture yet"];
  $("about").textContent = about.filter(Boolean).join(" · ");

  const value = $("confidence");
  if (document.activeElement !== value || Number(value.value) !== state.threshold) value.value = state.threshold;
  value.style.setProperty("--at", ((state.threshold - FLOOR) / (1 - FLOOR)) * 100 + "%");
  value.setAttribute("aria-valuetext", whole(state.threshold));
  $("confidence-value").textContent = whole(state.threshold);
  const chosen = state.models.find((m) => m.name === state.model);
  $("confidence-reset").hidden = !state.touched || !chosen;
  $("confidence-reset").textContent = chosen ? `Reset to ${whole(chosen.defaultMinConfidence)}` : "";
  drawHistogram($("histogram"), known[0].answer?.results ?? [], state.threshold);
  drawList(known, shown, used);
  drawTimes($("time-bars"), $("time"), known.map((e) => e.times).filter(Boolean));
  drawGalleryCounts();
  drawCode();
  const ready = !camera.running && answered && Boolean(picture);
  $("save-json").disabled = !ready;
  $("save-marked").disabled = $("save-hidden").disabled = !ready || !picture.img;
}

const size = (of) => (of?.width ? `${of.width} × ${of.height}` : "");

/** drawAlone compares two models: which faces both have. */
function drawAlone(known, shown, used) {
  const node = $("both");
  node.hidden = known.length < 2 || !known.every((e) => e.answer);
  used.forEach((pane) => pane.setAlone(null));
  if (node.hidden) return;
  const { both, alone } = pairs(...known.map((e, i) => e.answer.results.slice(0, shown[i])));
  used.forEach((pane, i) => pane.setAlone(alone[i]));
  node.replaceChildren(
    el("span", {}, el("b", {}, String(both)), " both"),
    ...modelsAsked().map((model, i) => el("span", { className: "dashed" }, el("b", {}, String(alone[i].filter(Boolean).length)), ` only ${model}`)),
  );
}

function drawList(known, shown, used) {
  const root = $("faces");
  $("faces-title").textContent = camera.running ? "Faces, live" : "Faces";
  if (camera.running || !state.current) {
    lists.clear();
    root.replaceChildren(el("li", { className: "nothing" }, camera.running ? "Keep a picture to see each face’s numbers." : "Choose, paste or drop a picture, or turn on the camera."));
    return;
  }
  const nodes = [];
  used.forEach((pane, i) => {
    let list = lists.get(pane);
    if (!list || list.entry !== known[i]) {
      list = { entry: known[i], rows: [], heading: el("li", { className: "heading" }), nothing: el("li", { className: "nothing" }) };
      lists.set(pane, list);
    }
    const results = known[i].answer?.results ?? [];
    while (list.rows.length < shown[i]) {
      const j = list.rows.length;
      list.rows.push(faceRow(results[j], j, () => state.current?.img, { select: () => on.select(pane, j), hover: (yes) => on.hover(pane, yes ? j : -1) }));
    }
    list.rows.forEach((row, j) => (row.hidden = j >= shown[i]));
    if (used.length > 1) {
      list.heading.textContent = modelsAsked()[i];
      nodes.push(list.heading);
    }
    nodes.push(...list.rows);
    if (known[i].answer && !shown[i]) {
      list.nothing.textContent = results.length ? `None above ${whole(state.threshold)}. The likeliest has ${percent(results[0].confidence)}.` : "None, not even an unlikely one.";
      nodes.push(list.nothing);
    }
  });
  // What is there already stays, and keeps the focus.
  const same = root.childElementCount === nodes.length && nodes.every((node, i) => root.children[i] === node);
  if (!same) root.replaceChildren(...nodes);
}

function selectFace(pane, i) {
  for (const other of panes) if (other !== pane) other.select(-1);
  pane.select(i);
  for (const [owner, list] of lists) {
    list.rows.forEach((row, j) => {
      const chosen = owner === pane && j === i;
      row.classList.toggle("selected", chosen);
      row.firstChild.setAttribute("aria-pressed", String(chosen));
      row.querySelector("dl")?.remove();
      if (chosen) {
        row.append(numbers(row.face));
        row.scrollIntoView({ block: "nearest" });
      }
    });
  }
}

// ---- Gallery

function drawGallery() {
  const many = state.pictures.length > 1;
  $("gallery").hidden = !many;
  if (!many) return;
  for (const picture of state.pictures) {
    if (!picture.item) {
      const button = el("button", { type: "button", className: "thumb", onclick: () => (stopCamera(), select(picture)) }, el("span", { className: "badge" }, el("b"), el("span", { className: "unseen" })), el("span", { className: "name" }, picture.name));
      const remove = el("button", { type: "button", className: "remove", "aria-label": `Remove ${picture.name}`, onclick: () => removePicture(picture) }, "×");
      picture.item = el("li", {}, button, remove);
      button.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        const next = state.pictures[state.pictures.indexOf(picture) + step];
        if (!step || !next) return;
        event.preventDefault();
        next.item.firstChild.focus();
        select(next);
      });
      $("thumbs").append(picture.item);
      thumbnail(picture);
    }
    const button = picture.item.firstChild;
    if (picture.thumb && !picture.thumb.isConnected) button.prepend(picture.thumb);
    if (picture === state.current && !camera.running) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  $("gallery-title").textContent = `${state.pictures.length} pictures`;
  drawGalleryCounts();
}

function drawGalleryCounts() {
  if (state.pictures.length < 2) return;
  let total = 0;
  for (const picture of state.pictures) {
    if (!picture.item) continue;
    const entry = picture.answers.get(keyOf(state.model)) ?? { pending: true };
    const n = entry.answer ? passing(entry.answer.results) : 0;
    total += n;
    const badge = picture.item.querySelector(".badge");
    badge.firstChild.textContent = entry.answer ? String(n) : entry.error ? "!" : "…";
    badge.classList.toggle("failed", Boolean(entry.error));
    const says = entry.answer ? (n === 1 ? "face" : "faces") : entry.error ? entry.error.title : entry.waits ? "waiting for the server" : "being looked at";
    badge.lastChild.textContent = ` ${says}, `;
  }
  $("gallery-title").textContent = `${state.pictures.length} pictures, ${count(total)}`;
}

function removePicture(picture) {
  const at = state.pictures.indexOf(picture);
  const was = state.current === picture;
  drop(picture);
  if (was) select(state.pictures[Math.min(at, state.pictures.length - 1)] ?? null);
  else draw();
  (state.current?.item?.firstChild ?? $("choose")).focus();
}

// ---- Camera

const camera = new Camera({
  faces: (reply, { milliseconds, perSecond }) => {
    const { answer } = reply;
    const first = !state.live;
    mistakes = [];
    state.live = reply;
    const [pane] = panes;
    pane.show(camera.video, answer.width, answer.height);
    pane.setFaces(answer.results);
    $("meter").textContent = `${perSecond.toFixed(perSecond < 10 ? 1 : 0)} frames/s · ${ms(milliseconds)}`;
    drawFaces();
    drawMessage([]);
    tellBusy();
    if (first) announceSoon();
  },
  waits: (error, pause) => mistake(error.title, `Trying again by itself in ${ms(pause)}.`),
  fails: (error) => {
    stopCamera();
    mistake(error.title ?? "The camera stopped", error);
  },
});

async function startCamera(facing) {
  mistakes = [];
  try {
    state.live = null;
    state.facing = facing;
    const started = camera.start(facing, () => optionsOf(state.model));
    showCamera();
    await started;
    if (!camera.running || state.facing !== facing) return; // stopped, or turned, meanwhile
    const { width, height } = camera.size;
    panes[0].show(camera.video, width, height);
    const mirror = (camera.facing || facing) === "user";
    $("mirror").checked = mirror;
    panes[0].setMirrored(mirror);
    announce("The camera is on.");
  } catch (error) {
    stopCamera();
    const reasons = { NotAllowedError: "You, or the browser, did not allow it. Allow the camera for this page and try again.", NotFoundError: "There is none on this machine.", NotReadableError: "Another program uses it.", OverconstrainedError: "There is no such camera." };
    mistake("No camera", new Error(reasons[error.name] ?? error.message));
  }
}

function showCamera() {
  const [pane] = panes;
  $("panes").replaceChildren(pane.root);
  $("panes").classList.remove("two");
  pane.caption.textContent = "";
  pane.root.classList.remove("busy");
  pane.picture = pane.entry = null;
  pane.setFaces([]);
  pane.show(camera.video, 16, 9);
  $("live").hidden = false;
  $("meter").textContent = "Starting…";
  $("facing").textContent = state.facing === "user" ? "Back camera" : "Front camera";
  $("camera").setAttribute("aria-pressed", "true");
  $("compare").disabled = true;
  drawMessage([]);
  drawFaces();
  drawGallery();
  tellBusy();
}

function stopCamera() {
  if (!camera.running) return;
  camera.stop();
  state.live = null;
  panes[0].setMirrored(false);
  panes[0].picture = panes[0].entry = null;
  $("camera").removeAttribute("aria-pressed");
  $("compare").disabled = state.models.length < 2;
  draw();
}

let kept = 0;
async function keepFrame() {
  const blob = await coming(camera.frame());
  add([new File([blob], `camera-${++kept}.jpg`, { type: "image/jpeg" })], "camera");
}

// ---- Taking away

function drawTabs() {
  $("tabs").replaceChildren(
    ...LANGUAGES.map(([key, name]) => {
      const tab = el("button", { type: "button", role: "tab", id: "tab-" + key, "aria-controls": "snippet", "aria-selected": String(key === state.language), tabIndex: key === state.language ? 0 : -1 }, name);
      tab.addEventListener("click", () => chooseTab(key));
      tab.addEventListener("keydown", (event) => {
        const keys = LANGUAGES.map(([k]) => k);
        const to = { ArrowRight: keys.indexOf(key) + 1, ArrowLeft: keys.indexOf(key) - 1, Home: 0, End: keys.length - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        chooseTab(keys.at(to % keys.length));
        $("tab-" + state.language).focus();
      });
      return tab;
    }),
  );
}

function chooseTab(key) {
  state.language = key;
  for (const [k] of LANGUAGES) {
    $("tab-" + k).setAttribute("aria-selected", String(k === key));
    $("tab-" + k).tabIndex = k === key ? 0 : -1;
  }
  $("snippet").setAttribute("aria-labelledby", "tab-" + key);
  drawCode();
}

function drawCode() {
  const picture = camera.running ? null : state.current;
  const chosen = state.models.find((m) => m.name === state.model);
  const options = {};
  if (chosen && state.threshold !== round(chosen.defaultMinConfidence)) options.minConfidence = state.threshold;
  if (state.smallest) options.minFaceSize = state.smallest;
  if (chosen && !chosen.default) options.model = chosen.name;
  const sample = picture?.source === "sample" ? location.origin + "/page/sample.jpg" : "";
  const code = snippets({ origin: location.origin, name: picture?.name ?? "photo.jpg", sample, options })[state.language];
  if ($("code").textContent !== code) $("code").textContent = code;
}

async function copyCode() {
  const text = $("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Not on https or localhost, or not allowed: the person copies what is selected.
    getSelection().selectAllChildren($("code"));
    $("copy").textContent = "Selected";
    announce("Selected. Copy it with the keyboard.");
    setTimeout(() => ($("copy").textContent = "Copy"), 2000);
    return;
  }
  $("copy").textContent = "Copied";
  announce("Copied");
  setTimeout(() => ($("copy").textContent = "Copy"), 2000);
}

const filtered = (answer) => ({ ...answer, results: answer.results.slice(0, passing(answer.results)) });

function saveJSON() {
  const answers = entries().map((e) => filtered(e.answer));
  const text = JSON.stringify(answers.length > 1 ? answers : answers[0], null, 2);
  save(new Blob([text + "\n"], { type: "application/json" }), rename(state.current.name, ".json"));
}

async function making(button, what) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  $("save-note").textContent = "";
  try {
    $("save-note").textContent = (await what()) ?? "";
  } catch (error) {
    $("save-note").textContent = `This did not work: ${error.message}`;
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** saveMarked draws what is shown: of two models, the faces of the first, and dashed those that only one has. */
async function saveMarked() {
  const picture = state.current;
  const shown = entries().map((e) => filtered(e.answer).results);
  const name = rename(picture.name, "-marked" + extension(picture.blob));
  if (shown.length === 1) {
    save(await marked(picture, shown[0].map((face, i) => ({ face, number: i + 1 }))), name);
    return "";
  }
  const models = modelsAsked();
  const { both, alone } = pairs(...shown);
  const marks = shown.flatMap((list, m) => list.map((face, i) => ({ face, number: i + 1, by: alone[m][i] ? models[m] : "" })).filter((mark) => m === 0 || mark.by));
  save(await marked(picture, marks), name);
  const only = models.map((model, m) => `${alone[m].filter(Boolean).length} only by ${model}`);
  return `${count(both)} by both models, ${only.join(", ")}: these are dashed.`;
}

// The least confidence of a face that is looked for in a picture whose faces are hidden.
const DOUBT = 0.3;

/** findIn returns the faces that any model finds in a picture, from DOUBT on, or from the threshold if that is lower. */
async function findIn(blob, { chosen, threshold, smallest }) {
  const found = [];
  for (const { name, defaultMinConfidence } of state.models) {
    const own = round(defaultMinConfidence);
    // The hidden faces are at least that small; a model may find a part of one.
    const options = { ...optionsOf(name, Math.ceil(smallest / 2)), minConfidence: Math.min(threshold, own, DOUBT), skipLandmarks: true };
    const { results } = (await predictPatiently(blob, options, { attempts: 4 })).answer;
    const least = chosen.includes(name) ? threshold : Math.max(threshold, own);
    for (const { box, confidence } of results) {
      const side = Math.max(box.lowerRight.x - box.upLeft.x, box.lowerRight.y - box.upLeft.y);
      found.push({ box, confidence, model: name, shown: confidence >= least && side >= smallest });
    }
  }
  return found;
}

/** saveHidden saves a picture in which a model may still find a face only if the user says so. */
async function saveHidden() {
  const picture = { ...state.current };
  const view = { chosen: modelsAsked(), threshold: state.threshold, smallest: state.smallest };
  // What both models found, when two were asked.
  const list = entries().flatMap((e) => filtered(e.answer).results);
  const n = passing(entries()[0].answer.results);
  if (!list.length) return "There is no face above the slider to hide.";
  const style = document.querySelector("input[name=hide]:checked").value;
  const extra = []; // faces that the user told to hide too
  for (;;) {
    $("save-note").textContent = "Hiding, and asking the server whether it still finds one…";
    const made = await hidden(picture, [...list, ...extra], style, (blob) => findIn(blob, view));
    $("save-note").textContent = "";
    const clean = !made.error && !made.left.length && !made.others.length;
    const answer = clean ? "save" : await askUser(questionOf(made));
    if (answer === "hide") {
      extra.push(...made.others);
      continue;
    }
    if (answer !== "save") return "Not saved.";
    save(made.blob, rename(picture.name, "-hidden" + extension(picture.blob)));
    const more = extra.length + made.more;
    const done = (view.chosen.length > 1 ? "The faces of both models are hidden" : `${count(n)} hidden`) + (more ? `, and ${more} more that another look found` : "");
    if (made.error) return `${done}. The server could not be asked whether it still finds one.`;
    const rest = made.others.length ? ` ${places(made.others.length)} elsewhere may show a face, and ${are(made.others.length)} not hidden.` : "";
    if (made.left.length) return `${done}, but a model still takes ${made.left.length} of the hidden places for a face.${rest}`;
    return `${done}. Asked again, the server finds none of them${state.models.length > 1 ? ", by any model" : ""}.${rest}`;
  }
}

const places = (n) => (n === 1 ? "1 place" : `${n} places`);
const are = (n) => (n === 1 ? "is" : "are");

/** questionOf returns what to ask before a picture is saved in which a face may be left. */
function questionOf({ blob, error, left, others }) {
  const likeliest = (list) => {
    const { model, confidence } = list.reduce((a, b) => (b.confidence > a.confidence ? b : a));
    return `${model} is ${list.length > 1 ? "up to " : ""}${percent(confidence)} sure`;
  };
  const lines = [];
  if (error) lines.push(`The server could not be asked whether it still finds a face in the picture: ${error.message}`);
  if (others.length) lines.push(`${places(others.length)} that ${are(others.length)} not hidden may show a face: ${likeliest(others)}.`);
  if (left.length) lines.push(`${places(left.length)} that ${are(left.length)} hidden ${are(left.length)} still taken for a face: ${likeliest(left)}. Nothing of the original is left there.`);
  return {
    title: error ? "Save it unchecked?" : "Save it all the same?",
    lines: [...lines, "Look at the picture before you use it."],
    blob,
    faces: [...others, ...left],
    answers: [...(others.length ? [["hide", "Hide these too"]] : []), ["save", "Save all the same"], ["", "Do not save"]],
  };
}

// ---- Saying it

let spoken;
function announce(text) {
  $("announce").textContent = text;
}

/** announceSoon tells how many faces there are, once nothing has changed for a moment. */
function announceSoon() {
  clearTimeout(spoken);
  spoken = setTimeout(() => {
    const known = camera.running ? [{ answer: state.live?.answer }] : entries();
    if (!known.every((e) => e.answer)) return;
    const models = modelsAsked();
    const told = known.map((e, i) => count(passing(e.answer.results)) + (models.length > 1 ? ` by ${models[i]}` : ""));
    announce(`${told.join(", ")} of at least ${whole(state.threshold)} in ${camera.running ? "the camera’s picture" : state.current.name}.`);
  }, 400);
}

// ---- Wiring

const round = (c) => Math.round(c * 100) / 100;

function setThreshold(value, touched) {
  state.threshold = value;
  state.touched = touched;
  soon(drawFaces);
  announceSoon();
}

let typing = 0; // the timer until what is typed counts
let frame = 0;
function soon(act) {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => {
    frame = 0;
    act();
    tellBusy();
  });
  tellBusy();
}

function ownThreshold() {
  const chosen = state.models.find((m) => m.name === state.model);
  if (chosen) setThreshold(round(chosen.defaultMinConfidence), false);
}

/** asked asks for what the choices now want, and no more for what they wanted before. */
function asked() {
  const keys = modelsAsked().map(keyOf);
  for (const picture of state.pictures) {
    for (const [key, entry] of picture.answers) {
      if (!entry.pending || keys.includes(key)) continue;
      picture.answers.delete(key);
      entry.abort?.abort();
    }
  }
  for (let i = jobs.length - 1; i >= 0; i--) if (!keys.includes(jobs[i].key)) jobs.splice(i, 1);
  state.pictures.toSorted((a, b) => (b === state.current) - (a === state.current)).forEach(wanted);
  if (!camera.running) draw();
}

async function start() {
  drawTabs();
  drawFaces();
  const sample = openSample();
  for (;;) {
    try {
      state.models = await listModels();
      break;
    } catch (error) {
      mistake(error.title, new Error(`${error.message} ${error.remedy} This page tries again by itself.`));
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
  mistakes = [];
  state.model = (state.models.find((m) => m.default) ?? state.models[0]).name;
  const many = state.models.length > 1;
  $("model").replaceChildren(...state.models.map((m) => el("option", { value: m.name }, m.name)));
  drawCompare();
  $("model").disabled = $("compare").disabled = !many;
  $("compare-note").hidden = many;
  ownThreshold();
  await sample;
  asked();
}

function drawCompare() {
  if (state.compare === state.model) state.compare = "";
  $("compare").replaceChildren(el("option", { value: "" }, "none"), ...state.models.filter((m) => m.name !== state.model).map((m) => el("option", { value: m.name }, m.name)));
  $("compare").value = state.compare;
}

$("choose").onclick = () => $("files").click();
$("files").onchange = () => {
  add($("files").files, "file");
  $("files").value = "";
};
$("sample").onclick = openSample;
$("camera").onclick = () => (camera.running ? stopCamera() : startCamera("user"));
$("stop").onclick = () => (stopCamera(), $("camera").focus());
$("facing").onclick = () => startCamera(state.facing === "user" ? "environment" : "user");
$("mirror").onchange = () => panes[0].setMirrored($("mirror").checked);
$("keep").onclick = () => keepFrame().catch((error) => mistake("No picture", error));
$("clear").onclick = () => {
  state.pictures.slice().forEach(drop);
  select(null);
  $("choose").focus();
};
$("paste").hidden = !navigator.clipboard?.read;
$("paste").onclick = async () => {
  try {
    const files = [];
    for (const item of await coming(navigator.clipboard.read())) {
      const type = item.types.find((t) => t.startsWith("image/"));
      if (type) files.push(new File([await coming(item.getType(type))], "pasted." + type.slice(6).replace("jpeg", "jpg"), { type }));
    }
    if (!files.length) throw new Error("There is no picture in the clipboard. Copy one first.");
    add(files, "paste");
  } catch (error) {
    mistake("Nothing pasted", error.name === "NotAllowedError" ? new Error("The browser did not allow it. Press Ctrl+V (⌘V) instead.") : error);
  }
};
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length) return;
  event.preventDefault();
  add(files, "paste");
});

let depth = 0;
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => {
  if (carriesFiles(event)) $("drop").hidden = ++depth < 1;
});
document.addEventListener("dragleave", (event) => {
  if (carriesFiles(event)) $("drop").hidden = --depth < 1;
});
document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  depth = 0;
  $("drop").hidden = true;
  add(event.dataTransfer.files, "file");
});

$("confidence").oninput = () => setThreshold(Number($("confidence").value), true);
$("confidence-reset").onclick = () => {
  ownThreshold();
  $("confidence").focus();
};
$("model").onchange = () => {
  state.model = $("model").value;
  drawCompare();
  if (!state.touched) ownThreshold();
  asked();
};
$("compare").onchange = () => {
  state.compare = $("compare").value;
  asked();
};
$("smallest").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    typing = 0;
    const field = $("smallest");
    state.smallest = Math.min(Number(field.max), Math.trunc(Number(field.value)) || 0);
    asked();
    tellBusy();
  }, 350);
  tellBusy();
};
const toggles = () => {
  $("panes").classList.toggle("no-points", !$("points").checked);
  $("panes").classList.toggle("no-numbers", !$("numbers").checked);
};
$("points").onchange = $("numbers").onchange = toggles;
toggles();
$("in").onclick = () => panes[0].zoomIn();
$("out").onclick = () => panes[0].zoomOut();
$("fit").onclick = () => panes[0].zoomTo(1);
$("save-json").onclick = () => making($("save-json"), async () => saveJSON());
$("save-marked").onclick = () => making($("save-marked"), saveMarked);
$("save-hidden").onclick = () => making($("save-hidden"), saveHidden);
$("copy").onclick = copyCode;
addEventListener("pagehide", () => camera.stop());
addEventListener("online", look);
document.addEventListener("visibilitychange", look);

start();
