// A pane shows a picture, or the camera, with its faces marked. Marks are SVG in
// CSS pixels, laid out anew for each zoom: lines and letters stay sharp and of one
// size whatever the zoom and the density of the screen.
import { box, el, percent, points, set, svg } from "./dom.js";

const MOST_SCALE = 12; // CSS pixels for a pixel of the picture
const STEP = 1.25;

export class Pane {
  /** on has select(index), hover(index) and view(pane, {zoom, x, y}). */
  constructor(on) {
    this.on = on;
    this.zoom = 1; // 1: all of it fits
    this.width = this.height = 0;
    this.mirrored = false;
    this.marks = [];
    this.shown = 0; // how many of the marks, which are sorted by confidence
    this.selected = this.hovered = -1;

    this.caption = el("figcaption");
    this.svg = svg("svg", { class: "marks", role: "group", "aria-label": "Faces in the picture" });
    this.tip = el("div", { className: "tip", hidden: true, "aria-hidden": "true" });
    this.frame = el("div", { className: "frame" }, this.svg, this.tip);
    this.viewport = el("div", { className: "viewport", tabIndex: 0, role: "region", "aria-label": "Picture. Plus and minus zoom, zero fits, arrow keys move." }, this.frame);
    this.root = el("figure", { className: "pane" }, this.caption, this.viewport);
    this.#listen();
  }

  /** show puts an img, video or canvas of that size on view, or a blank of it. */
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

  /** setFaces marks the faces, sorted by falling confidence; alone(face) tells those that the other model has not. */
  setFaces(list) {
    this.list = list;
    this.selected = this.hovered = -1;
    this.marks = list.map((face, i) => this.#mark(face, i));
    this.svg.replaceChildren(...this.marks.toReversed().map((m) => m.g)); // the surest on top
    this.shown = list.length;
    this.#place();
    this.#tip();
  }

  /** setShown shows the first n faces. */
  setShown(n) {
    this.shown = n;
    this.marks.forEach((m, i) => m.g.classList.toggle("gone", i >= n));
    if (this.selected >= n) this.select(-1);
    this.#roving();
    this.#tip();
  }

  /** setAlone dashes the boxes of those faces that the other model does not have. */
  setAlone(alone) {
    this.marks.forEach((m, i) => m.g.classList.toggle("alone", alone?.[i] ?? false));
  }

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

  hover(i) {
    this.marks[this.hovered]?.g.classList.remove("hovered");
    this.hovered = i;
    this.marks[i]?.g.classList.add("hovered");
    this.#tip();
  }

  setMirrored(yes) {
    this.mirrored = yes;
    this.frame.classList.toggle("mirrored", yes);
    this.#place();
    this.#tip();
  }

  /** zoomTo sets the zoom, around a place of the viewport, in CSS pixels. */
  zoomTo(zoom, at) {
    const { viewport } = this;
    at ??= { x: viewport.clientWidth / 2, y: viewport.clientHeight / 2 };
    const before = this.scale;
    const left = (viewport.scrollLeft + at.x - this.frame.offsetLeft) / before;
    const top = (viewport.scrollTop + at.y - this.frame.offsetTop) / before;
    this.zoom = Math.max(1, Math.min(zoom, MOST_SCALE / this.fit));
    this.layout();
    viewport.scrollLeft = left * this.scale + this.frame.offsetLeft - at.x;
    viewport.scrollTop = top * this.scale + this.frame.offsetTop - at.y;
    this.#moved();
  }

  zoomIn() {
    this.zoomTo(this.zoom * STEP * STEP);
  }

  zoomOut() {
    this.zoomTo(this.zoom / STEP / STEP);
  }

  /** follow takes over the view of another pane on the same picture. */
  follow({ zoom, x, y }) {
    if (zoom !== this.zoom) {
      this.zoom = zoom;
      this.layout();
    }
    this.viewport.scrollLeft = x * this.viewport.scrollWidth;
    this.viewport.scrollTop = y * this.viewport.scrollHeight;
  }

  layout() {
    const { viewport, frame } = this;
    if (!this.width || !viewport.clientWidth) return;
    // The outer size: scroll bars that come and go must not change it.
    this.fit = Math.min(viewport.offsetWidth / this.width, viewport.offsetHeight / this.height, 4);
    this.scale = this.fit * this.zoom;
    const w = Math.max(1, Math.floor(this.width * this.scale));
    const h = Math.max(1, Math.floor(this.height * this.scale));
    frame.style.width = w + "px";
    frame.style.height = h + "px";
    viewport.classList.toggle("zoomed", this.zoom > 1.001);
    this.media?.classList.toggle("pixels", this.scale * devicePixelRatio > 3);
    set(this.svg, { width: w, height: h });
    this.#place();
    this.#tip();
  }

  #x(x) {
    return (this.mirrored ? this.width - x : x) * this.scale;
  }

  /** #screen returns where a face's box is in the frame, in CSS pixels. */
  #screen(face) {
    const b = box(face);
    return { x: this.#x(this.mirrored ? b.x + b.width : b.x), y: b.y * this.scale, width: b.width * this.scale, height: b.height * this.scale };
  }

