// Debian's Chromium, as all tests here start it.
import { chromium } from "playwright-core";

/** patience is how long anything may take, in milliseconds; the machine may be busy. */
export const patience = 45_000;

export function launch(...args) {
  return chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...args,
    ],
    timeout: patience,
  });
}
