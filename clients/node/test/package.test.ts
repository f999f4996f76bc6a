// The package as users get it: both module systems, an example, and a process that can exit.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { answers, begins } from "./fake-relay.js";
import { fakeRelay } from "./support.js";

const run = promisify(execFile);
const cwd = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

const AGENT = `
import { Client } from "@rtrelay/client";
const client = new Client({ address: process.argv[1] });
const session = client.session({ heartbeatMs: 1000 });
const answer = session.start({ prompt: "Hi", signal: AbortSignal.timeout(60_000) });
for await (const event of answer) break;
client.generate({ prompt: "Hi" });
await client.close();
console.log((await answer.end).outcome, process.getActiveResourcesInfo().join());
`;

test("a process exits by itself after close", async (t) => {
  const relay = await fakeRelay(t);
  relay.onStart = begins("One");
  relay.onGenerate = () => {};
  const args = ["--input-type=module", "-e", AGENT, relay.address];
  const { stdout } = await run(process.execPath, args, { cwd, timeout: 20_000 });
  assert.match(stdout, /^cancelled /);
});

test("it can be required, and is the same module then", async () => {
  const required = createRequire(path.join(cwd, "index.cjs"))("@rtrelay/client");
  const imported = await import("@rtrelay/client");
  assert.equal(required.RelayError, imported.RelayError);
});

test("the example: a barge-in, and how it ends", async (t) => {
  const relay = await fakeRelay(t);
  relay.onStart = (stream, start) => {
    relay.onStart = answers("It ends well.");
    begins("x".repeat(90))(stream, start);
  };
  const env = { ...process.env, RTRELAY_ADDRESS: relay.address };
  const { stdout } = await run(process.execPath, ["build/examples/agent.js"], { cwd, env });
  assert.equal(stdout, `${"x".repeat(90)}\n[cancelled after 3 tokens]\nIt ends well.\n`);
});

test("the example says when there is no relay", async (t) => {
  const relay = await fakeRelay(t);
  relay.stop();
  const env = { ...process.env, RTRELAY_ADDRESS: relay.address };
  const failed = await run(process.execPath, ["build/examples/agent.js"], { cwd, env }).then(
    () => assert.fail(),
    (error: { code: number; stderr: string }) => error,
  );
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /^no answer from the relay at 127/);
});
