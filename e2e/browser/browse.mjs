// Opens a page in Debian's Chromium and tells what it wrote to the console.
//
// Standard input: {"page": URL, "script": JavaScript to run there, as if typed
// into the console, or "", "messages": how many to wait for, at least}. The
// output: {"messages": [{"type", "text", "values"}], "errors": [...]}, the latter
// what the page threw and did not catch. Waits for the first call of console.log.
import { text } from "node:stream/consumers";
import { launch, patience } from "./chromium.mjs";

// Milliseconds for messages that are missing when the page has logged something.
const grace = 10_000;
const { page: url, script, messages: atLeast } = JSON.parse(await text(process.stdin));

const browser = await launch();
const messages = [];
const errors = [];
try {
  const page = await browser.newPage();
  let done;
  const complete = new Promise((resolve) => (done = resolve));
  let logged = false;
  page.on("console", async (message) => {
    // The order is that of the console, whenever the values arrive.
    const entry = { type: message.type(), text: message.text(), values: [] };
    messages.push(entry);
    entry.values = await Promise.all(message.args().map((arg) => arg.jsonValue()));
    if (entry.type === "log" && !logged) {
      logged = true;
      setTimeout(done, grace);
    }
    if (logged && messages.length >= atLeast) done();
  });
  const failed = (error) => {
    errors.push(String(error));
    done();
  };
  page.on("pageerror", failed);
  setTimeout(() => failed(`nothing was logged in ${patience} ms`), patience);
  await page.goto(url, { timeout: patience });
  if (script) {
    await page.evaluate(`(async () => {\n${script}\n})()`).catch(failed);
  }
  await complete;
} finally {
  await browser.close();
}
console.log(JSON.stringify({ messages, errors }));
process.exit(); // whatever the timers wait for
