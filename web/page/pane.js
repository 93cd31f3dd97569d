// A pane shows an image, or the camera, with its faces marked. Marks are SVG in CSS pixels and
// are laid out again for each zoom, so that lines and letters stay sharp and keep their size.
import { el, setAttributes, svg } from "./dom.js";
import { box, landmarks } from "./faces.js";
import { percent } from "./format.js";
import { isUnsure, labelText } from "./marks.js";

const MAX_SCALE = 12; // CSS pixels for a pixel of the image
const ZOOM_STEP = 1.25 ** 2;
const MAGNIFIED = 3; // the zoom of a double click
const FACE_PART = 0.4; // of the pane's shorter side, which a face takes after a double click
const DOUBLE_TAP = 350; // milliseconds between two taps, and
const TAP_RADIUS = 30; // CSS pixels between them, at most
const MIN_ZOOMED = 1.001; // a zoom from which the image is larger than the pane

export class Pane {
  /**
   * The pane calls on.select(pane, index) and on.hover(pane, index), where -1 is no face, and
   * on.view(pane, {zoom, x, y}) when it was zoomed or scrolled: see follow.
   */
  constructor(on) {
    this.on = on;
    this.zoom = 1; // at 1 the whole image fits
    this.width = this.height = 0;
    this.mirrored = false;
    this.marks = [];
    this.shown = 0; // the number of marks shown; they are sorted by falling confidence
    this.selected = this.hovered = -1;
    this.roving = -1; // the face that Tab reaches
    this.isMatched = false; // whether the faces are compared with those of another model
    this.tap = null; // the last tap: {time, x, y}
    this.doubleTapped = -Infinity; // when

    this.caption = el("figcaption");
    this.svg = svg("svg", { class: "marks", role: "group", "aria-label": "Faces in the image" });
    this.tip = el("div", { className: "tip", hidden: true, "aria-hidden": "true" });
    this.frame = el("div", { className: "frame" }, this.svg, this.tip);
    this.viewport = el("div", { className: "viewport", tabIndex: 0, role: "region", "aria-label": viewportLabel("") }, this.frame);
    this.root = el("figure", { className: "pane" }, this.caption, this.viewport);
    this.#listen();
  }

  /** setCaption names the model whose faces the pane shows, or none if it is "". */
  setCaption(model) {
    this.caption.textContent = model;
    this.viewport.setAttribute("aria-label", viewportLabel(model));
  }

  /** show displays an <img> or <video>, or a blank area if media is null, of a size in pixels of the image. A width of 0 displays nothing. */
  show(media, width, height) {
    if (this.media !== media) {
      this.media?.remove();
      this.media = media;
      if (media) this.frame.prepend(media);
    }
    this.frame.hidden = !width;
    this.frame.classList.toggle("blank", !media);
    if (width !== this.width || height !== this.height) {
      [this.width, this.height, this.zoom] = [width, height, 1];
    }
    this.layout();
  }

