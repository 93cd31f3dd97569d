// The images that the user gave: adding, loading, choosing and removing them.
import { el } from "./dom.js";
import { refreshCrops } from "./facelist.js";
import { extension } from "./files.js";
import { drawView, viewChanged } from "./redraw.js";
import { cancel, request } from "./requests.js";
import { picture } from "./server.js";
import { state } from "./state.js";

const THUMBNAIL_WIDTH = 176; // pixels

let lastID = 0;

/** lastAdded returns the id of the image that was added last, or 0. */
export const lastAdded = () => lastID;

/** addImages adds files and shows the first one. source says where they are from: see state.js. A sample gives way to other images. */
export function addImages(files, source) {
  const added = [...files].map((file) => newImage(file, source));
  if (!added.length) return;
  state.images.filter((image) => image.source === "sample").forEach(drop);
  state.images.push(...added);
  selectImage(added[0]);
  added.forEach(request);
}

const newImage = (file, source) => ({
  id: ++lastID,
  name: file.name || "pasted" + extension(file.type),
  blob: file,
  source,
  url: URL.createObjectURL(file),
  element: null, // the <img> that shows it, once it is loaded
  width: 0,
  height: 0,
  answers: new Map(),
});

/** selectImage shows an image, or none if it is null. */
export function selectImage(image) {
  state.current = image;
  if (image) {
    load(image);
    request(image);
  }
  drawView();
}

/** removeImage removes an image; if it was on view, the next one is shown. */
export function removeImage(image) {
  const at = state.images.indexOf(image);
  const wasOnView = state.current === image;
  drop(image);
  if (wasOnView) selectImage(state.images[Math.min(at, state.images.length - 1)] ?? null);
  else drawView();
}

/** removeAllImages removes all images. */
export function removeAllImages() {
  state.images.slice().forEach(drop);
  selectImage(null);
}

// drop forgets an image, and frees its memory.
function drop(image) {
  state.images = state.images.filter((other) => other !== image);
  cancel(image);
  URL.revokeObjectURL(image.url);
  image.item?.remove();
  Object.assign(image, { element: null, second: null, secondLoading: false });
  if (state.current === image) state.current = null;
}

// load decodes an image for display, once it is on view. The browser applies the EXIF
// orientation, as the server does.
async function load(image) {
  if (image.loading) return;
  image.loading = true;
  const element = el("img", { alt: "", decoding: "async", draggable: false, src: image.url });
  try {
    await element.decode();
    Object.assign(image, { element, width: element.naturalWidth, height: element.naturalHeight });
    refreshCrops();
  } catch {
    image.unreadable = true; // for this browser; the server may read it
  }
  viewChanged();
}

/** loadFromServer has the server decode an image that this browser cannot show, once the server has found faces in it. */
export async function loadFromServer(image) {
  if (!image.unreadable || image.fromServer || ![...image.answers.values()].some((entry) => entry.answer)) return;
  image.fromServer = image.pictureLoading = true;
  try {
    const decoded = await picture(image.blob);
    if (!state.images.includes(image)) return;
    image.shown = decoded;
    URL.revokeObjectURL(image.url);
    image.url = URL.createObjectURL(decoded);
    const element = el("img", { alt: "", draggable: false, src: image.url });
    await element.decode();
    Object.assign(image, { element, unreadable: false, width: element.naturalWidth, height: element.naturalHeight });
    refreshCrops();
    if (image.item) await drawThumbnail(image, decoded);
  } catch {
    // The faces are then shown at their positions without the image.
  } finally {
    image.pictureLoading = false;
    viewChanged();
  }
}

/** secondElement returns another <img> of a loaded image, for the second pane. */
export function secondElement(image) {
  if (!image.second) {
    image.second = Object.assign(image.element.cloneNode(), { decoding: "async" });
    image.secondLoading = true;
    image.second
      .decode()
      .catch(() => {})
      .then(() => {
        image.secondLoading = false;
        viewChanged();
      });
  }
  return image.second;
}

// One thumbnail after the other, so that the large photographs of a folder are not all decoded at once.
let thumbnails = Promise.resolve();

/** makeThumbnail sets the thumbnail of an image, a canvas, in a while. */
export function makeThumbnail(image) {
  thumbnails = thumbnails.then(() => state.images.includes(image) && !image.thumbnail && !image.unreadable && drawThumbnail(image, image.fromServer ? image.shown : image.blob));
}

async function drawThumbnail(image, blob = image.blob) {
  try {
    const bitmap = await createImageBitmap(blob, { resizeWidth: THUMBNAIL_WIDTH, resizeQuality: "medium" });
    image.thumbnail = el("canvas", { width: bitmap.width, height: bitmap.height });
    // Chromium does not apply the EXIF orientation to a bitmap that is transferred, so draw it.
    image.thumbnail.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  } catch {
    image.unreadable = !image.element;
  }
  viewChanged();
}
