// The strip of thumbnails, shown when there are two images or more.
import { $, el } from "./dom.js";
import { makeThumbnail, removeImage, selectImage } from "./images.js";
import { stopCamera } from "./live.js";
import { answerKey, countShown, state } from "./state.js";
import { badgeOf, galleryTitle } from "./wording.js";

let revealed = null; // the image that the strip was scrolled to

/** drawGallery draws all of the strip. */
export function drawGallery() {
  const isShown = state.images.length > 1;
  $("gallery").hidden = !isShown;
  if (!isShown) {
    revealed = null;
    return;
  }
  for (const image of state.images) {
    if (!image.item) addItem(image);
    drawItem(image);
  }
  drawGalleryCounts();
  revealCurrent();
}

/** drawGalleryCounts draws what depends on the threshold. */
export function drawGalleryCounts() {
  if (state.images.length < 2) return;
  let total = 0;
  for (const image of state.images.filter((i) => i.item)) {
    const entry = image.answers.get(answerKey(state.model)) ?? { pending: true };
    const n = countShown(entry.answer);
    total += n;
    drawBadge(image.item.querySelector(".badge"), entry, n);
  }
  $("gallery-title").textContent = galleryTitle(state.images.length, total);
}

function drawBadge(badge, entry, n) {
  const { text, label } = badgeOf(entry, n);
  badge.firstChild.textContent = text;
  badge.lastChild.textContent = ` ${label}, `;
  badge.classList.toggle("failed", Boolean(entry.error));
}

function addItem(image) {
  const badge = el("span", { className: "badge" }, el("b"), el("span", { className: "unseen" }));
  const button = el("button", { type: "button", className: "thumb", onclick: () => show(image) }, badge, el("span", { className: "name" }, image.name));
  const remove = el("button", { type: "button", className: "remove", "aria-label": `Remove ${image.name}`, onclick: () => removeItem(image) }, "×");
  button.addEventListener("keydown", (event) => moveByKey(event, image));
  image.item = el("li", {}, button, remove);
  $("thumbs").append(image.item);
  makeThumbnail(image);
}

function drawItem(image) {
  const button = image.item.firstChild;
  if (image.thumbnail && !image.thumbnail.isConnected) button.prepend(image.thumbnail);
  if (image === state.current && !state.cameraOn) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
}

function show(image) {
  stopCamera();
  selectImage(image);
}

function removeItem(image) {
  removeImage(image);
  (state.current?.item?.firstChild ?? $("choose")).focus();
}

function moveByKey(event, image) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const next = state.images[state.images.indexOf(image) + step];
  if (!step || !next) return;
  event.preventDefault();
  next.item.firstChild.focus();
  selectImage(next);
}

// revealCurrent scrolls the strip sideways to an image that has just been chosen.
function revealCurrent() {
  if (revealed === state.current) return;
  revealed = state.current;
  if (!revealed?.item) return;
  const strip = $("thumbs");
  const [item, visible] = [revealed.item.getBoundingClientRect(), strip.getBoundingClientRect()];
  if (item.left < visible.left) strip.scrollLeft -= visible.left - item.left;
  else if (item.right > visible.right) strip.scrollLeft += item.right - visible.right;
}
