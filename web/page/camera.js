// Takes frames from the camera and asks the server for their faces. One call runs at a time:
// after each answer the newest frame is sent, and those in between are skipped.
import { cameraInsecure, deviceOf } from "./device.js";
import { isRetryable } from "./replies.js";
import { predict, predictWithRetries } from "./server.js";

const MAX_SIDE = 1280; // of the frames that are sent, in pixels
const JPEG_QUALITY = 0.85;
const RATE_FRAMES = 20; // the frame rate is that of so many answers, and
const RATE_PERIOD = 3000; // of so many milliseconds, at most
const FRAME_TIMEOUT = 250; // milliseconds; a hidden page gets no frames and must notice that it was stopped
const FRAME_INTERVAL = 40; // milliseconds, in browsers that do not report frames

export class Camera {
  /**
   * on has onFrame({answer, times}, {milliseconds, perSecond}) for each answer, onWait(error,
   * milliseconds) before it waits for an overloaded server, and onError(error) when it ends.
   */
  constructor(on) {
    this.on = on;
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.playsInline = true;
    this.canvas = document.createElement("canvas");
  }

  /** start starts the front ("user") or the back camera ("environment"). options() returns the DetectOptions of the next call. */
  async start(facing, options) {
    this.stop();
    const run = (this.run = new AbortController());
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error(cameraInsecure(deviceOf(navigator)));
    }
    const stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 720 } } });
    if (run.signal.aborted) {
      stream.getTracks().forEach((track) => track.stop());
      return;
    }
    this.stream = stream;
    this.video.srcObject = stream;
    await this.video.play();
    stream.getVideoTracks()[0].addEventListener("ended", () => this.run === run && this.on.onError(new Error("The camera was disconnected, or may no longer be used.")));
    this.#loop(run.signal, options);
  }

  get isRunning() {
    return Boolean(this.run);
  }

  /** facing is the side that the camera reports: "user", "environment" or "". */
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

  /** takeFrame returns a promise of the newest frame as a JPEG, reduced to maxSide pixels. */
  takeFrame(maxSide = Infinity) {
    const { width, height } = this.size;
    const scale = Math.min(1, maxSide / Math.max(width, height));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    return new Promise((resolve, reject) => {
      this.canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The camera’s frame could not be encoded."))), "image/jpeg", JPEG_QUALITY);
    });
  }

  async #loop(signal, options) {
    const answered = []; // the times of the last answers
    try {
      while (!signal.aborted) {
        await this.#nextFrame();
        if (signal.aborted) return;
        if (document.hidden) {
          await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
          continue;
        }
        const began = performance.now();
        const reply = await this.#predictFrame(signal, options);
        if (signal.aborted) return;
        const now = performance.now();
        answered.push(now);
        this.on.onFrame(reply, { milliseconds: now - began, perSecond: rateOf(answered) });
      }
    } catch (error) {
      if (!signal.aborted) this.on.onError(error);
    }
  }

  async #predictFrame(signal, options) {
    try {
      return await predict(await this.takeFrame(MAX_SIDE), options(), signal);
    } catch (error) {
      if (!isRetryable(error)) throw error;
      // Do not wait and send the same frame: there is a newer one by now.
      return predictWithRetries(await this.takeFrame(MAX_SIDE), options(), { signal, onWait: (_, pause, e) => this.on.onWait(e, pause) });
    }
  }

  #nextFrame() {
    const { video } = this;
    return new Promise((resolve) => {
      if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
      setTimeout(resolve, video.requestVideoFrameCallback ? FRAME_TIMEOUT : FRAME_INTERVAL);
    });
  }
}

// rateOf returns the answers per second, and drops the times that are too old to count.
function rateOf(times) {
  const now = times.at(-1);
  while (times.length > RATE_FRAMES || now - times[0] > RATE_PERIOD) times.shift();
  return times.length > 1 ? ((times.length - 1) * 1000) / (now - times[0]) : 0;
}
