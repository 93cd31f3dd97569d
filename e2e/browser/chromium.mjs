// Starts Debian's Chromium.
import { chromium } from "playwright-core";

/** patience is the limit of each wait in milliseconds. The machine may be busy. */
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

/** slow throttles the page's thread by the factor in E2E_SLOW, to find tests that depend on speed. */
export async function slow(page) {
  const rate = Number(process.env.E2E_SLOW);
  if (!rate) return;
  const session = await page.context().newCDPSession(page);
  await session.send("Emulation.setCPUThrottlingRate", { rate });
}
