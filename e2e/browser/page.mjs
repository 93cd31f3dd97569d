// Uses the server's page as a person does.
//
// Standard input is JSON: {"scenario": one of those below, "url": the server's URL, "files":
// paths of images by name, "out": a folder for downloads and screenshots, "camera": a file of
// frames for a fake camera, or absent}, and arguments of the scenario. Standard output is what
// the scenario returns, in JSON. A scenario throws when the page does not behave as expected;
// the state of all open pages is then written to standard error.
//
// How a scenario waits: from the moment that the page is given something until all of it is
// answered and drawn, aria-busy is true. shows() waits for the end of that, and for the expected
// content, all read in one moment; nothing is read before. Other waits are for a state that
// stays, never for one that passes or for an amount of time.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import http from "node:http";
import http2 from "node:http2";
import { connect, createServer } from "node:net";
import { createRequire } from "node:module";
import path from "node:path";
import { text } from "node:stream/consumers";
import { launch, patience, slow } from "./chromium.mjs";

const task = JSON.parse(await text(process.stdin));
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const camera = task.camera ? ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", `--use-file-for-fake-video-capture=${task.camera}`] : [];
// The name faces.test is this machine's, and unlike localhost it is one that browsers do not trust.
const names = ["--host-resolver-rules=MAP faces.test 127.0.0.1"];
const browser = await launch(...camera, ...names);

const pages = []; // every page that was opened

/** visit opens the page, by default with the sample of one face, and returns it. page.seen has the console's messages, errors, requests to other origins and the number of calls. */
async function visit(options = {}, address = task.url, path = "/?sample=sample") {
  const context = await browser.newContext({ viewport: { width: 1360, height: 860 }, ignoreHTTPSErrors: true, ...options });
  context.setDefaultTimeout(patience);
  const page = await context.newPage();
  const seen = { console: [], errors: [], foreign: [], calls: 0 };
  page.on("console", (m) => seen.console.push(`${m.type()}: ${m.text()}`));
  page.on("pageerror", (e) => seen.errors.push(e.stack));
  page.on("request", (r) => {
    const u = new URL(r.url());
    if (u.protocol.startsWith("http") && u.origin !== new URL(address).origin) seen.foreign.push(r.url());
    if (u.pathname.endsWith("/Predict")) seen.calls++;
  });
  page.seen = seen;
  pages.push(page);
  await page.addInitScript(recordAnnouncements);
  await slow(page);
  await page.goto(address + path);
  return page;
}

/** checkQuiet fails if the console has messages that are not allowed, if the page threw, or if a request went to another origin. */
async function checkQuiet(page, ...allowed) {
  assert.deepEqual(page.seen.console.filter((line) => !allowed.some((a) => line.includes(a))), [], "the console has messages");
  assert.deepEqual(page.seen.errors, [], "the page threw");
  assert.deepEqual(page.seen.foreign, [], "requests left the origin");
}

/** state runs in a page and describes it. shows() checks the first three. */
const state = () => {
  const text = (selector) => document.querySelector(selector)?.textContent ?? null;
  const value = (selector) => document.querySelector(selector)?.value ?? null;
  return {
    settled: document.querySelector("#panes")?.getAttribute("aria-busy") === "false",
    count: text("#count"),
    about: text("#about"),
    message: text("#message"),
    announced: window.announcements?.slice(-5),
    gallery: document.querySelector("#gallery")?.hidden ? null : text("#gallery-title"),
    badges: [...document.querySelectorAll(".badge b")].map((b) => b.textContent).join(" "),
    options: ["#model", "#compare", "#smallest", "#confidence"].map(value).join(", "),
    saved: text("#save-note"),
    busy: [...document.querySelectorAll('[aria-busy="true"]')].map((e) => e.id || e.className),
    focus: document.activeElement?.outerHTML.slice(0, 120),
  };
};

/** describe describes a page for the message of a failure. */
async function describe(page) {
  const inside = await Promise.race([page.evaluate(state).catch((e) => String(e)), new Promise((resolve) => setTimeout(resolve, 10_000, "the page does not respond"))]);
  return JSON.stringify({ url: page.url(), ...(typeof inside === "string" ? { inside } : inside), ...page.seen }, null, 1);
}

/** until waits until a condition holds in the page. what names the condition in the error. */
const until = (page, condition, arg, what) =>
  page.waitForFunction(condition, arg, { timeout: patience }).catch((error) => {
    throw new Error(`the page does not ${what ?? `reach ${condition}`}: ${error.message}`);
  });

/**
 * shows waits until the view is complete, the count of faces is n, and the line below it has the
 * words: the name of the image, the model. From then on nothing changes by itself.
 */
const shows = (page, n, ...words) =>
  until(
    page,
    ([want, parts]) => {
      const about = document.querySelector("#about").textContent;
      return document.querySelector("#panes").getAttribute("aria-busy") === "false" && [...document.querySelectorAll("#count .n")].map((n) => n.textContent).join(" | ") === want && parts.every((part) => about.includes(part));
    },
    [String(n), words],
    `show ${n} faces of ${words.join(", ")}`,
  );

/** settled waits until the view, the gallery and their small images are complete, whatever they show. */
const settled = (page) => until(page, () => !document.querySelector('[aria-busy="true"]'), null, "settle");

/** collected waits until the gallery is complete and has the title. */
const collected = (page, title) =>
  until(page, (want) => document.querySelector("#thumbs").getAttribute("aria-busy") === "false" && document.querySelector("#gallery-title").textContent === want, title, `have ${title} in the gallery`);

/** says waits until the visible text of an element matches. */
async function says(page, selector, pattern) {
  await until(page, ([where, source, flags]) => new RegExp(source, flags).test(document.querySelector(where)?.innerText), [selector, pattern.source, pattern.flags], `have ${pattern} in ${selector}`);
}

/** recordAnnouncements runs in a page and keeps its announcements, each of which may be replaced at once. */
const recordAnnouncements = () => {
  window.announcements = [];
  document.addEventListener("DOMContentLoaded", () => {
    const node = document.querySelector("#announce");
    new MutationObserver(() => window.announcements.push(node.textContent)).observe(node, { childList: true });
  });
};

/** announced waits until the page has announced the words, after the announcement of the previous wait. */
const announced = (page, words) =>
  until(
    page,
    (w) => {
      const at = window.announcements.findIndex((text) => text.includes(w));
      if (at >= 0) window.announcements.splice(0, at + 1);
      return at >= 0;
    },
    words,
    `announce ${words}`,
  );

/** accessible fails if axe finds a violation of WCAG 2 A or AA, or of its best practices. */
async function accessible(page, state) {
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  assert.ok(passes.length > 15, `axe checked only ${passes.length} rules`);
  const found = violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join("; ")}`);
  assert.deepEqual(found, [], `axe finds violations, ${state}`);
}

/** boxes returns the boxes of the faces shown, as they are drawn, in pixels of the image. */
const boxes = (page, pane = 0) =>
  page.locator(".pane").nth(pane).evaluate((root) => {
    const frame = root.querySelector(".frame");
    const media = frame.querySelector("img, video");
    const width = media.naturalWidth ?? media.videoWidth;
    const scale = frame.clientWidth / width;
    return [...root.querySelectorAll(".face:not(.gone)")].reverse().map((g) => {
      const line = g.querySelector(".line");
      const at = (name) => Number(line.getAttribute(name)) / scale;
      return { x: at("x"), y: at("y"), width: at("width"), height: at("height") };
    });
  });

async function download(page, selector, prefix = "") {
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
  const to = path.join(task.out, prefix + file.suggestedFilename());
  await file.saveAs(to);
  await page.locator(`${selector}:not([aria-busy])`).waitFor(); // then its note is there
  return to;
}

/**
 * downloadHidden saves the image with its faces hidden in a style, and answers the page's question
 * if there is one. It returns {file, asked}, where asked is the text of the question, or "".
 */
async function downloadHidden(page, style, { prefix = "", answer = "Save anyway" } = {}) {
  await page.check(`input[name=hide][value=${style}]`);
  const saved = page.waitForEvent("download");
  await page.click("#save-hidden");
  const dialog = page.locator("dialog[open]");
  let asked = "";
  if ((await Promise.race([saved, dialog.waitFor().then(() => "asked", () => "")])) === "asked") {
    asked = await dialog.innerText();
    await dialog.getByRole("button", { name: answer }).click();
  }
  const file = await saved;
  const to = path.join(task.out, prefix + file.suggestedFilename().replace("-hidden", "-" + style));
  await file.saveAs(to);
  await page.locator("#save-hidden:not([aria-busy])").waitFor();
  return { file: to, asked };
}

/** proxyWith starts a proxy to the server that answers Predict itself: with the faces that answer(image, options) returns, or with an error if that is null. */
async function proxyWith(answer) {
  const server = http.createServer(async (request, response) => {
    if (!request.url.endsWith("/Predict")) {
      const forwarded = http.request(task.url + request.url, { method: request.method, headers: { ...request.headers, host: new URL(task.url).host } }, (reply) => {
        response.writeHead(reply.statusCode, reply.headers);
        reply.pipe(response);
      });
      request.pipe(forwarded);
      return;
    }
    const { rawData, options } = JSON.parse(await text(request));
    const results = await answer(Buffer.from(rawData, "base64"), options);
    response.writeHead(results ? 200 : 503, { "Content-Type": "application/json" });
    response.end(JSON.stringify(results ? { results, model: options.model, timing: {} } : { code: "unavailable", message: "no answer" }));
  });
  server.unref();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${server.address().port}`;
}

