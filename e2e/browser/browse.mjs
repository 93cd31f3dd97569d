// Opens a page in Debian's Chromium and reports the messages of its console.
//
// Standard input is JSON: {"page": URL, "script": JavaScript to run in the page, or "",
// "messages": the minimum number of messages to wait for}. Standard output is JSON:
// {"messages": [{"type", "text", "values"}], "errors": [...]}, where errors are the page's
// uncaught ones. It waits for the first call of console.log in any case.
import { text } from "node:stream/consumers";
import { launch, patience } from "./chromium.mjs";

// Milliseconds to wait for more messages after the first call of console.log.
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
    // Add the message before its values have arrived, to keep the order of the console.
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
process.exit(); // timers may be pending
