import assert from "node:assert/strict";
import { test } from "node:test";
import { Reconnect } from "../page/reconnect.js";
import { settle } from "./fixtures.js";

// newReconnect returns one whose server is away until isUp is set, and what it has done.
function newReconnect(t) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const world = { isNeeded: true, isHidden: false, isUp: false, pings: 0, resumed: 0 };
  world.reconnect = new Reconnect({
    isNeeded: () => world.isNeeded,
    isHidden: () => world.isHidden,
    async ping() {
      world.pings++;
      if (!world.isUp) throw new Error("away");
    },
    resume: () => world.resumed++,
  });
  world.pass = async (milliseconds) => {
    t.mock.timers.tick(milliseconds);
    await settle();
  };
  return world;
}

test("the pauses double up to half a minute, and begin anew after a success", async (t) => {
  const world = newReconnect(t);
  world.reconnect.schedule();
  for (const pause of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    const before = world.pings;
    await world.pass(pause - 1);
    assert.equal(world.pings, before, `pinged within ${pause} ms`);
    await world.pass(1);
    assert.equal(world.pings, before + 1, `not pinged after ${pause} ms`);
  }
  assert.equal(world.resumed, 0);
  world.isUp = true;
  await world.pass(30_000);
  assert.equal(world.resumed, 1);
  world.reconnect.schedule();
  await world.pass(1000);
  assert.equal(world.resumed, 2);
});

test("several failures schedule one ping", async (t) => {
  const world = newReconnect(t);
  world.reconnect.schedule();
  world.reconnect.schedule();
  await world.pass(1000);
  assert.equal(world.pings, 1);
});

test("now does not wait", async (t) => {
  const world = newReconnect(t);
  world.reconnect.schedule();
  world.isUp = true;
  await world.reconnect.now();
  assert.equal(world.resumed, 1);
  await world.pass(60_000);
  assert.equal(world.pings, 1);
});

test("nothing is sent while nothing needs the server, or the page is hidden", async (t) => {
  const world = newReconnect(t);
  world.isNeeded = false;
  world.reconnect.schedule();
  await world.reconnect.now();
  await world.pass(60_000);
  Object.assign(world, { isNeeded: true, isHidden: true });
  world.reconnect.schedule();
  await world.pass(60_000);
  assert.equal(world.pings, 0);
  Object.assign(world, { isHidden: false, isUp: true });
  await world.reconnect.now();
  assert.equal(world.resumed, 1);
});