/** faceAt returns a face as the server describes it. */
const faceAt = ([x, y, width, height], confidence) => ({ box: { upLeft: { x, y }, lowerRight: { x: x + width, y: y + height } }, confidence });

const setThreshold = (page, value) =>
  page.locator("#confidence").evaluate((input, v) => {
    input.value = v;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }, value);

/** filesInPage makes a DataTransfer with files, in the page, to drop or paste them there. */
const filesInPage = async (page, ...paths) => {
  const files = await Promise.all(paths.map(async (p) => ({ name: path.basename(p), data: (await readFile(p)).toString("base64") })));
  return page.evaluateHandle((list) => {
    const transfer = new DataTransfer();
    for (const { name, data } of list) transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type: "image/jpeg" }));
    return transfer;
  }, files);
};

/** opened visits the page and waits until it shows the sample of one face. */
async function opened(options) {
  const page = await visit(options);
  await shows(page, 1, "sample.jpg");
  return page;
}

const near = (got, want, tolerance, what) => assert.ok(Math.abs(got - want) <= tolerance, `${what}: ${got}, want ${want}`);

/** watchFrames starts to measure the time between the page's frames, which frames() ends. */
const watchFrames = (page) =>
  page.evaluate(() => {
    window.gaps = [];
    let last = performance.now();
    const tick = (now) => {
      window.gaps.push(now - last);
      last = now;
      window.watching = requestAnimationFrame(tick);
    };
    window.watching = requestAnimationFrame(tick);
  });

const frames = (page) =>
  page.evaluate(() => {
    cancelAnimationFrame(window.watching);
    const sorted = window.gaps.slice(1).sort((a, b) => a - b);
    return { frames: sorted.length, median: sorted[sorted.length >> 1], p95: sorted[Math.floor(sorted.length * 0.95)], longest: sorted.at(-1) };
  });

/** slide moves the slider over its range four times, a step for each frame. It returns the milliseconds between frames, and those that the page's thread works for one. */
async function slide(page) {
  await settled(page);
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" }); // the time of the processor, whatever else it does
  const busy = async () => (await session.send("Performance.getMetrics")).metrics.find((m) => m.name === "TaskDuration").value * 1000;
  const before = await busy();
  await watchFrames(page);
  await page.evaluate(async () => {
    const input = document.querySelector("#confidence");
    for (let i = 0; i < 180; i++) {
      input.value = 0.05 + 0.95 * Math.abs(((i / 45) % 2) - 1);
      input.dispatchEvent(new Event("input", { bubbles: true }));
      await new Promise(requestAnimationFrame);
    }
  });
  const gaps = await frames(page);
  return { ...gaps, work: ((await busy()) - before) / gaps.frames };
}

/** tunnel forwards connections from a port of its own to the server, until cut() closes them all, and again after join(). */
async function tunnel(to) {
  const ends = new Set();
  const server = createServer((near) => {
    const far = connect(Number(to.port), to.hostname);
    for (const [end, other] of [[near, far], [far, near]]) {
      ends.add(end);
      end.on("error", () => {}).on("close", () => (ends.delete(end), other.destroy()));
    }
    near.pipe(far).pipe(near);
  });
  const listen = async (port) => {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return server.address().port;
  };
  server.unref(); // so that a scenario that fails ends
  const port = await listen(0);
  return {
    url: `http://127.0.0.1:${port}`,
    async cut() {
      const closed = once(server, "close");
      server.close();
      for (const end of ends) end.destroy();
      await closed;
    },
    join: () => listen(port),
  };
}

/** occupy opens a stream and returns after the server's first answer. end() ends the stream and returns its status. */
async function occupy() {
  const session = http2.connect(task.url);
  session.unref(); // so that a scenario that fails ends
  const call = session.request({ ":method": "POST", ":path": "/inference.v1.Inference/PredictStream", "content-type": "application/connect+json" });
  const status = once(call, "response").then(([headers]) => headers[":status"]);
  const message = Buffer.from(JSON.stringify({ rawData: (await readFile(task.files.sample)).toString("base64") }));
  const head = Buffer.alloc(5); // the flags and the length
  head.writeUInt32BE(message.length, 1);
  call.write(Buffer.concat([head, message]));
  await once(call, "data");
  return {
    async end() {
      const ended = once(call, "end");
      call.end();
      call.resume();
      await ended;
      session.close();
      return status;
    },
  };
}