  #mark(face, i) {
    const g = svg("g", { class: "face", role: "button", tabindex: -1, "aria-pressed": "false", "aria-label": `Face ${i + 1} · ${percent(face.confidence)}` });
    const halo = svg("rect", { class: "halo" });
    const line = svg("rect", { class: "line" });
    const dots = points(face).map(() => svg("circle"));
    const plate = svg("rect", { class: "plate", rx: 4, height: 20 });
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
    g.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step) {
        this.marks[(i + step + this.shown) % this.shown]?.g.focus();
      } else if (event.key === "Enter" || event.key === " ") {
        this.on.select(this, i);
      } else {
        return;
      }
      event.preventDefault();
      event.stopPropagation();
    });
    return { face, g, halo, line, dots, plate, text, label };
  }

  #place() {
    if (!this.scale) return;
    this.marks.forEach(({ face, halo, line, dots, plate, text, label }, i) => {
      const b = this.#screen(face);
      const shape = { x: b.x.toFixed(2), y: b.y.toFixed(2), width: b.width.toFixed(2), height: b.height.toFixed(2), rx: Math.min(6, b.width / 8).toFixed(2) };
      set(halo, shape);
      set(line, shape);
      const r = Math.max(1.5, Math.min(4, b.width / 26));
      points(face).forEach(([, p], j) => set(dots[j], { cx: this.#x(p.x).toFixed(2), cy: (p.y * this.scale).toFixed(2), r: r.toFixed(2), "stroke-width": Math.min(1.5, r / 2).toFixed(2) }));
      // Small faces have room for a number, or for nothing.
      const words = b.width >= 76 ? `${i + 1} · ${percent(face.confidence)}` : `${i + 1}`;
      label.classList.toggle("small", b.width < 26);
      text.textContent = words;
      const width = words.length * 6.9 + 12;
      const x = Math.max(0, Math.min(b.x - 1, this.width * this.scale - width));
      const y = Math.max(1, b.y - 23);
      set(plate, { x, y, width });
      set(text, { x: x + width / 2, y: y + 14, "text-anchor": "middle" });
    });
  }

  #roving() {
    const current = this.selected >= 0 ? this.selected : 0;
    this.marks.forEach((m, i) => m.g.setAttribute("tabindex", i === current && i < this.shown ? 0 : -1));
  }

  /** #tip tells the numbers of the face that is pointed at, or selected. */
  #tip() {
    const i = this.hovered >= 0 ? this.hovered : this.selected;
    const mark = i < this.shown ? this.marks[i] : null;
    this.tip.hidden = !mark || !this.scale;
    if (this.tip.hidden) return;
    const b = box(mark.face);
    this.tip.replaceChildren(el("b", {}, `Face ${i + 1} · ${percent(mark.face.confidence)}`), el("span", {}, `${b.width} × ${b.height} px at ${b.x}, ${b.y}`));
    const on = this.#screen(mark.face);
    const below = on.y + on.height + 8;
    const room = this.height * this.scale - below > 52;
    this.tip.style.left = Math.max(0, Math.min(on.x, this.width * this.scale - 190)) + "px";
    this.tip.style.top = (room ? below : Math.max(0, on.y + on.height - 58)) + "px";
  }

  /** #reveal scrolls to a face that is out of sight. */
  #reveal(face) {
    const b = this.#screen(face);
    const { viewport: v } = this;
    const inside = b.x >= v.scrollLeft && b.y >= v.scrollTop && b.x + b.width <= v.scrollLeft + v.clientWidth && b.y + b.height <= v.scrollTop + v.clientHeight;
    if (inside || this.zoom <= 1.001) return;
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
    v.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // pinching on a trackpad says ctrl
        event.preventDefault();
        this.zoomTo(this.zoom * Math.exp(-event.deltaY / 180), this.#at(event));
      },
      { passive: false },
    );
    v.addEventListener("dblclick", (event) => this.zoomTo(this.zoom > 1.001 ? 1 : 3, this.#at(event)));
    v.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "+" || event.key === "=") this.zoomIn();
      else if (event.key === "-") this.zoomOut();
      else if (event.key === "0") this.zoomTo(1);
      else return;
      event.preventDefault();
    });
    // A mouse drags; fingers scroll by themselves.
    v.addEventListener("pointerdown", (event) => {
      this.dragged = false;
      if (event.pointerType !== "mouse" || event.button !== 0 || this.zoom <= 1.001) return;
      const start = { x: event.clientX + v.scrollLeft, y: event.clientY + v.scrollTop };
      const move = (e) => {
        if (Math.hypot(start.x - e.clientX - v.scrollLeft, start.y - e.clientY - v.scrollTop) > 3) this.dragged = true;
        v.scrollLeft = start.x - e.clientX;
        v.scrollTop = start.y - e.clientY;
      };
      addEventListener("pointermove", move);
      addEventListener("pointerup", () => removeEventListener("pointermove", move), { once: true });
    });
    let pinch = null;
    const spread = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    v.addEventListener("touchstart", (event) => {
      pinch = event.touches.length === 2 ? { from: spread(event.touches), zoom: this.zoom } : null;
    }, { passive: true });
    v.addEventListener(
      "touchmove",
      (event) => {
        if (!pinch || event.touches.length !== 2) return;
        event.preventDefault();
        const [a, b] = event.touches;
        this.zoomTo((pinch.zoom * spread(event.touches)) / pinch.from, this.#at({ clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 }));
      },
      { passive: false },
    );
  }

  #at(event) {
    const r = this.viewport.getBoundingClientRect();
    return { x: event.clientX - r.left, y: event.clientY - r.top };
  }
}
