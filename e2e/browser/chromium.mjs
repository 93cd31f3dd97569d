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

/** slow makes the page's thread as many times slower as E2E_SLOW says, to see what depends on speed. */
export async function slow(page) {
  const rate = Number(process.env.E2E_SLOW);
  if (!rate) return;
  const session = await page.context().newCDPSession(page);
  await session.send("Emulation.setCPUThrottlingRate", { rate });
}
