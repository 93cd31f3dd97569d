import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const folder = new URL("../page/", import.meta.url);

const modules = readdirSync(folder).filter((name) => name.endsWith(".js"));
const sources = new Map(modules.map((name) => [name, readFileSync(new URL(name, folder), "utf8")]));
const imports = new Map(modules.map((name) => [name, [...sources.get(name).matchAll(/^import .* from "\.\/(.+)";$/gm)].map(([, from]) => from)]));
const headerOf = (name) => /^(\/\/.*\n)*/.exec(sources.get(name))[0];

test("modules import each other in one direction only", () => {
  const done = new Set();
  const visit = (name, path) => {
    assert.ok(!path.includes(name), `a cycle: ${[...path, name].join(" → ")}`);
    if (done.has(name)) return;
    done.add(name);
    for (const from of imports.get(name)) visit(from, [...path, name]);
  };
  visit("page.js", []);
  // Every module is used; the worker is started by its URL.
  assert.deepEqual(modules.filter((name) => !done.has(name)), ["worker.js"]);
});

test("each module begins with a comment that says what it owns", () => {
  assert.deepEqual(modules.filter((name) => !headerOf(name)), []);
});

test("modules that call themselves pure import such modules only, and know no document", () => {
  const pure = modules.filter((name) => /\bPure[.,:]/.test(headerOf(name)));
  assert.ok(pure.length > 10, `only ${pure} are pure`);
  for (const name of pure) {
    for (const from of imports.get(name)) assert.ok(pure.includes(from), `${name} imports ${from}`);
    assert.doesNotMatch(sources.get(name), /\b(document|window|navigator)\b\.|\bfetch\(\w/, name);
  }
});