  /** setFaces marks faces, which are sorted by falling confidence, and shows all of them. */
  setFaces(faces) {
    this.selected = this.hovered = -1;
    this.marks = faces.map((face, i) => this.#mark(face, i));
    this.svg.replaceChildren(...this.marks.toReversed().map((m) => m.g)); // the highest confidence on top
    this.shown = faces.length;
    this.isMatched = false;
    this.roving = -1;
    this.#roving();
    this.#place();
    this.#tip();
  }

  /** setShown shows the first n faces. */
  setShown(n) {
    // The slider calls this for each frame, so touch only what changes.
    for (let i = Math.min(n, this.shown); i < Math.max(n, this.shown); i++) this.marks[i].g.classList.toggle("gone", i >= n);
    this.shown = n;
    if (this.selected >= n) this.select(-1);
    this.#roving();
    this.#tip();
  }

  /** setUnmatched dashes the boxes of the faces that the other model did not find, and dims others: unmatched and dimmed have a boolean for each face, or are null. */
  setUnmatched(unmatched, dimmed) {
    if (!unmatched && !dimmed && !this.isMatched) return;
    this.isMatched = Boolean(unmatched);
    this.marks.forEach((m, i) => {
      m.g.classList.toggle("alone", unmatched?.[i] ?? false);
      m.g.classList.toggle("dimmed", dimmed?.[i] ?? false);
    });
  }

  /** select marks a face as selected and scrolls to it; -1 selects none. */
  select(i) {
    this.marks[this.selected]?.g.classList.remove("selected");
    this.selected = i;
    const mark = this.marks[i];
    if (mark) {
      mark.g.classList.add("selected");
      this.#reveal(mark.face);
    }
    this.marks.forEach((m, j) => m.g.setAttribute("aria-pressed", String(j === i)));
    this.#roving();
    this.#tip();
  }

  /** hover marks the face that the user points at; -1 is none. */
  hover(i) {
    this.marks[this.hovered]?.g.classList.remove("hovered");
    this.hovered = i;
    this.marks[i]?.g.classList.add("hovered");
    this.#tip();
  }

  /** setMirrored flips the image and its marks, but not their texts. */
  setMirrored(mirrored) {
    this.mirrored = mirrored;
    this.frame.classList.toggle("mirrored", mirrored);
    this.#place();
    this.#tip();
  }

  /** zoomTo sets the zoom, and keeps the point at of the viewport, in CSS pixels, where it is. By default that is the center. */
  zoomTo(zoom, at) {
    const { viewport } = this;
    at ??= { x: viewport.clientWidth / 2, y: viewport.clientHeight / 2 };
    const before = this.scale;
    const left = (viewport.scrollLeft + at.x - this.frame.offsetLeft) / before;
    const top = (viewport.scrollTop + at.y - this.frame.offsetTop) / before;
    this.zoom = Math.max(1, Math.min(zoom, MAX_SCALE / this.fit));
    this.layout();
    viewport.scrollLeft = left * this.scale + this.frame.offsetLeft - at.x;
    viewport.scrollTop = top * this.scale + this.frame.offsetTop - at.y;
    this.#moved();
  }

  /** zoomIn keeps the selected face in the center, or the middle of all faces if none is selected and the whole image is on view. */
  zoomIn() {
    const zoom = this.zoom * ZOOM_STEP;
    const focus = this.#focus();
    if (focus) this.#zoomOn(focus, zoom);
    else this.zoomTo(zoom);
  }

  zoomOut() {
    this.zoomTo(this.zoom / ZOOM_STEP);
  }

  // #zoomOn sets the zoom, and puts a point of the image, as it is displayed, in the center.
  #zoomOn({ x, y }, zoom) {
    const { viewport: v, frame } = this;
    this.zoom = Math.max(1, Math.min(zoom, MAX_SCALE / this.fit));
    this.layout();
    v.scrollLeft = x * this.scale + frame.offsetLeft - v.clientWidth / 2;
    v.scrollTop = y * this.scale + frame.offsetTop - v.clientHeight / 2;
    this.#moved();
  }

  // #focus returns the point to zoom in on, or null to keep what is in the center.
  #focus() {
    const selected = this.marks[this.selected];
    if (!selected && this.zoom > MIN_ZOOMED) return null;
    const boxes = (selected ? [selected] : this.marks.slice(0, this.shown)).map(({ face }) => this.#boxInFrame(face));
    if (!boxes.length) return null;
    const middle = (start, size) => (Math.min(...boxes.map((b) => b[start])) + Math.max(...boxes.map((b) => b[start] + b[size]))) / 2 / this.scale;
    return { x: middle("x", "width"), y: middle("y", "height") };
  }

  // #magnify zooms in on the face at an event, or on the place if there is no face, and out again.
  #magnify(event) {
    const i = this.marks.findIndex(({ g }) => g.contains(event.target));
    if (this.zoom > MIN_ZOOMED) {
      this.zoomTo(1);
    } else if (i < 0) {
      this.zoomTo(MAGNIFIED, this.#at(event));
    } else {
      if (this.selected !== i) this.on.select(this, i);
      const { width, height } = box(this.marks[i].face);
      const { clientWidth, clientHeight } = this.viewport;
      this.#zoomOn(this.#focus(), Math.max(ZOOM_STEP, (FACE_PART * Math.min(clientWidth, clientHeight)) / Math.max(width, height) / this.fit));
    }
  }

  /** follow adopts the view of another pane that shows the same image. x and y are the scroll positions as parts of the scrolled size. */
  follow({ zoom, x, y }) {
    if (zoom !== this.zoom) {
      this.zoom = zoom;
      this.layout();
    }
    this.viewport.scrollLeft = x * this.viewport.scrollWidth;
    this.viewport.scrollTop = y * this.viewport.scrollHeight;
  }

  /** layout fits the image into the pane at the present zoom. */
  layout() {
    const { viewport, frame } = this;
    if (!this.width || !viewport.clientWidth) return;
    // Measure the outer size, which does not change when scroll bars appear.
    this.fit = Math.min(viewport.offsetWidth / this.width, viewport.offsetHeight / this.height, 4);
    this.scale = this.fit * this.zoom;
    const w = Math.max(1, Math.floor(this.width * this.scale));
    const h = Math.max(1, Math.floor(this.height * this.scale));
    frame.style.width = w + "px";
    frame.style.height = h + "px";
    viewport.classList.toggle("zoomed", this.zoom > MIN_ZOOMED);
    this.media?.classList.toggle("pixels", this.scale * devicePixelRatio > 3);
    setAttributes(this.svg, { width: w, height: h });
    this.#place();
    this.#tip();
  }

