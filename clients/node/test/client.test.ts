// Options, addresses, TLS, secrets, and what is left after close.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";
import { ServerCredentials, status } from "@grpc/grpc-js";
import { Client, type ClientOptions, codePoints, toChatToolCall, v1 } from "../src/index.js";
import { answers, begins, FakeRelay, hangs } from "./fake-relay.js";
import { clientOf, fakeRelay, pair } from "./support.js";

const CERTIFICATE =
  "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem " +
  "-days 2 -subj /CN=relay.test -addext subjectAltName=DNS:relay.test";

test("bad options are refused by name", () => {
  const refused: [unknown, RegExp][] = [
    [undefined, /a client is an object/],
    [{}, /needs an address/],
    [{ address: [] }, /needs an address/],
    [{ address: "localhost" }, /host:port/],
    [{ address: "http://127.0.0.1:50051" }, /host:port/],
    [{ address: "a:1", key: "x" }, /no key; it has address, apiKey/],
    [{ address: "a:1", reconnect: { giveUp: 1 } }, /reconnect has no giveUp/],
    [{ address: "a:1", reconnect: { giveUpMs: "1" } }, /reconnect\.giveUpMs/],
    [{ address: "a:1", promptCache: "on" }, /promptCache is one of off, auto/],
    [{ address: "a:1", tls: { ca: "x", cert: "y" } }, /come together/],
    [{ address: "a:1", tls: { cacert: "x" } }, /tls has no cacert/],
  ];
  for (const [options, message] of refused) {
    assert.throws(() => new Client(options as ClientOptions), { name: "TypeError", message });
  }
  const good = ["a:1", "[::1]:50051", "unix:/run/relay.sock", "dns:relay.example:443"];
  assert.ok(new Client({ address: good }));
});

test("a key is in no error and in nothing that is printed", async (t) => {
  const secret = "s3cret-key";
  assert.throws(
    () => new Client({ address: "a:1", apiKey: `${secret}\n` }),
    (error: Error) => !inspect(error).includes(secret),
  );
  const relay = await fakeRelay(t);
  relay.refusal = { code: status.UNAUTHENTICATED, reason: "UNAUTHENTICATED" };
  const client = clientOf(t, { address: relay.address, apiKey: secret });
  const session = client.session();
  const answer = session.start({ prompt: "Hi" });
  const error = await answer.text().then(assert.fail, (caught: Error) => caught);
  const stream = await relay.stream();
  assert.deepEqual(stream.call.metadata.get("authorization"), [`Bearer ${secret}`]);
  for (const thing of [error, client, session, answer, await answer.end]) {
    const printed = inspect(thing, { depth: 20, showHidden: true });
    assert.ok(!printed.includes(secret), printed);
    assert.ok(!JSON.stringify(Object.keys(thing)).includes(secret));
  }
});

test("session options go over the client's, labels and budgets by field", async (t) => {
  const relay = await fakeRelay(t);
  relay.onStart = answers("x");
  const client = clientOf(t, {
    address: relay.address,
    budgets: { firstTokenMs: 1, totalMs: 2 },
    labels: { a: "1", b: "2" },
    clientName: "n",
    clientVersion: "v",
  });
  const session = client.session({
    model: "deep",
    budgets: { totalMs: 3 },
    labels: { b: "4" },
    promptCache: "auto",
    prewarmPrompt: { user: "u" },
  });
  await session.ready();
  const { setup } = await relay.stream();
  assert.deepEqual(
    setup,
    v1.Setup.fromPartial({
      ...{ clientName: "n", clientVersion: "v", model: "deep", labels: { a: "1", b: "4" } },
      budgets: { firstTokenMs: 1, totalMs: 3 },
      promptCache: v1.PromptCache.AUTO,
      prewarmPrompt: { user: "u" },
    }),
  );
});

test("over a Unix socket", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "rtrelay-"));
  t.after(() => rm(folder, { recursive: true }));
  const relay = await fakeRelay(t, `unix:${path.join(folder, "relay.sock")}`);
  relay.onStart = answers("fine");
  const session = clientOf(t, { address: relay.address, tls: true }).session();
  assert.equal(await session.start({ prompt: "Hi" }).text(), "fine");
});

