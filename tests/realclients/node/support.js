/**
 * Where the relay and the emulator are, and what a test asks of them. ../test_node.py starts both
 * and names them in the environment, as it does the models and what they say (../behaviours.py).
 */
import assert from "node:assert/strict";

const world = JSON.parse(process.env.WORLD);

/** Texts and names of ../behaviours.py: TEXT, CITY, ANSWERS, ... */
export const { names } = world;
/** Of the relay, without a path. */
export const url = world.url;
export const baseURL = `${url}/v1`;

const FAST = { ttft: "5", itl: "1" };
let count = 0;

async function call(path, body) {
  const init = body && { method: "POST", body: JSON.stringify(body) };
  const response = await fetch(`${world.emulator_url}${path}`, init);
  assert.equal(response.status, 200);
  return response.json();
}

/** A model of the test's own: its first answers one by one, and all after them. */
export async function scripted(then, ...first) {
  count += 1;
  const model = `node-${process.pid}-${count}`;
  await call("/emulator/script", { model, behaviour: { ...FAST, ...then } });
  for (const each of first) {
    const order = { model, behaviour: { ...FAST, ...each }, match: "next", count: 1 };
    await call("/emulator/script", order);
  }
  return `lab/${model}`;
}

/** Number of the newest request at the emulator, for `streams`. */
export async function lastStream() {
  return (await call("/emulator/report")).streams.last_id;
}

/** The requests since, oldest first. */
export async function streams(since) {
  return (await call(`/emulator/streams?since=${since}`)).streams;
}

/** Wait until the relay has given up the one request since. */
export async function abandoned(since) {
  const until = Date.now() + 3000;
  for (;;) {
    const found = await streams(since);
    if (found.length === 1 && found[0].outcome === "abandoned") return;
    assert.ok(Date.now() < until, `not abandoned: ${JSON.stringify(found)}`);
    await new Promise((resolve) => setTimeout(resolve, 10)); // another process
  }
}

/** The reason to skip a test where this relay does not serve a path; else false. */
export async function unserved(path) {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${url}${path}`, { method: "POST", headers, body: "{}" });
  return response.status === 404 && `this relay does not serve ${path}`;
}