  #x(x) {
    return (this.mirrored ? this.width - x : x) * this.scale;
  }

  /** #boxInFrame returns the box of a face in CSS pixels of the frame. */
  #boxInFrame(face) {
    const b = box(face);
    return { x: this.#x(this.mirrored ? b.x + b.width : b.x), y: b.y * this.scale, width: b.width * this.scale, height: b.height * this.scale };
  }

  #mark(face, i) {
    const g = svg("g", { class: isUnsure(face) ? "face unsure" : "face", role: "button", tabindex: -1, "aria-pressed": "false", "aria-label": `Face ${i + 1} · ${percent(face.confidence)}` });
    const halo = svg("rect", { class: "halo" });
    const line = svg("rect", { class: "line" });
    const dots = landmarks(face).map(([key]) => svg("circle", { class: key }));
    const plate = svg("rect", { class: "plate", rx: 6, height: 20 });
    const text = svg("text", { class: "text" });
    const label = svg("g", { class: "label" }, plate, text);
    g.append(halo, line, svg("g", { class: "points" }, ...dots), label);
    g.addEventListener("click", (event) => {
      if (this.dragged) return;
      event.stopPropagation();
      this.on.select(this, i);
    });
    g.addEventListener("pointerenter", () => this.on.hover(this, i));
    g.addEventListener("pointerleave", () => this.on.hover(this, -1));
    g.addEventListener("focus", () => this.on.hover(this, i));
    g.addEventListener("blur", () => this.on.hover(this, -1));
    g.addEventListener("keydown", (event) => this.#moveByKey(event, i));
    return { face, g, halo, line, dots, plate, text, label };
  }

  #moveByKey(event, i) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) this.marks[(i + step + this.shown) % this.shown]?.g.focus();
    else if (event.key === "Enter" || event.key === " ") this.on.select(this, i);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #place() {
    if (!this.scale) return;
    this.marks.forEach(({ face, halo, line, dots, plate, text, label }, i) => {
      const b = this.#boxInFrame(face);
      const shape = { x: b.x.toFixed(2), y: b.y.toFixed(2), width: b.width.toFixed(2), height: b.height.toFixed(2), rx: Math.min(6, b.width / 8).toFixed(2) };
      setAttributes(halo, shape);
      setAttributes(line, shape);
      const r = Math.max(1.5, Math.min(4, b.width / 26));
      landmarks(face).forEach(([, p], j) => setAttributes(dots[j], { cx: this.#x(p.x).toFixed(2), cy: (p.y * this.scale).toFixed(2), r: r.toFixed(2), "stroke-width": Math.min(1.5, r / 2).toFixed(2) }));
      // Small faces have room for a number only, or for nothing.
      const words = b.width >= 76 ? `${i + 1} · ${labelText(face.confidence)}` : `${i + 1}`;
      label.classList.toggle("small", b.width < 26);
      text.textContent = words;
      const width = words.length * 6.9 + 12;
      const x = Math.max(0, Math.min(b.x - 1, this.width * this.scale - width));
      const y = Math.max(1, b.y - 23);
      setAttributes(plate, { x, y, width });
      setAttributes(text, { x: x + width / 2, y: y + 14, "text-anchor": "middle" });
    });
  }

  // #roving makes the selected face, or else the first one, the one that Tab reaches.
  #roving() {
    const current = this.shown ? Math.max(0, this.selected) : -1;
    if (current === this.roving) return;
    this.marks[this.roving]?.g.setAttribute("tabindex", -1);
    this.marks[current]?.g.setAttribute("tabindex", 0);
    this.roving = current;
  }

  // #tip shows the numbers of the face that the user points at, or has selected.
  #tip() {
    const i = this.hovered >= 0 ? this.hovered : this.selected;
    const mark = i < this.shown ? this.marks[i] : null;
    this.tip.hidden = !mark || !this.scale;
    if (this.tip.hidden) return;
    const b = box(mark.face);
    this.tip.replaceChildren(el("b", {}, `Face ${i + 1} · ${percent(mark.face.confidence)}`), el("span", {}, `${b.width} × ${b.height} px at ${b.x}, ${b.y}`));
    const drawn = this.#boxInFrame(mark.face);
    const below = drawn.y + drawn.height + 8;
    const hasRoom = this.height * this.scale - below > 52;
    this.tip.style.left = Math.max(0, Math.min(drawn.x, this.width * this.scale - 190)) + "px";
    this.tip.style.top = (hasRoom ? below : Math.max(0, drawn.y + drawn.height - 58)) + "px";
  }

  // #reveal scrolls to a face that is out of sight.
  #reveal(face) {
    const b = this.#boxInFrame(face);
    const { viewport: v } = this;
    const inside = b.x >= v.scrollLeft && b.y >= v.scrollTop && b.x + b.width <= v.scrollLeft + v.clientWidth && b.y + b.height <= v.scrollTop + v.clientHeight;
    if (inside || this.zoom <= MIN_ZOOMED) return;
    v.scrollLeft = b.x + b.width / 2 - v.clientWidth / 2;
    v.scrollTop = b.y + b.height / 2 - v.clientHeight / 2;
  }

  #moved() {
    const v = this.viewport;
    this.on.view(this, { zoom: this.zoom, x: v.scrollLeft / v.scrollWidth, y: v.scrollTop / v.scrollHeight });
  }

  #listen() {
    const v = this.viewport;
    new ResizeObserver(() => this.layout()).observe(v);
    v.addEventListener("scroll", () => this.#moved(), { passive: true });
    v.addEventListener("click", () => this.dragged || this.on.select(this, -1));
    v.addEventListener("dblclick", (event) => event.timeStamp - this.doubleTapped > 2 * DOUBLE_TAP && this.#magnify(event));
    v.addEventListener("pointerup", (event) => this.#tap(event));
    v.addEventListener("wheel", (event) => this.#zoomByWheel(event), { passive: false });
    v.addEventListener("keydown", (event) => this.#zoomByKey(event));
    v.addEventListener("pointerdown", (event) => this.#drag(event));
    this.#listenToPinches();
  }

  // #tap finds double taps, for which not every browser has an event.
  #tap({ pointerType, timeStamp, clientX, clientY, target }) {
    if (pointerType !== "touch") return;
    const last = this.tap;
    this.tap = { time: timeStamp, x: clientX, y: clientY };
    if (!last || timeStamp - last.time > DOUBLE_TAP || Math.hypot(clientX - last.x, clientY - last.y) > TAP_RADIUS) return;
    this.tap = null;
    this.doubleTapped = timeStamp;
    this.dragged = true; // the click that follows selects nothing
    this.#magnify({ clientX, clientY, target });
  }

  // #zoomByWheel leaves the wheel to the page where there is nothing to zoom: out of the whole
  // image, and into it while the page is scrolled.
  #zoomByWheel(event) {
    const isPinch = event.ctrlKey || event.metaKey; // a pinch on a trackpad is a wheel with Ctrl
    const isSideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    const isForPage = this.zoom <= MIN_ZOOMED && (event.deltaY > 0 || scrollY > 0);
    if (!isPinch && (isSideways || isForPage)) return;
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1);
    this.zoomTo(this.zoom * Math.exp(-pixels / (isPinch ? 180 : 400)), this.#at(event));
  }

  #zoomByKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "+" || event.key === "=") this.zoomIn();
    else if (event.key === "-") this.zoomOut();
    else if (event.key === "0") this.zoomTo(1);
    else return;
    event.preventDefault();
  }

  // #drag scrolls with the mouse; browsers scroll by touch themselves.
  #drag(event) {
    const v = this.viewport;
    this.dragged = false;
    if (event.pointerType !== "mouse" || event.button !== 0 || this.zoom <= MIN_ZOOMED) return;
    const start = { x: event.clientX + v.scrollLeft, y: event.clientY + v.scrollTop };
    const move = (e) => {
      if (Math.hypot(start.x - e.clientX - v.scrollLeft, start.y - e.clientY - v.scrollTop) > 3) this.dragged = true;
      v.scrollLeft = start.x - e.clientX;
      v.scrollTop = start.y - e.clientY;
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", () => removeEventListener("pointermove", move), { once: true });
  }

  #listenToPinches() {
    let pinch = null; // the distance of the fingers and the zoom at the start
    const distance = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    const start = ({ touches }) => {
      pinch = touches.length === 2 ? { distance: distance(touches), zoom: this.zoom } : null;
    };
    const move = (event) => {
      if (!pinch || event.touches.length !== 2) return;
      event.preventDefault();
      const [a, b] = event.touches;
      this.zoomTo((pinch.zoom * distance(event.touches)) / pinch.distance, this.#at({ clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 }));
    };
    this.viewport.addEventListener("touchstart", start, { passive: true });
    this.viewport.addEventListener("touchmove", move, { passive: false });
  }

  // #at returns where an event is in the viewport, in CSS pixels.
  #at(event) {
    const r = this.viewport.getBoundingClientRect();
    return { x: event.clientX - r.left, y: event.clientY - r.top };
  }
}

const viewportLabel = (model) => `Image${model && ", " + model}. Plus and minus zoom, zero fits, arrow keys move.`;