test("over TLS, with the roots that are given and no others", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "rtrelay-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = (name: string) => readFileSync(path.join(folder, name));
  try {
    execFileSync("openssl", CERTIFICATE.split(" "), { cwd: folder, stdio: "ignore" });
  } catch {
    t.skip("no openssl to make a certificate with");
    return;
  }
  const pair = { private_key: file("key.pem"), cert_chain: file("cert.pem") };
  const relay = await FakeRelay.start("127.0.0.1:0", ServerCredentials.createSsl(null, [pair]));
  t.after(() => relay.stop());
  relay.onStart = answers("fine");
  const { address } = relay;
  const tls = { ca: file("cert.pem"), serverName: "relay.test" };
  const session = clientOf(t, { address, tls }).session();
  assert.equal(await session.start({ prompt: "Hi" }).text(), "fine");
  const reconnect = { giveUpMs: 50 };
  for (const wrong of [true, { ...tls, serverName: "other.test" }, false]) {
    const answer = clientOf(t, { address, tls: wrong, reconnect })
      .session()
      .start({ prompt: "Hi" });
    assert.equal((await answer.end).error?.code, "UNAVAILABLE");
  }
});

test("close tells the relay, ends what runs, and can be repeated", async (t) => {
  const { relay, client, session } = await pair(t);
  relay.onStart = begins("One");
  const answer = session.start({ prompt: "Hi" });
  const stream = await relay.stream();
  await stream.start();
  await Promise.all([client.close(), session.close()]);
  const end = await answer.end;
  assert.deepEqual(
    [end.outcome, end.cancelReason, end.fromRelay],
    ["cancelled", "session_end", true],
  );
  assert.equal(stream.frames.at(-1)?.$case, "close");
  assert.deepEqual(session.counts, { running: 0, waiting: 0, streams: 0 });
  assert.throws(() => session.start({ prompt: "Hi" }), /closed/);
  assert.throws(() => client.session(), /closed/);
  assert.throws(() => client.generate({ prompt: "Hi" }), /closed/);
  await client.close();
});

test("close while a stream is being opened", async (t) => {
  const relay = await fakeRelay(t);
  relay.isReady = false;
  const client = clientOf(t, { address: relay.address, reconnect: { connectTimeoutMs: 60_000 } });
  const session = client.session();
  const answer = session.start({ prompt: "Hi" });
  const ready = session.ready();
  await (await relay.stream()).start();
  await client.close();
  assert.equal((await answer.end).outcome, "cancelled");
  await assert.rejects(ready);
});

test("close while nobody answers", async (t) => {
  const relay = await fakeRelay(t);
  relay.stop();
  const reconnect = { giveUpMs: 60_000, backoffMs: 60_000, maxBackoffMs: 60_000 };
  const client = clientOf(t, { address: relay.address, reconnect });
  const answer = client.session().start({ prompt: "Hi" });
  const other = client.generate({ prompt: "Hi" });
  await client.close();
  assert.equal((await answer.end).outcome, "cancelled");
  assert.equal((await other.end).outcome, "cancelled");
});

test("who asks does not wait for the next try", async (t) => {
  const relay = await fakeRelay(t);
  const reconnect = { giveUpMs: 1e9, backoffMs: 1e8, maxBackoffMs: 1e8 };
  const client = clientOf(t, { address: relay.address, reconnect });
  const session = client.session();
  await session.ready();
  const gone = session.start({ prompt: "Hi" });
  await (await relay.stream()).start();
  relay.stop();
  const back = await fakeRelay(t, relay.address);
  back.onStart = answers("One");
  while (session.counts.streams > 0) await sleep(5);
  assert.equal(await session.start({ prompt: "Hi" }).text(), "One");
  assert.equal(await gone.text(), "One");
});

test("a relay that does not answer a close is left after a second", async (t) => {
  const { relay, client, session } = await pair(t);
  relay.onStart = hangs;
  const stream = await relay.stream();
  stream.finish = () => {};
  await session.ready();
  await client.close();
  assert.deepEqual(session.counts, { running: 0, waiting: 0, streams: 0 });
});

test("tool calls in OpenAI's terms", () => {
  const extraJson = Buffer.from('{"extra_content": {"google": 1}}');
  const call = v1.ToolCall.fromPartial({ callId: "c", name: "f", arguments: "{}", extraJson });
  assert.deepEqual(toChatToolCall(call), {
    ...{ id: "c", type: "function", extra_content: { google: 1 } },
    function: { name: "f", arguments: "{}" },
  });
  assert.deepEqual(
    toChatToolCall({ ...call, kind: v1.ToolKind.CUSTOM, extraJson: new Uint8Array() }),
    {
      ...{ id: "c", type: "custom", custom: { name: "f", input: "{}" } },
    },
  );
});

test("code points are counted as the relay does", () => {
  assert.equal(codePoints("héllo"), 5);
  assert.equal(codePoints("👋🏽"), 2);
});