const scenarios = {
  // The page shows the faces of a group without a click, and the sample's face where the server finds it.
  async opens() {
    const page = await visit({}, task.url, "/");
    await shows(page, 3, "group.jpg");
    assert.equal(await page.evaluate(() => location.search), "");
    const samples = page.locator("#samples");
    await samples.getByRole("button", { name: "Hard" }).click();
    await until(page, () => Number(document.querySelector("#count .n").textContent) > 6 && document.querySelector("#about").textContent.startsWith("hard.jpg"), null, "show the hard sample");
    assert.equal(await samples.locator("[aria-pressed=true]").innerText(), "Hard");
    await says(page, "#code", /page\/hard\.jpg/);
    await page.waitForURL("**/?sample=hard");
    await page.reload();
    await until(page, () => document.querySelector("#about").textContent.startsWith("hard.jpg"), null, "show the sample of the address");
    await samples.getByRole("button", { name: "One face" }).click();
    await shows(page, 1, "sample.jpg");
    assert.equal(await page.locator("#gallery").isHidden(), true, "a sample does not give way to another");
    assert.equal(await page.title(), "Mien: where are the faces?");
    const raw = (await readFile(task.files.sample)).toString("base64");
    const answer = await (await page.request.post(task.url + "/inference.v1.Inference/Predict", { data: { rawData: raw } })).json();
    const [drawn] = await boxes(page);
    const { upLeft, lowerRight } = answer.results[0].box;
    near(drawn.x, upLeft.x, 0.6, "x");
    near(drawn.y, upLeft.y, 0.6, "y");
    near(drawn.width, lowerRight.x - upLeft.x, 0.6, "width");
    near(drawn.height, lowerRight.y - upLeft.y, 0.6, "height");
    assert.equal(await page.locator(".face .points circle").count(), 5);
    await announced(page, "1 face with a confidence of at least");
    // The parts of the time are folded behind the total.
    await says(page, "#time-details", /^Time\s+[\d.]+ m?s$/);
    await page.click("#time-details summary");
    assert.deepEqual(await page.locator("#time dt").allInnerTexts(), ["Encode", "Transfer", "Queue", "Decode", "Detect"]);
    for (const href of ["/openapi.yaml", "/readyz"]) {
      assert.equal(await page.locator(`footer a[href="${href}"]`).count(), 1);
      assert.equal((await page.request.get(task.url + href)).status(), 200);
    }
    assert.match(await page.locator("footer").innerText(), /Mien \d+\.\d+\.\d+/);
    assert.equal(await page.locator('footer a[href$="#readme"]').count(), 1);
    await checkQuiet(page);
    return {};
  },

  // What the user opens while the sample is on its way stays on view.
  async early() {
    const page = await opened();
    let release;
    const released = new Promise((resolve) => (release = resolve));
    await page.route("**/page/sample.jpg", (route) => released.then(() => route.continue()));
    await page.reload({ waitUntil: "domcontentloaded" });
    await page.setInputFiles("#files", task.files.people);
    await page.locator("#about", { hasText: "peoples.jpg" }).waitFor();
    const arrived = page.waitForResponse("**/page/sample.jpg").then((response) => response.finished());
    release();
    await arrived;
    await shows(page, 4, "peoples.jpg");
    await settled(page);
    await shows(page, 4, "peoples.jpg");
    assert.equal(await page.locator("#gallery").isHidden(), true, "the gallery shows more than one image");
    await checkQuiet(page);
    return {};
  },

  // All ways to add images, and the gallery.
  async inputs() {
    const page = await opened({ permissions: ["clipboard-read", "clipboard-write"] });
    // Several at once; the sample gives way to them.
    await page.setInputFiles("#files", [task.files.people, task.files.sample]);
    await shows(page, 4, "peoples.jpg");
    await collected(page, "2 images, 5 faces");
    // The gallery, by mouse and by keys.
    await page.locator(".thumb").nth(1).click();
    await shows(page, 1, "sample.jpg");
    await page.keyboard.press("ArrowLeft");
    await shows(page, 4, "peoples.jpg");
    assert.deepEqual(await page.locator(".thumb .badge b").allInnerTexts(), ["4", "1"]);
    await page.getByRole("button", { name: "4 faces, peoples.jpg", exact: true }).waitFor();

    const dropped = await filesInPage(page, task.files.sample);
    await page.dispatchEvent("body", "dragenter", { dataTransfer: dropped });
    await page.locator("#drop").waitFor({ state: "visible" });
    await page.dispatchEvent("body", "drop", { dataTransfer: dropped });
    await page.locator("#drop").waitFor({ state: "hidden" });
    await shows(page, 1, "sample.jpg");
    await collected(page, "3 images, 6 faces");
    assert.equal(await page.locator(".thumb").count(), 3);

    const pasted = await filesInPage(page, task.files.people);
    await page.evaluate((data) => document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })), pasted);
    await shows(page, 4, "peoples.jpg");
    await collected(page, "4 images, 10 faces");

    // From the clipboard of the system, as PNG.
    await page.evaluate(async () => {
      const img = document.querySelector(".frame img");
      const canvas = Object.assign(document.createElement("canvas"), { width: img.naturalWidth, height: img.naturalHeight });
      canvas.getContext("2d").drawImage(img, 0, 0);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
      await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    });
    await page.click("#paste");
    await shows(page, 4, "pasted.png · 840 × 558");
    await collected(page, "5 images, 14 faces");

    await page.getByRole("button", { name: "Remove pasted.png" }).click();
    await shows(page, 4, "peoples.jpg");
    await collected(page, "4 images, 10 faces");
    await page.click("#clear");
    await shows(page, "–", "No image yet");
    await says(page, ".card.empty", /Drop images anywhere, choose or paste them, or turn on the camera/);
    await accessible(page, "no image");
    await page.getByRole("button", { name: "Open a sample" }).click();
    await shows(page, 3, "group.jpg");
    assert.equal(await page.locator(".card").count(), 0);
    // More images than the strip has room for: it scrolls, and nothing else moves.
    await page.setInputFiles("#files", Array(24).fill(task.files.sample));
    await shows(page, 1, "sample.jpg");
    await collected(page, "24 images, 24 faces");
    const currentThumb = () =>
      page.evaluate(() => {
        const [item, strip] = ["[aria-current]", "#thumbs"].map((s) => document.querySelector(s).getBoundingClientRect());
        const at = [...document.querySelectorAll(".thumb")].indexOf(document.querySelector("[aria-current]"));
        return { at, isVisible: item.left >= strip.left - 1 && item.right <= strip.right + 1, wide: document.querySelector("#thumbs").scrollWidth > strip.width, top: scrollY };
      });
    assert.deepEqual(await currentThumb(), { at: 0, isVisible: true, wide: true, top: 0 });
    await page.locator(".thumb").first().focus();
    for (let i = 1; i < 24; i++) {
      await page.keyboard.press("ArrowRight");
      assert.deepEqual(await currentThumb(), { at: i, isVisible: true, wide: true, top: 0 });
    }
    await page.getByRole("button", { name: "Remove sample.jpg" }).last().click();
    await collected(page, "23 images, 23 faces");
    assert.deepEqual(await currentThumb(), { at: 22, isVisible: true, wide: true, top: 0 });
    await page.locator("#thumbs").evaluate((strip) => (strip.scrollLeft = 0));
    await page.locator(".thumb").first().click();
    await shows(page, 1, "sample.jpg");
    assert.deepEqual(await currentThumb(), { at: 0, isVisible: true, wide: true, top: 0 });
    await page.click("#copy");
    await announced(page, "Copied");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await page.locator("#code").evaluate((code) => code.textContent));
    await checkQuiet(page);
    return {};
  },

  async controls() {
    const page = await opened({ deviceScaleFactor: 2 });
    await page.setInputFiles("#files", task.files.people);
    await shows(page, 4, "peoples.jpg", "pigo");

    // Moving the slider sends no request.
    const calls = page.seen.calls;
    assert.equal(await page.locator("#confidence-value").innerText(), "40 %");
    await setThreshold(page, 0.05);
    await until(page, () => document.querySelector("#panes").getAttribute("aria-busy") === "false" && Number(document.querySelector("#count .n").textContent) > 4, null, "show more than 4 faces");
    await setThreshold(page, 0.99);
    await shows(page, 2, "peoples.jpg");
    assert.equal(await page.locator(".face:not(.gone)").count(), 2);
    assert.equal(await page.locator("#faces .row:visible").count(), 2);
    await setThreshold(page, 1);
    await shows(page, 0, "peoples.jpg");
    await says(page, "#faces", /No face reaches 100 %\. The highest confidence is 99\.\d %/);
    await page.click("#confidence-reset");
    await shows(page, 4, "peoples.jpg");
    assert.equal(page.seen.calls, calls, "moving the slider sent a request");

    // Pointing at a face shows its numbers; the list selects it.
    await page.locator(".face").last().hover();
    await says(page, ".tip", /Face 1 · 99\.\d %\n\d+ × \d+ px at \d+, \d+/);
    await page.locator(".face-row").nth(2).click();
    await page.locator(".row.selected .numbers").waitFor();
    assert.equal(await page.locator(".face.selected").getAttribute("aria-label"), (await page.locator(".face-row").nth(2).innerText()).replace(/^Face\s+(\d+)\s+([\d.]+ %)[^]*$/, "Face $1 · $2"));
    assert.equal(await page.locator(".row.selected .numbers dt").count(), 7);
    await page.locator(".face").last().click();
    await page.locator(".row:first-child.selected").waitFor();
    assert.equal(await page.locator(".face-row[aria-pressed=true]").count(), 1);
    assert.equal(await page.locator(".face-row").first().getAttribute("aria-pressed"), "true");

    // At any zoom, lines keep their width and boxes their place.
    const before = await boxes(page);
    const width = () => page.locator(".frame").evaluate((f) => f.clientWidth);
    const fitted = await width();
    await page.click("#in");
    await page.click("#in");
    assert.ok((await width()) > 2 * fitted);
    assert.deepEqual(await page.locator(".face .line").first().evaluate((l) => [getComputedStyle(l).strokeWidth, l.getScreenCTM().a]), ["2px", 1]);
    (await boxes(page)).forEach((b, i) => near(b.x, before[i].x, 0.6, "x when zoomed"));
    await page.click("#fit");
    near(await width(), fitted, 1, "width when fitted");

    // A minimum face size, and another model.
    await page.fill("#smallest", "200");
    await shows(page, 0, "peoples.jpg");
    await page.fill("#smallest", "");
    await shows(page, 4, "peoples.jpg");
    // Faces that are turned; the Go side of this test looks for the option in the server's log.
    await page.check("#any-orientation");
    await says(page, "#code", /any_orientation=true/);
    await settled(page);
    await page.uncheck("#any-orientation");
    await shows(page, 4, "peoples.jpg");
    assert.deepEqual(await page.locator("#model option").allInnerTexts(), ["pigo", "pigo-reference"]);
    await page.selectOption("#model", "pigo-reference");
    await shows(page, 5, "peoples.jpg", "pigo-reference");
    assert.equal(await page.locator("#confidence-value").innerText(), "39 %");
    await page.selectOption("#model", "pigo");
    await shows(page, 4, "peoples.jpg", "pigo");

    // Two models, scrolled together.
    await page.selectOption("#compare", "pigo-reference");
    await shows(page, "4 | 5", "peoples.jpg");
    assert.equal(await page.locator("#count").innerText(), "4 by pigo\n5 by pigo-reference");
    // Each model is at its own default, until the slider is moved.
    assert.equal(await page.locator("#confidence-value").innerText(), "40 % | 39 %");
    assert.equal(await page.isVisible("#confidence-own"), true);
    await setThreshold(page, 0.7);
    await shows(page, "4 | 3", "peoples.jpg");
    assert.deepEqual(await page.locator(".pane figcaption").allInnerTexts(), ["pigo", "pigo-reference"]);
    assert.equal(await page.locator("#confidence-value").innerText(), "70 %");
    assert.deepEqual(await page.locator("#both button").allTextContents(), ["3 by both", "1 only pigo", "0 only pigo-reference"]);
    // Each number can be counted: it dims all other faces.
    const bright = () => page.evaluate(() => [".face:not(.gone):not(.dimmed)", "#faces .row:not([hidden]):not(.dimmed)"].map((s) => document.querySelectorAll(s).length).join());
    for (const [name, want] of [["3 by both", 6], ["1 only pigo", 1], ["0 only pigo-reference", 0]]) {
      await page.locator("#both").getByRole("button", { name, exact: true }).click();
      await settled(page);
      assert.equal(await bright(), `${want},${want}`, name);
    }
    await page.locator("#both [aria-pressed=true]").click();
    await settled(page);
    assert.equal(await bright(), "7,7");
    assert.equal(await page.locator("#faces .row:visible").count(), 7);
    assert.equal(await page.locator(".face.alone:not(.gone)").count(), 1);
    await page.click("#in");
    await page.click("#in");
    await page.locator(".viewport").first().evaluate((v) => (v.scrollLeft = 100));
    await until(page, () => [...document.querySelectorAll(".viewport")].every((v) => v.scrollLeft > 90), null, "scroll both panes");
    await accessible(page, "two models");
    await page.selectOption("#compare", "");
    await shows(page, 4, "peoples.jpg");
    assert.equal(await page.locator(".face.alone").count(), 0);
    assert.equal(await page.locator(".pane").count(), 1);
    await checkQuiet(page);
    return {};
  },

  // The view: zooming, selecting, removing and the options in the address, on a desk and on a phone.
  async view() {
    const query = "/?sample=hard&model=pigo&compare=mtcnn&min_confidence=0.3&min_face_size=24&any_orientation=true";
    let page = await visit({}, task.url, query);
    await until(page, () => document.querySelector("#panes").getAttribute("aria-busy") === "false" && document.querySelector("#about").textContent.startsWith("hard.jpg"), null, "show the hard sample");
    const options = () => page.evaluate(() => [...["model", "compare", "confidence", "smallest"].map((id) => document.getElementById(id).value), document.querySelector("#any-orientation").checked].join());
    assert.equal(await options(), "pigo,mtcnn,0.3,24,true");
    assert.equal(await page.evaluate(() => location.pathname + location.search), query);
    await page.uncheck("#any-orientation");
    await page.selectOption("#model", "mtcnn");
    await page.fill("#smallest", "");
    await page.click("#confidence-reset");
    await page.waitForURL((url) => url.search === "?sample=hard");
    await settled(page);

    const focused = () =>
      page.evaluate(() => {
        const [face, view] = [".face.selected .line", ".viewport"].map((s) => document.querySelector(s).getBoundingClientRect());
        return { x: Math.abs(face.x + face.width / 2 - view.x - view.width / 2) / view.width, y: Math.abs(face.y + face.height / 2 - view.y - view.height / 2) / view.height, part: Math.max(face.width, face.height) / Math.min(view.width, view.height) };
      });
    const isCentered = async (what) => {
      const { x, y } = await focused();
      assert.ok(x < 0.1 && y < 0.1, `${what}: the face is ${x}, ${y} from the center`);
    };
    const isZoomed = (yes) => page.locator(yes ? ".viewport.zoomed" : ".viewport:not(.zoomed)").waitFor();
    // Zooming in goes to the selected face, and Escape deselects it.
    const row = page.locator(".face-row:visible").nth(6);
    await row.click();
    for (let i = 0; i < 6; i++) await page.click("#in");
    await isCentered("zoomed in");
    await page.keyboard.press("Escape");
    assert.equal(await page.locator(".face.selected, .row.selected, [aria-pressed=true].face-row").count(), 0);
    await page.click("#fit");
    await isZoomed(false);
    // A double click goes to a face and back.
    await page.locator(".face:not(.gone) .halo").first().dblclick();
    await isZoomed(true);
    await isCentered("after a double click");
    near((await focused()).part, 0.4, 0.02, "the part of the view that the face takes");
    await page.locator(".face.selected .halo").dblclick();
    await isZoomed(false);
    // The wheel zooms, and then leaves the page to itself.
    const { x, y, width, height } = await page.locator(".viewport").boundingBox();
    await page.mouse.move(x + width / 2, y + height / 2);
    await page.mouse.wheel(0, -400);
    await isZoomed(true);
    await page.mouse.wheel(0, 2000);
    await isZoomed(false);
    assert.equal(await page.evaluate(() => scrollY), 0);
    await page.mouse.wheel(0, 200);
    await until(page, () => scrollY > 0, null, "scroll");
    // The only image can be removed.
    await page.click("#discard");
    await shows(page, "–", "No image yet");
    assert.equal(await page.evaluate(() => document.activeElement.id), "choose");
    assert.equal(await page.isVisible("#discard"), false);
    await checkQuiet(page);
    await page.context().close();

    page = await visit({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }, task.url, "/?sample=hard");
    await until(page, () => document.querySelectorAll(".face-row").length > 8, null, "list the faces");
    await settled(page);
    // The image and the row of the face that is touched are in sight, in both directions.
    const inSight = (selector) =>
      until(
        page,
        (s) => {
          const r = document.querySelector(s)?.getBoundingClientRect();
          if (!r) return false;
          const at = document.elementFromPoint(r.x + r.width / 2, r.y + Math.min(r.height, 40) / 2);
          return r.top >= 0 && r.top + Math.min(r.height, 40) <= innerHeight && Boolean(at?.closest(s) || at?.closest(".pane"));
        },
        selector,
        `keep ${selector} in sight`,
      );
    await page.locator(".face-row").nth(8).tap();
    await page.locator(".row.selected").waitFor();
    await inSight(".row.selected");
    await inSight(".face.selected");
    assert.ok(await page.evaluate(() => scrollY > 0), "the page was not scrolled");
    await page.locator(".face.selected").waitFor();
    await page.locator(".face:not(.gone) .halo").first().tap();
    await inSight(".row.selected");
    await inSight(".face.selected");
    // A double tap, and two fingers.
    const pane = await page.locator(".viewport").boundingBox();
    const at = [pane.x + 20, pane.y + pane.height / 2];
    await page.touchscreen.tap(...at);
    await page.touchscreen.tap(...at);
    await isZoomed(true);
    await page.waitForTimeout(500); // longer than between the taps of a double tap
    await page.touchscreen.tap(...at);
    await page.touchscreen.tap(...at);
    await isZoomed(false);
    const session = await page.context().newCDPSession(page);
    const fingers = (type, d) => session.send("Input.dispatchTouchEvent", { type, touchPoints: d ? [-d, d].map((dx, id) => ({ x: pane.x + pane.width / 2 + dx, y: pane.y + pane.height / 2, id })) : [] });
    await fingers("touchStart", 30);
    for (const d of [45, 60, 90]) await fingers("touchMove", d);
    await fingers("touchEnd", 0);
    await isZoomed(true);
    await checkQuiet(page);
    return {};
  },

  async exports() {
    const page = await opened();
    const made = {};
    for (const [name, faces] of task.images) {
      await page.setInputFiles("#files", task.files[name]);
      await shows(page, faces, name);
      const files = (made[name] = {});
      files.json = await download(page, "#save-json");
      files.marked = await download(page, "#save-marked");
      for (const style of ["blur", "cover"]) {
        files[style] = (await downloadHidden(page, style)).file;
        await says(page, "#save-note", /hidden(, and \d more that a later check found)?\. The server detects no hidden face in the result/);
      }
    }
    // Of two models, the faces of both are marked and hidden; one model does not find one of them.
    if (task.both) {
      await page.selectOption("#model", "pigo-reference");
      await page.selectOption("#compare", "pigo");
      await setThreshold(page, 0.7);
      await shows(page, "3 | 4", task.both);
      const files = (made.both = {});
      files.marked = await download(page, "#save-marked", "both-");
      await says(page, "#save-note", /^3 faces found by both models, 0 only by pigo-reference, 1 only by pigo\. Faces that only one model found are cyan and dashed\.$/);
      files.cover = (await downloadHidden(page, "cover", { prefix: "both-" })).file;
      await says(page, "#save-note", /^The faces of both models are hidden\. The server detects no hidden face in the result, with any of its models\./);
      // Faces below the slider are not hidden: the page asks, and hides them if the user says so.
      await page.selectOption("#compare", "");
      await page.selectOption("#model", "pigo");
      await setThreshold(page, 0.99);
      await shows(page, 2, task.both, "pigo");
      const one = await downloadHidden(page, "cover", { prefix: "one-" });
      assert.match(one.asked, /[2-9] places that are not hidden may show a face \(pigo: up to 9\d\.\d %\)\./);
      await says(page, "#save-note", /^2 faces hidden\. The server detects no hidden face in the result, with any of its models\. [2-9] other places may show a face and are not hidden\.$/);
      files.all = (await downloadHidden(page, "cover", { prefix: "all-", answer: "Hide these too" })).file;
      await says(page, "#save-note", /^2 faces hidden, and [2-9] more that a later check found\. The server detects no hidden face in the result, with any of its models\.$/);
    }
    await checkQuiet(page);
    return made;
  },

  // The images that are sent to be checked, and then saved, at each step of each style. The server
  // detects a face in each hidden place again and again.
  async hides() {
    let sent = []; // images whose faces are hidden
    const faces = task.boxes.map((b) => faceAt(b, 0.9));
    const url = await proxyWith((image, { skipLandmarks }) => {
      if (skipLandmarks) sent.push(image);
      return faces;
    });
    const page = await visit({}, url);
    const made = [];
    for (const { name, file, type } of task.images) {
      await page.setInputFiles("#files", { name, mimeType: type, buffer: await readFile(file) });
      await shows(page, faces.length, name + " ");
      await until(page, () => !document.querySelector("#save-hidden").disabled, null, "enable the button");
      for (const style of ["blur", "cover"]) {
        sent = [];
        const { file: saved, asked } = await downloadHidden(page, style);
        assert.match(asked, /hidden places are still detected as a face \(pigo: up to 90\.0 %\)\. None of the original pixels are left there\./);
        assert.deepEqual(await readFile(saved), sent.at(-1), "the saved image is not the one that was checked");
        const steps = [];
        for (const [i, image] of sent.entries()) {
          steps.push(path.join(task.out, `${name}-${style}-${i}`));
          await writeFile(steps[i], image);
        }
        made.push({ name, style, steps });
      }
    }
    await checkQuiet(page);
    return made;
  },

  // Each style, with each model of the server.
  async hidesPeople() {
    const page = await opened();
    await page.setInputFiles("#files", task.files.people);
    const models = await page.locator("#model option").allInnerTexts();
    const made = [];
    for (const model of models) {
      await page.selectOption("#model", model);
      await until(page, (name) => document.querySelector("#panes").getAttribute("aria-busy") === "false" && document.querySelector("#about").textContent.endsWith(name) && Number(document.querySelector("#count .n").textContent) >= 4, "· " + model, `show the faces that ${model} finds`);
      for (const style of ["blur", "cover"]) made.push({ model, style, ...(await downloadHidden(page, style, { prefix: model + "-" })) });
    }
    await checkQuiet(page);
    return made;
  },

  // The question before the page saves an image that may still show a face.
  async question() {
    const hidden = [100, 60, 40, 50];
    const other = [20, 150, 40, 50];
    let found; // the faces detected in the result, or a function that returns them; null is an error
    const url = await proxyWith((_, { skipLandmarks }) => (!skipLandmarks ? [faceAt(hidden, 0.9)] : typeof found === "function" ? found() : found));
    for (const [name, options] of Object.entries({ light: {}, "dark phone": { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, colorScheme: "dark" }, "high contrast": { forcedColors: "active" } })) {
      const page = await visit(options, url);
      await shows(page, 1, "sample.jpg");
      let downloads = 0;
      page.on("download", () => downloads++);
      const dialog = page.locator("dialog[open]");
      const ask = async (detected, pattern, buttons) => {
        found = detected;
        await page.locator("#save-hidden").focus();
        await page.keyboard.press("Enter");
        await says(page, "dialog[open]", pattern);
        assert.deepEqual(await dialog.getByRole("button").allInnerTexts(), buttons);
        assert.equal(await page.evaluate(() => document.activeElement.innerText), "Do not save");
      };
      const focused = async (text) => {
        await page.keyboard.press("Shift+Tab");
        assert.deepEqual(await page.evaluate(() => [document.activeElement.innerText, document.activeElement.matches(":focus-visible")]), [text, true]);
      };
      const over = async (pattern) => {
        await says(page, "#save-note", pattern);
        await page.locator("#save-hidden:not([aria-busy])").waitFor();
        assert.equal(await page.locator("dialog").count(), 0);
        assert.equal(await page.evaluate(() => document.activeElement.id), "save-hidden");
      };
      const save = async (file) => assert.equal((await file).suggestedFilename(), "sample-hidden.jpg");

      // Escape does not save.
      await ask([faceAt(hidden, 0.31)], /^Save the image anyway\?\s+1 hidden place is still detected as a face \(pigo: 31\.0 %\)\. None of the original pixels are left there\./, ["Save anyway", "Do not save"]);
      await accessible(page, name + ", a question");
      assert.ok(await page.evaluate(() => { const r = document.querySelector("dialog").getBoundingClientRect(); return r.left >= 0 && r.right <= innerWidth && document.documentElement.scrollWidth <= innerWidth; }), "the question is wider than the screen");
      await page.keyboard.press("Escape");
      await over(/^Not saved\.$/);
      await ask([faceAt(hidden, 0.31)], /still detected/, ["Save anyway", "Do not save"]);
      await page.keyboard.press("Enter");
      await over(/^Not saved\.$/);
      assert.equal(downloads, 0);

      await ask([faceAt(other, 0.31)], /1 place that is not hidden may show a face \(pigo: 31\.0 %\)\./, ["Hide these too", "Save anyway", "Do not save"]);
      await accessible(page, name + ", a question about others");
      await focused("Save anyway");
      let file = page.waitForEvent("download");
      await page.keyboard.press("Enter");
      await save(file);
      await over(/^1 face hidden\. The server detects no hidden face in the result\. 1 other place may show a face and is not hidden\.$/);

      await ask([faceAt(other, 0.31)], /not hidden/, ["Hide these too", "Save anyway", "Do not save"]);
      await focused("Save anyway");
      await focused("Hide these too");
      found = [];
      file = page.waitForEvent("download");
      await page.keyboard.press("Enter");
      await save(file);
      await over(/^1 face hidden, and 1 more that a later check found\. The server detects no hidden face in the result\.$/);

      await ask(null, /^Save the image unchecked\?\s+The server could not check the result for faces: no answer/, ["Save anyway", "Do not save"]);
      await accessible(page, name + ", a question without an answer");
      await page.keyboard.press("Escape");
      await over(/^Not saved\.$/);
      assert.equal(downloads, 2);

      // A face that the page would show is hidden without a question.
      const checks = [[faceAt(other, 0.9)], []];
      found = () => checks.shift();
      file = page.waitForEvent("download");
      await page.keyboard.press("Enter");
      await save(file);
      await over(/^1 face hidden, and 1 more that a later check found\. The server detects no hidden face in the result\.$/);
      assert.deepEqual(checks, []);
      await checkQuiet(page, "the server responded with a status of 503");
      await page.context().close();
    }
    return {};
  },

  // The code that the page shows: for the sample without options, and for another image with all of them.
  async code() {
    const page = await opened();
    const read = async () => {
      const code = {};
      for (const key of ["curl", "buf", "grpcurl", "fetch", "go"]) {
        await page.click("#tab-" + key);
        code[key] = await page.locator("#code").innerText();
      }
      return code;
    };
    const shown = { plain: await read() };
    const name = path.basename(task.files[task.image]);
    await page.setInputFiles("#files", task.files[task.image]);
    await shows(page, task.faces, name);
    await page.selectOption("#model", "pigo-reference");
    await page.fill("#smallest", "30");
    await setThreshold(page, 0.8);
    await until(page, () => document.querySelector("#panes").getAttribute("aria-busy") === "false" && document.querySelector("#about").textContent.includes("pigo-reference") && Number(document.querySelector("#count .n").textContent) > 0, null, "find faces with options");
    shown.options = await read();
    for (const option of ["pigo-reference", "30", "0.8"]) assert.ok(shown.options.curl.includes(option), `the code lacks ${option}: ${shown.options.curl}`);
    shown.faces = await boxes(page);
    assert.equal(String(shown.faces.length), await page.locator("#count .n").innerText());
    await checkQuiet(page);
    return shown;
  },

  async errors() {
    const page = await opened();
    const give = (name, content) => page.setInputFiles("#files", { name, mimeType: "image/jpeg", buffer: content });
    const card = page.locator(".card.error");
    await give("notes.jpg", Buffer.from("These are notes, not an image of anything at all.\n"));
    await shows(page, "–", "notes.jpg");
    await says(page, ".card.error", /This format is not supported[\s\S]+JPEG, PNG, GIF, WebP, BMP or TIFF/);
    // It is said once, and what the server says is folded.
    assert.equal(await card.count(), 1);
    assert.equal((await card.innerText()).match(/GIF/g).length, 1);
    await card.locator("summary").click();
    await says(page, ".card.error", /unsupported image format[\s\S]+UNSUPPORTED_FORMAT/);
    await announced(page, "This format is not supported");
    await accessible(page, "an error");
    await give("cut.jpg", (await readFile(task.files.sample)).subarray(0, 300));
    await card.getByText("CORRUPT_IMAGE").waitFor({ state: "attached" });
    await give("empty.jpg", Buffer.alloc(0));
    await card.getByText("EMPTY_IMAGE").waitFor({ state: "attached" });
    await collected(page, "3 images, 0 faces");
    assert.deepEqual(await page.locator(".thumb .badge b").allInnerTexts(), ["!", "!", "!"]);
    // On a phone, the remedy is one of the phone.
    const phone = await visit({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1" });
    await phone.setInputFiles("#files", { name: "IMG_1.heic", mimeType: "image/heic", buffer: Buffer.from("\0\0\0\x18ftypheic\0\0\0\0mif1heic") });
    await says(phone, ".card.error", /This format is not supported\s+Take a screenshot of the photo and choose that[\s\S]+Most Compatible/);
    await accessible(phone, "an error on a phone");
    assert.ok(await phone.evaluate(() => document.querySelector(".card.error").getBoundingClientRect().bottom < innerHeight), "the error is out of sight");
    await checkQuiet(phone, "the server responded with a status of 400");
    await phone.context().close();
    // A file name is text, not HTML.
    await give('<img src=x onerror="window.hacked=1"><b>.jpg', await readFile(task.files.sample));
    await shows(page, 1, '<img src=x onerror="window.hacked=1"><b>.jpg · 320');
    assert.equal(await page.evaluate(() => window.hacked ?? document.querySelectorAll('img[src="x"]').length), 0);
    await give("large.jpg", Buffer.alloc(140_000));
    await card.getByText("TOO_MANY_BYTES").waitFor({ state: "attached" });
    await page.getByRole("button", { name: "Remove large.jpg" }).click();
    await shows(page, 1, "<b>.jpg");
    // An option that the server rejects.
    await page.fill("#smallest", "-3");
    await card.getByText("INVALID_OPTIONS").waitFor();
    await page.fill("#smallest", "");
    await shows(page, 1, "<b>.jpg");
    // The network fails, and comes back.
    await page.context().setOffline(true);
    await page.setInputFiles("#files", task.files.sample);
    await card.getByText("The server cannot be reached").waitFor();
    // The message is below the image, not over it.
    await until(page, () => document.querySelector(".frame img")?.getBoundingClientRect().bottom <= document.querySelector(".card.error").getBoundingClientRect().top, null, "show the error below the image");
    await page.context().setOffline(false);
    await shows(page, 1, "sample.jpg");
    await checkQuiet(page, "the server responded with a status of 400", "the server responded with a status of 429", "net::ERR_INTERNET_DISCONNECTED");
    return {};
  },

  // The page behind a proxy that changes the header Host.
  async proxied() {
    for (const url of task.trusted ?? []) {
      const page = await visit({}, url);
      await shows(page, 1, "sample.jpg");
      await checkQuiet(page);
    }
    for (const url of task.refused ?? []) {
      const page = await visit({}, url);
      await says(page, ".card.error", /may not call this server[\s\S]+--cors-origin[\s\S]+header Host/);
    }
    return {};
  },

  // The server requires an API key. The page asks for it, and the tab remembers it.
  async key() {
    const page = await visit();
    const dialog = page.locator("dialog[open]");
    const enter = async (key) => {
      await page.getByLabel("API key", { exact: true }).fill(key);
      await page.keyboard.press("Enter");
    };
    await dialog.getByRole("heading", { name: "This server requires an API key" }).waitFor();
    await accessible(page, "the question for a key");
    await enter("mien_wrong");
    await dialog.getByText("not valid").waitFor();
    // The user declines, and there are no more questions until the user wants one.
    await page.keyboard.press("Escape");
    await says(page, ".card.error", /This server requires an API key[\s\S]+Enter a key/);
    assert.equal(await dialog.count(), 0);
    await page.getByRole("button", { name: "Enter a key" }).click();
    await enter(task.key);
    await shows(page, 1, "sample.jpg");
    await until(page, () => document.querySelector("#code").textContent.includes("$MIEN_API_KEY"), null, "show code with a key");
    assert.ok(!(await page.content()).includes(task.key), "the key is in the document");
    await page.reload();
    await shows(page, 1, "sample.jpg");
    assert.equal(await dialog.count(), 0, "the tab has forgotten the key");
    await checkQuiet(page, "the server responded with a status of 401");
    const other = await visit();
    await other.locator("dialog[open]").getByRole("heading", { name: "This server requires an API key" }).waitFor();
    return {};
  },

  // The server cannot be reached, as while it restarts. The page finds out when it is back, and
  // announces nothing in the meantime.
  async reconnects() {
    const between = await tunnel(new URL(task.url));
    const page = await visit({}, between.url);
    await shows(page, 1, "sample.jpg");
    await between.cut();
    await page.setInputFiles("#files", task.files.sample);
    await says(page, ".card.error", /The server cannot be reached[\s\S]+This page reconnects automatically/);
    await announced(page, "The server cannot be reached");
    await page.evaluate(() => {
      window.card = document.querySelector(".card.error");
    });
    for (let i = 0; i < 2; i++) await page.waitForEvent("request", (r) => r.url().endsWith("/ListModels"));
    assert.deepEqual(await page.evaluate(() => [window.card.isConnected, window.announcements]), [true, []]);
    // By the button as well, which shows the failure again.
    await Promise.all([page.waitForEvent("request", (r) => r.url().endsWith("/Predict")), page.getByRole("button", { name: "Try again" }).click()]);
    await says(page, ".card.error", /The server cannot be reached/);
    await between.join();
    await shows(page, 1, "sample.jpg");
    assert.equal(await page.locator(".card").count(), 0);
    await checkQuiet(page, "net::ERR_");
    return {};
  },

  // The stream of another client takes the server's only slot until the page has said so. Then the
  // page's call is admitted.
  async overload() {
    const page = await opened();
    const other = await occupy();
    const card = page.locator(".card.waiting");
    const calls = page.seen.calls;
    await page.setInputFiles("#files", task.files.sample);
    await says(page, ".card.waiting", /The server is busy[\s\S]+Retrying automatically in [\d.]+ m?s[\s\S]+OVERLOADED/);
    await announced(page, "Retrying automatically");
    assert.equal(await other.end(), 200);
    await shows(page, 1, "sample.jpg");
    assert.equal(await card.count(), 0);
    assert.ok(page.seen.calls > calls + 1, "the page sent only one call");
    await checkQuiet(page, "the server responded with a status of 503");
    return {};
  },

  async camera() {
    const page = await opened();
    await page.click("#camera");
    await shows(page, task.faces, "Camera");
    // The camera's tools take the place of those of an image.
    assert.deepEqual(await page.evaluate(() => ["live", "zoom", "discard"].filter((id) => !document.getElementById(id).hidden)), ["live"]);
    await says(page, "#meter", /^[\d.]+ frames\/s · [\d.]+ m?s$/);
    // The front camera is mirrored, and so are its boxes.
    assert.equal(await page.isChecked("#mirror"), true);
    const [left] = await boxes(page);
    await page.uncheck("#mirror");
    assert.equal(await page.locator(".frame.mirrored").count(), 0);
    const [right] = await boxes(page);
    const width = await page.locator("video").evaluate((v) => v.videoWidth);
    near(left.x + left.width / 2, width - right.x - right.width / 2, 3, "mirrored");
    for (let i = 0; i < 3; i++) await page.waitForEvent("request", (r) => r.url().endsWith("/Predict")); // the calls continue
    await accessible(page, "the camera");
    // While the server is busy the page waits, and then sends a newer frame.
    let busy = true; // until the page has said so
    const overloaded = { status: 503, headers: { "Retry-After": "1" }, json: { code: "unavailable", message: "overloaded", details: [{ type: "google.rpc.ErrorInfo", debug: { reason: "OVERLOADED", domain: "mien" } }] } };
    await page.route("**/Predict", (route) => (busy ? route.fulfill(overloaded) : route.continue()));
    await page.locator(".card", { hasText: "Retrying automatically" }).waitFor();
    busy = false;
    await page.locator(".card").waitFor({ state: "detached" });
    await page.unroute("**/Predict");
    // The back camera. A fake camera does not report its side, so the page assumes the one it asked for.
    await page.click("#facing");
    await shows(page, task.faces, "Camera");
    assert.equal(await page.isChecked("#mirror"), false);
    assert.equal(await page.locator("#facing").innerText(), "Front camera");

    await page.click("#keep");
    await shows(page, task.faces, "camera-1.jpg");
    assert.equal(await page.locator("#live").isVisible(), false);
    await page.click("#camera");
    await shows(page, task.faces, "Camera");
    const stream = await page.evaluateHandle(() => document.querySelector("video").srcObject);
    await page.click("#stop");
    await shows(page, task.faces, "camera-1.jpg");
    assert.deepEqual(await stream.evaluate((s) => s.getTracks().map((t) => t.readyState)), ["ended"]);
    // It asks for nothing any more but what it is given.
    const still = page.seen.calls;
    for (const name of ["first.jpg", "second.jpg", "third.jpg", "fourth.jpg"]) {
      await page.setInputFiles("#files", { name, mimeType: "image/jpeg", buffer: await readFile(task.files.sample) });
      await shows(page, 1, name);
    }
    assert.ok(page.seen.calls <= still + 4 + 1, "calls continue after the camera was stopped"); // one may have been running
    await checkQuiet(page, "the server responded with a status of 503");
    return {};
  },

  async noCamera() {
    const page = await opened();
    await page.click("#camera");
    await page.locator(".card.error", { hasText: "No camera" }).waitFor();
    await page.getByRole("button", { name: "Close" }).click();
    await shows(page, 1, "sample.jpg");
    await checkQuiet(page);

    // Without HTTPS, on another host than localhost, browsers offer neither of these.
    const context = page.context();
    await context.addInitScript(() => {
      for (const name of ["mediaDevices", "clipboard"]) Object.defineProperty(navigator, name, { value: undefined });
    });
    await page.reload();
    await shows(page, 1, "sample.jpg");
    assert.equal(await page.isVisible("#paste"), false);
    await page.click("#camera");
    await page.locator(".card.error", { hasText: "--tls-cert" }).waitFor();
    assert.equal(await page.isVisible("#live"), false);
    await page.getByRole("button", { name: "Close" }).click();
    await shows(page, 1, "sample.jpg");
    await page.click("#copy");
    await announced(page, "Selected");
    assert.match(await page.evaluate(() => getSelection().toString()), /^curl -sO http/);
    await checkQuiet(page);
    return {};
  },

  // The page applies the EXIF orientation to images, hidden faces and boxes.
  async upright() {
    const page = await opened();
    const found = [];
    for (const name of task.images) {
      await page.setInputFiles("#files", task.files[name]);
      await until(page, (file) => document.querySelector("#panes").getAttribute("aria-busy") === "false" && document.querySelector("#about").textContent.includes(file) && Number(document.querySelector("#count .n").textContent) > 0, path.basename(task.files[name]), `find faces in ${name}`);
      const size = await page.locator(".frame img").evaluate((i) => [i.naturalWidth, i.naturalHeight]);
      found.push({ name, size, boxes: await boxes(page), hidden: (await downloadHidden(page, "blur")).file });
    }
    // And to thumbnails.
    await settled(page);
    for (const [i, { name }] of found.entries()) {
      const thumb = page.locator(".thumb").nth(i);
      await thumb.click();
      await until(page, (file) => document.querySelector("#panes").getAttribute("aria-busy") === "false" && document.querySelector("#about").textContent.includes(file), path.basename(task.files[name]));
      // Compare a screenshot of the thumbnail with the image, in the part without texts.
      const screenshot = (await thumb.locator("canvas").screenshot()).toString("base64");
      const differs = await page.evaluate(async (png) => {
        const shot = Object.assign(new Image(), { src: "data:image/png;base64," + png });
        await shot.decode();
        const [width, height] = [shot.naturalWidth, shot.naturalHeight];
        const pixels = (source) => {
          const canvas = Object.assign(document.createElement("canvas"), { width, height });
          canvas.getContext("2d").drawImage(source, 0, 0, width, height);
          return canvas.getContext("2d").getImageData(width * 0.1, height * 0.4, width * 0.8, height * 0.3).data;
        };
        const [a, b] = [shot, document.querySelector(".frame img")].map(pixels);
        return a.reduce((sum, v, at) => sum + Math.abs(v - b[at]), 0) / a.length;
      }, screenshot);
      assert.ok(differs < 15, `the thumbnail of ${name} differs by ${differs} of 255`);
    }
    await checkQuiet(page);
    return found;
  },

  // A format that browsers cannot show: the server sends a picture of it.
  async unshown() {
    const page = await opened();
    await page.setInputFiles("#files", [task.files.tiff, task.files.sample]);
    await shows(page, 1, "sample.tiff", "shown as decoded by the server");
    await collected(page, "2 images, 2 faces");
    assert.equal(await page.locator(".card").count(), 0);
    // Its face is where it is in the picture, which is that of the sample without marks.
    const picture = () =>
      page.locator(".frame img").evaluate((img) => {
        const canvas = Object.assign(document.createElement("canvas"), { width: img.naturalWidth, height: img.naturalHeight });
        const c = canvas.getContext("2d");
        c.drawImage(img, 0, 0);
        const { data } = c.getImageData(0, 0, canvas.width, canvas.height);
        return Array.from({ length: canvas.width * canvas.height }, (_, i) => Math.round(0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]));
      });
    const [got, [drawn]] = [await picture(), await boxes(page)];
    const marked = await download(page, "#save-marked");
    await downloadHidden(page, "cover");
    assert.match(marked, /sample-marked\.jpg$/);
    assert.equal(await page.locator(".thumb canvas").count(), 2);
    await accessible(page, "a picture from the server");
    await page.locator(".thumb").last().click();
    await shows(page, 1, "sample.jpg");
    const want = await picture();
    assert.equal(got.length, want.length);
    const differs = got.reduce((sum, v, i) => sum + Math.abs(v - want[i]), 0) / got.length;
    assert.ok(differs < 3, `the picture differs by ${differs} of 255`);
    near(drawn.x, (await boxes(page))[0].x, 12, "x"); // the TIFF is gray
    await checkQuiet(page);

    // Without a picture, the faces are shown where they are.
    await page.route("**/predict?*", (route) => route.abort());
    await page.setInputFiles("#files", task.files.tiff);
    await shows(page, 1, "sample.tiff", "not shown by this browser");
    await says(page, ".card.note", /This browser cannot show this format/);
    await accessible(page, "an image that is not shown");
    // The note does not cover the face, and can be closed.
    await until(page, () => document.querySelector(".face .line").getBoundingClientRect().bottom <= document.querySelector(".card.note").getBoundingClientRect().top, null, "show the note below the face");
    await page.getByRole("button", { name: "Close" }).click();
    await page.locator(".card").waitFor({ state: "detached" });
    assert.equal(await page.locator(".face:not(.gone)").count(), 1);
    assert.equal(await page.isDisabled("#save-hidden"), true);
    assert.equal(await page.isDisabled("#save-json"), false);
    await checkQuiet(page, "net::ERR_FAILED");
    return {};
  },

  // Sizes of screen, color schemes and preferences.
  async appearance() {
    const fits = async (page, name) => {
      const cut = await page.evaluate(() => [...document.querySelectorAll("main button, main h2, main p, main label, main dl, #samples, .toolbar")].filter((e) => e.offsetParent && !e.closest(".unseen, .gallery, .snippet") && (e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth)).map((e) => e.outerHTML.slice(0, 120)));
      assert.deepEqual(cut, [], "cut off");
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is wider than the screen");
      // On a wide screen, the image and the panel take all of it.
      if (name === "wide") assert.ok(await page.evaluate(() => document.querySelector(".stage").clientWidth + document.querySelector(".panel").clientWidth > 0.9 * innerWidth), "a wide screen is not used");
    };
    for (const [name, options] of Object.entries({
      light: { colorScheme: "light" },
      dark: { colorScheme: "dark" },
      phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 3 },
      "dark phone": { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2, colorScheme: "dark" },
      "small phone": { viewport: { width: 320, height: 568 }, isMobile: true, hasTouch: true },
      "phone on its side": { viewport: { width: 844, height: 390 }, isMobile: true, hasTouch: true },
      tablet: { viewport: { width: 1024, height: 768 }, isMobile: true, hasTouch: true },
      wide: { viewport: { width: 2560, height: 1300 } },
      "small window": { viewport: { width: 1000, height: 600 } },
      "high contrast": { forcedColors: "active" },
      "reduced motion": { reducedMotion: "reduce" },
    })) {
      const page = await opened(options);
      await fits(page, name);
      await accessible(page, name);
      if (options.isMobile) {
        await page.tap(".face-row");
        await page.locator(".row.selected .numbers").waitFor();
        const small = await page.evaluate(() => [...document.querySelectorAll('button, select, label:has(input), summary, a:not(.skip), input[type="number"], input[type="range"]')].filter((e) => e.offsetParent && (e.getBoundingClientRect().height < 43.9 || (e.matches("button") && e.offsetWidth < 43.9))).map((e) => e.outerHTML.slice(0, 120)));
        assert.deepEqual(small, [], "too small to tap");
      }
      await page.setInputFiles("#files", [task.files.sample, task.files.sample]);
      await shows(page, 1, "sample.jpg");
      await collected(page, "2 images, 2 faces");
      await fits(page, name);
      await accessible(page, name + ", gallery");
      if (name === "reduced motion") {
        assert.equal(await page.evaluate(() => [...document.querySelectorAll("*")].filter((e) => getComputedStyle(e).transitionDuration !== "0s" || getComputedStyle(e).animationName !== "none").length), 0);
      }
      await checkQuiet(page);
      await page.context().close();
    }
    return {};
  },

  // Everything works without a mouse, and the focus is always visible.
  async keyboard() {
    const page = await visit();
    page.on("filechooser", () => {}); // intercept all file choosers, not only those that are waited for
    const focused = () =>
      page.evaluate(() => {
        const e = document.activeElement;
        const style = getComputedStyle(e);
        const line = e.querySelector?.(":scope > .line");
        return { id: e.id, className: e.className.baseVal ?? e.className, visible: style.outlineStyle !== "none" || Boolean(line && getComputedStyle(line).strokeWidth === "4px") };
      });
    const reach = async (is, key = "Tab") => {
      for (let i = 0; i < 60; i++) {
        await page.keyboard.press(key);
        const f = await focused();
        assert.ok(f.visible || f.id === "", `the focus on ${JSON.stringify(f)} is not visible`);
        if (is(f)) return;
      }
      assert.fail(`Tab does not reach ${is}`);
    };
    await reach((f) => f.className === "skip");
    await reach((f) => f.id === "choose");
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.keyboard.press("Enter")]);
    await chooser.setFiles(task.files.people);
    await shows(page, 4, "peoples.jpg");
    // On the image, plus zooms, and arrows move between faces.
    await reach((f) => f.className.includes("viewport"));
    await page.keyboard.press("+");
    await page.locator(".viewport.zoomed").waitFor();
    await page.keyboard.press("0");
    await page.locator(".viewport:not(.zoomed)").waitFor();
    await reach((f) => f.className.startsWith("face"));
    await says(page, ".tip", /Face 1/);
    await page.keyboard.press("ArrowRight");
    await says(page, ".tip", /Face 2/);
    await page.keyboard.press("Enter");
    await page.locator(".row.selected").waitFor();
    assert.equal(await page.locator(".face-row[aria-pressed=true]").count(), 1);
    await reach((f) => f.id === "confidence");
    for (let i = 0; i < 59; i++) await page.keyboard.press("ArrowRight");
    await shows(page, 2, "peoples.jpg");
    await announced(page, "2 faces with a confidence of at least 99 %");
    for (let i = 0; i < 20; i++) await page.keyboard.press("ArrowLeft");
    await shows(page, 4, "peoples.jpg");
    await reach((f) => f.className === "face-row");
    await page.keyboard.press("Enter");
    await page.locator(".row.selected").waitFor();
    await reach((f) => f.id === "tab-curl");
    await page.keyboard.press("ArrowRight");
    assert.equal((await focused()).id, "tab-buf");
    await says(page, "#code", /buf curl/);
    await reach((f) => f.id === "save-json", "Shift+Tab").catch(() => reach((f) => f.id === "save-json"));
    const [file] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
    assert.equal(file.suggestedFilename(), "peoples.json");
    await checkQuiet(page);
    return {};
  },

  // For BenchmarkPage: milliseconds until the faces of a large image are drawn, and between frames
  // while the slider moves over its range.
  async speed() {
    const page = await opened();
    await watchFrames(page);
    const began = performance.now();
    await page.setInputFiles("#files", task.files.large);
    await shows(page, task.faces, "large.jpg");
    const drawn = performance.now() - began;
    const loading = await frames(page);
    const sliding = await slide(page);
    await page.click("#time-details summary");
    return { drawn, loading, sliding, time: await page.locator("#time-details").innerText() };
  },

  // For BenchmarkPage: milliseconds between frames while the slider moves over its range, with made-up faces.
  async crowd() {
    const side = Math.ceil(Math.sqrt(task.faces));
    const size = 400 / side;
    const faces = Array.from({ length: task.faces }, (_, i) => faceAt([(i % side) * 0.8 * size, Math.floor(i / side) * size, 0.7 * size, 0.8 * size], 1 - (0.95 * i) / task.faces));
    const page = await visit({}, await proxyWith(() => faces));
    await until(page, () => document.querySelectorAll(".face").length > 100, null, "show the crowd");
    await setThreshold(page, 0.05);
    await shows(page, task.faces, "sample.jpg");
    return { sliding: await slide(page) };
  },

  // The screenshots of docs/page, which show the samples only.
  async screenshots() {
    const shoot = async (page, name, { unsettled = false, ...options } = {}) => {
      if (!unsettled) await settled(page);
      await page.evaluate(async () => {
        await Promise.all([...document.images].map((img) => img.decode()));
        for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
      });
      await page.screenshot({ path: path.join(task.out, name + ".png"), animations: "disabled", ...options });
    };
    const dark = { colorScheme: "dark", viewport: { width: 1180, height: 760 } };
    const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
    const window = { viewport: { width: 1180, height: 760 } };
    const onView = async (options, sample = "group") => {
      const page = await visit(options, task.url, `/?sample=${sample}`);
      await until(page, (name) => document.querySelector("#panes").getAttribute("aria-busy") === "false" && document.querySelector("#about").textContent.startsWith(name), sample, `show ${sample}`);
      return page;
    };
    let page = await onView(window);
    await page.locator(".face-row").nth(1).click();
    await page.mouse.move(5, 5);
    await shoot(page, "page");
    await page.keyboard.press("Escape");
    await page.locator("#tab-grpcurl").click();
    await setThreshold(page, 0.8);
    await page.locator(".away").scrollIntoViewIfNeeded();
    await shoot(page, "export", { fullPage: true });
    await page.click("#confidence-reset");
    await page.locator("#samples").getByRole("button", { name: "Hard" }).click();
    await page.selectOption("#compare", task.compare);
    await until(page, () => document.querySelectorAll(".pane").length === 2 && document.querySelector("#panes").getAttribute("aria-busy") === "false", null, "compare");
    await page.evaluate(() => scrollTo(0, 0));
    await shoot(page, "compare");
    await page.selectOption("#compare", "");
    await page.setInputFiles("#files", task.gallery.map((name) => task.files[name]));
    await shoot(page, "gallery");
    await page.locator(".thumb").last().click();
    await page.locator(".card.error").waitFor();
    await shoot(page, "error");
    await page.locator(".thumb").first().click();
    await page.evaluate(async () => (document.querySelector("#drop").hidden = false));
    await shoot(page, "drop");
    await page.context().close();

    // The smaller of two faces is filtered out.
    page = await opened(window);
    await page.setInputFiles("#files", task.files.two);
    await shows(page, 2, "two.jpg");
    await page.fill("#smallest", "150");
    await shows(page, 1, "two.jpg");
    await page.check("input[name=hide][value=cover]");
    await page.click("#save-hidden");
    await page.locator("dialog[open]").waitFor();
    await shoot(page, "question", { unsettled: true });
    await page.context().close();

    page = await onView(window, "hard");
    await page.locator(".face:not(.gone) .halo").first().dblclick();
    await page.mouse.move(5, 5);
    await shoot(page, "zoom");
    await page.context().close();
    page = await onView({ viewport: { width: 1920, height: 1000 } }, "hard");
    await shoot(page, "wide");
    await page.context().close();

    page = await onView(dark);
    await page.locator(".face-row").first().click();
    await page.mouse.move(5, 5);
    await shoot(page, "dark");
    await page.click("#camera");
    await shows(page, 1, "Camera");
    await page.waitForTimeout(1500); // until the rate shown is that of a real camera
    await shoot(page, "camera");
    await page.context().close();

    page = await onView(phone, "hard");
    await page.locator(".face-row").nth(8).tap();
    await page.waitForTimeout(500); // until the list is scrolled
    await shoot(page, "phone");
    await page.context().close();
    page = await onView({ ...dark, ...phone });
    await shoot(page, "phone-dark", { fullPage: true });
    await page.context().close();
    page = await onView({ ...window, forcedColors: "active" });
    await shoot(page, "high-contrast");
    // A server that is always overloaded.
    page = await opened(window);
    await page.route("**/Predict", (route) => route.fulfill({ status: 503, headers: { "Retry-After": "2" }, json: { code: "unavailable", message: task.busy, details: [{ type: "google.rpc.ErrorInfo", debug: { reason: "OVERLOADED", domain: "mien" } }] } }));
    await page.setInputFiles("#files", task.files.sample);
    await page.locator(".card.waiting").waitFor();
    await shoot(page, "overload", { unsettled: true });
    return {};
  },
};

try {
  console.log(JSON.stringify(await scenarios[task.scenario]()));
} catch (error) {
  console.error(error);
  for (const page of pages.filter((p) => !p.isClosed())) console.error("the state of the page:", await describe(page));
  process.exitCode = 1;
} finally {
  await browser.close();
}
