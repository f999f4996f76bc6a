// One generation over the Generate RPC.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { RelayError, type StartOptions, v1 } from "../src/index.js";
import { statusOf, trailersOf } from "./fake-relay.js";
import { clientOf, collect, fakeRelay } from "./support.js";

type Frame = NonNullable<v1.GenerateResponse["frame"]>;
const generationId = "g";
const started: Frame = { $case: "started", value: { generationId, requestId: "r" } };
const said: Frame = {
  $case: "delta",
  value: v1.Delta.fromPartial({ generationId, text: "One" }),
};

function ended(more: v1.DeepPartial<v1.End> = {}): Frame {
  const outcome = v1.Outcome.COMPLETED;
  return { $case: "end", value: v1.End.fromPartial({ generationId, outcome, ...more }) };
}

test("an answer and its end", async (t) => {
  const relay = await fakeRelay(t);
  relay.onGenerate = (call) => {
    for (const frame of [started, said, ended()]) call.write({ frame });
    call.end();
  };
  const client = clientOf(t, { address: relay.address, apiKey: "k", labels: { a: "b" } });
  const answer = client.generate({ prompt: "Hi", labels: { c: "d" } });
  assert.equal(await answer.text(), "One");
  assert.deepEqual([answer.generationId, answer.requestId], ["g", "r"]);
  assert.equal((await answer.end).outcome, "completed");
  const [call] = relay.generates;
  assert.deepEqual(call?.metadata.get("authorization"), ["Bearer k"]);
  assert.equal(call?.request.start?.model, "fast");
  assert.deepEqual(call?.request.start?.labels, { a: "b", c: "d" });
});

test("text is withdrawn without a session too", async (t) => {
  const relay = await fakeRelay(t);
  relay.onGenerate = (call) => {
    for (const kind of [v1.NoticeKind.DRAIN, v1.NoticeKind.RETRACT]) {
      const value = v1.Notice.fromPartial({ kind, generationId: "g", retractFromChars: 1 });
      const notice = { $case: "notice", value } as const;
      for (const frame of kind === v1.NoticeKind.DRAIN ? [started, notice, said] : [notice]) {
        call.write({ frame });
      }
    }
    call.write({ frame: ended() });
    call.end();
  };
  const client = clientOf(t, { address: relay.address });
  const [word, ...rest] = await collect(client.generate({ prompt: "Hi" }));
  assert.equal(word?.type, "text");
  assert.deepEqual(rest, [{ type: "retract", fromChars: 1, message: "", choice: 0 }]);
  assert.equal(await client.generate({ prompt: "Hi" }).text(), "O");
});

test("a failure has its end, with what was tried", async (t) => {
  const relay = await fakeRelay(t);
  relay.onGenerate = (call) => {
    const error = statusOf(status.DEADLINE_EXCEEDED, "FIRST_TOKEN_TIMEOUT", "too slow");
    const attempts = [{ provider: "lab", reason: v1.ErrorReason.FIRST_TOKEN_TIMEOUT }];
    call.write({ frame: started });
    call.write({ frame: ended({ outcome: v1.Outcome.FAILED, error, attempts }) });
    call.emit("error", { code: error.code, details: "too slow" });
  };
  const answer = clientOf(t, { address: relay.address }).generate({ prompt: "Hi" });
  await assert.rejects(answer.text(), { reason: "FIRST_TOKEN_TIMEOUT", code: "DEADLINE_EXCEEDED" });
  const end = await answer.end;
  assert.deepEqual([end.fromRelay, end.attempts[0]?.reason], [true, "FIRST_TOKEN_TIMEOUT"]);
  assert.equal(relay.generates.length, 1);
});

test("a cancel ends the RPC, and the end is made here", async (t) => {
  const relay = await fakeRelay(t);
  relay.onGenerate = (call) => {
    for (const frame of [started, said]) call.write({ frame });
  };
  const controller = new AbortController();
  const { signal } = controller;
  const answer = clientOf(t, { address: relay.address }).generate({ prompt: "Hi", signal });
  const [piece] = await Promise.all([answer[Symbol.asyncIterator]().next(), relay.generateCall()]);
  assert.equal(piece.done, false);
  const cancelled = new Promise((resolve) => relay.generates[0]?.once("cancelled", resolve));
  controller.abort("barge_in");
  const end = await answer.end;
  assert.deepEqual(
    [end.outcome, end.cancelReason, end.fromRelay],
    ["cancelled", "barge_in", false],
  );
  assert.equal(end.requestId, "r");
  await cancelled;
  assert.deepEqual(await collect(answer), []);
});

