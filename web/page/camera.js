// The camera, live. There is never more than one frame on its way: when an answer
// has come, the newest frame goes out, and what the camera saw in between is left.
import { predict, predictPatiently } from "./server.js";

const LONGER_SIDE = 1280; // of the frames that are sent
const QUALITY = 0.85;

export class Camera {
  /** on has faces(answer, {milliseconds, perSecond}), waits(error) and fails(error). */
  constructor(on) {
    this.on = on;
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.playsInline = true;
    this.canvas = document.createElement("canvas");
  }

  /** start shows the front ("user") or the back camera ("environment"); options() tells what to ask the server. */
  async start(facing, options) {
    this.stop();
    const run = (this.run = new AbortController());
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("Browsers give pages a camera on https and on localhost only. Start the server with --tls-cert and --tls-key, or choose a picture: phones then offer their camera too.");
    }
    const stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 720 } } });
    if (run.signal.aborted) {
      stream.getTracks().forEach((track) => track.stop());
      return;
    }
    this.stream = stream;
    this.video.srcObject = stream;
    await this.video.play();
    stream.getVideoTracks()[0].addEventListener("ended", () => this.run === run && this.on.fails(new Error("The camera was unplugged or taken away.")));
    this.#loop(run.signal, options);
  }

  get running() {
    return Boolean(this.run);
  }

  /** facing is what the camera says it is: "user", "environment" or "". */
  get facing() {
    return this.stream?.getVideoTracks()[0]?.getSettings().facingMode ?? "";
  }

  get size() {
    return { width: this.video.videoWidth, height: this.video.videoHeight };
  }

  stop() {
    this.run?.abort();
    this.run = null;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = this.video.srcObject = null;
  }

  /** frame returns the newest frame as a JPEG, at most as large as longerSide. */
  async frame(longerSide = Infinity) {
    const { width, height } = this.size;
    const scale = Math.min(1, longerSide / Math.max(width, height));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    return new Promise((resolve, reject) => {
      this.canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The camera gave no picture."))), "image/jpeg", QUALITY);
    });
  }

  async #loop(signal, options) {
    const ended = []; // when the last answers came
    try {
      for (;;) {
        await this.#nextFrame();
        if (signal.aborted) return;
        if (document.hidden) {
          await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
          continue;
        }
        const began = performance.now();
        const blob = await this.frame(LONGER_SIDE);
        let reply;
        try {
          reply = await predict(blob, options(), signal);
        } catch (error) {
          if (error.retryAfter === null || error.retryAfter === undefined) throw error;
          // By the time it may be sent again, there is a newer one.
          reply = await predictPatiently(await this.frame(LONGER_SIDE), options(), { signal, waits: (_, pause, e) => this.on.waits(e, pause) });
        }
        if (signal.aborted) return;
        const now = performance.now();
        ended.push(now);
        while (ended.length > 20 || now - ended[0] > 3000) ended.shift();
        const perSecond = ended.length > 1 ? ((ended.length - 1) * 1000) / (now - ended[0]) : 0;
        this.on.faces(reply, { milliseconds: now - began, perSecond });
      }
    } catch (error) {
      if (!signal.aborted) this.on.fails(error);
    }
  }

  #nextFrame() {
    const { video } = this;
    return new Promise((resolve) => {
      if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
      // A hidden page gets no frames, and must see that it was stopped.
      setTimeout(resolve, video.requestVideoFrameCallback ? 250 : 40);
    });
  }
}
