// Finds out when a server that could not be reached is back. Pure, but for timers.

const FIRST_PAUSE = 1_000; // milliseconds
const MAX_PAUSE = 30_000;

export class Reconnect {
  #pause = 0;
  #timer = 0;

  /**
   * isNeeded() reports whether anything waits for the server; isHidden() whether the page is
   * hidden, when no request is sent; ping() returns a promise that rejects while the server
   * cannot be reached; resume() is called when it is back.
   */
  constructor({ isNeeded, isHidden, ping, resume }) {
    Object.assign(this, { isNeeded, isHidden, ping, resume });
  }

  /** schedule pings the server after a pause, which doubles after each failure. */
  schedule() {
    if (this.#timer || !this.isNeeded()) return;
    this.#pause = Math.min(this.#pause * 2 || FIRST_PAUSE, MAX_PAUSE);
    this.#timer = setTimeout(() => this.now(), this.#pause);
  }

  /** now pings the server without a pause, as when the network is back or the page is visible again. */
  async now() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (this.isHidden() || !this.isNeeded()) return;
    try {
      await this.ping();
    } catch {
      this.schedule();
      return;
    }
    this.#pause = 0;
    this.resume();
  }
}