test("a relay that drains or is gone: the next address", async (t) => {
  const gone = await fakeRelay(t);
  gone.stop();
  const drains = await fakeRelay(t);
  drains.onGenerate = (call) => {
    const error = statusOf(status.UNAVAILABLE, "DRAINING");
    call.write({ frame: ended({ outcome: v1.Outcome.FAILED, error }) });
    const metadata = trailersOf(status.UNAVAILABLE, "DRAINING");
    call.emit("error", { code: status.UNAVAILABLE, details: "", metadata });
  };
  const works = await fakeRelay(t);
  works.onGenerate = (call) => {
    for (const frame of [started, said, ended()]) call.write({ frame });
    call.end();
  };
  const address = [gone.address, drains.address, works.address];
  assert.equal(await clientOf(t, { address }).generate({ prompt: "Hi" }).text(), "One");
});

test("broken before output it is tried again, after output the failure is told", async (t) => {
  const relay = await fakeRelay(t);
  relay.onGenerate = (call) => {
    call.write({ frame: started });
    if (relay.generates.length > 1) call.write({ frame: said });
    call.emit("error", { code: status.UNAVAILABLE, details: "gone" });
  };
  const answer = clientOf(t, { address: relay.address }).generate({ prompt: "Hi" });
  const reader = answer[Symbol.asyncIterator]();
  assert.equal((await reader.next()).done, false);
  await assert.rejects(reader.next(), { reason: "STREAM_LOST", code: "UNAVAILABLE" });
  assert.equal(relay.generates.length, 2);
});

test("refused for good it is not tried again", async (t) => {
  const relay = await fakeRelay(t);
  relay.onGenerate = (call) => {
    const metadata = trailersOf(status.UNAUTHENTICATED, "UNAUTHENTICATED", "who are you?");
    call.emit("error", { code: status.UNAUTHENTICATED, details: "", metadata });
  };
  const answer = clientOf(t, { address: relay.address }).generate({ prompt: "Hi" });
  await assert.rejects(answer.text(), { code: "UNAUTHENTICATED", message: "who are you?" });
  assert.equal(relay.generates.length, 1);
});

test("no relay: it fails in time", async (t) => {
  const relay = await fakeRelay(t);
  relay.stop();
  const client = clientOf(t, { address: relay.address, reconnect: { giveUpMs: 50 } });
  const end = await client.generate({ prompt: "Hi" }).end;
  assert.ok(end.error instanceof RelayError);
  assert.equal(end.error.code, "UNAVAILABLE");
});

test("what needs a session is refused by name", async (t) => {
  const client = clientOf(t, { address: "127.0.0.1:1" });
  const options = { prompt: "Hi", speculative: true } as StartOptions;
  assert.throws(() => client.generate(options), /generate has no speculative/);
});

test("cancelled right behind its start it does not go on at the relay", async (t) => {
  const relay = await fakeRelay(t);
  relay.onGenerate = (call) => {
    for (const frame of [started, ended()]) call.write({ frame });
    call.end();
  };
  const client = clientOf(t, { address: relay.address });
  await client.generate({ prompt: "a connection" }).end;
  relay.onGenerate = (call) => call.write({ frame: started });
  const answer = client.generate({ prompt: "Hi" });
  void answer.cancel();
  relay.onGenerate = (call) => {
    if (call.request.start?.turnId !== "last") return;
    for (const frame of [started, ended()]) call.write({ frame });
    call.end();
  };
  await client.generate({ prompt: "Hi", turnId: "last" }).end; // behind it on the same connection
  for (const call of relay.generates.slice(1, -1)) {
    if (!call.cancelled) await once(call, "cancelled");
  }
});

test("closing the client cancels it", async (t) => {
  const relay = await fakeRelay(t);
  relay.onGenerate = (call) => call.write({ frame: started });
  const client = clientOf(t, { address: relay.address });
  const answer = client.generate({ prompt: "Hi" });
  await relay.generateCall();
  await client.close();
  assert.equal((await answer.end).cancelReason, "session_end");
});
