// What is sent, what comes, and how a generation is cancelled.

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { type Generation, RelayError, type StartOptions, v1 } from "../src/index.js";
import { answers, begins, type FakeRelay, hangs, statusOf } from "./fake-relay.js";
import { collect, pair } from "./support.js";

const text = (value: string, charOffset: number) => ({
  type: "text",
  text: value,
  charOffset,
  choice: 0,
});

test("an answer and its end", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = answers("Hel", "lo");
  const answer = session.start({ prompt: "Hi", turnId: "t", tags: ["eu"] });
  assert.deepEqual(await collect(answer), [text("Hel", 0), text("lo", 3)]);
  const end = await answer.end;
  assert.equal(end.outcome, "completed");
  assert.equal(end.fromRelay, true);
  assert.equal(answer.isOver, true);
  assert.equal(answer.requestId, `r-${answer.generationId}`);
  const stream = await relay.stream();
  assert.equal(stream.setup?.model, "fast");
  assert.deepEqual(stream.setup?.labels, { call: "1" });
  assert.deepEqual(stream.call.metadata.get("authorization"), ["Bearer k"]);
  const start = await stream.start();
  assert.deepEqual([start.turnId, start.tags], ["t", ["eu"]]);
  assert.deepEqual(start.input, {
    $case: "prompt",
    value: v1.Prompt.fromPartial({
      messages: [{ role: v1.Role.USER, parts: [{ kind: { $case: "text", value: "Hi" } }] }],
    }),
  });
  assert.equal((await session.ready()).sessionId, "s");
  assert.equal(session.address, relay.address);
});

test("what was decided, and whether kept answers are wanted", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = async (stream, start) => {
    stream.begin(start.generationId);
    const decisionJson = Buffer.from('{"rule":"tools"}');
    stream.end(start.generationId, { decisionJson, cache: "hit" });
  };
  const end = await session.start({ prompt: "Hi", cache: "refresh" }).end;
  assert.deepEqual([end.decision, end.cache], [{ rule: "tools" }, "hit"]);
  assert.equal("decisionJson" in end, false);
  relay.onStart = answers("x");
  assert.deepEqual((await session.start({ prompt: "Hi" }).end).decision, {});
  const { starts } = await relay.stream();
  assert.deepEqual(
    starts.map((start) => start.cache),
    [v1.CacheMode.REFRESH, v1.CacheMode.UNSPECIFIED],
  );
  const odd = { prompt: "Hi", cache: "on" } as unknown as StartOptions;
  assert.throws(() => session.start(odd), /cache is one of off, refresh, only/);
});

test("text that a guardrail withdraws", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = async (stream, { generationId }) => {
    stream.begin(generationId);
    for (const [at, letter] of [..."h\u00e9 \u{1f600} secret"].entries()) {
      stream.say(generationId, letter, at);
    }
    const kind = v1.NoticeKind.RETRACT;
    const fields = { kind, generationId, message: "withdrawn", retractFromChars: 5 };
    stream.send({ $case: "notice", value: v1.Notice.fromPartial(fields) });
    stream.end(generationId);
  };
  const events = await collect(session.start({ prompt: "Hi" }));
  const told = { type: "retract", fromChars: 5, message: "withdrawn", choice: 0 };
  assert.deepEqual(events.at(-1), told);
  assert.equal(await session.start({ prompt: "Hi" }).text(), "h\u00e9 \u{1f600} ");
});

test("kinds of input", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = answers("x");
  const body = '{"messages":[{"role":"user","content":"Hi"}]}';
  const messages = [{ role: "user", content: "Hi" }];
  const inputs: StartOptions[] = [
    { messages },
    { body: { messages } },
    { body },
    { body: Buffer.from(body) },
    { prompt: { user: "u" } },
  ];
  for (const input of inputs) assert.equal(await session.start(input).text(), "x");
  const { starts } = await relay.stream();
  for (const start of starts.slice(0, 4)) {
    assert.equal(start.input?.$case, "openaiChatBody");
    assert.equal(Buffer.from(start.input?.value as Uint8Array).toString(), body);
  }
  assert.deepEqual(starts[4]?.input?.value, v1.Prompt.fromPartial({ user: "u" }));
});

test("options become the fields of the contract", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = answers("x");
  await session.start({
    prompt: "Hi",
    model: "deep",
    budgets: { firstTokenMs: 800, totalMs: 0 },
    output: { textMode: "deltas_and_segments", commitOn: "first_segment", toolArguments: true },
    hedge: { mode: "race", maxAttempts: 2 },
    promptCache: "off",
    speculative: true,
    holdUntilCommit: true,
    labels: { a: "b" },
    traceparent: "00-1-2-03",
  }).end;
  const start = await (await relay.stream()).start();
  assert.deepEqual(start.budgets, v1.Budgets.fromPartial({ firstTokenMs: 800, totalMs: 0 }));
  assert.deepEqual(
    start.output,
    v1.OutputOptions.fromPartial({
      textMode: v1.TextMode.DELTAS_AND_SEGMENTS,
      commitOn: v1.CommitOn.FIRST_SEGMENT,
      toolArguments: true,
    }),
  );
  assert.deepEqual(start.hedge, { mode: v1.HedgeMode.RACE, delayMs: 0, maxAttempts: 2 });
  assert.equal(start.promptCache, v1.PromptCache.OFF);
  assert.deepEqual(
    [start.model, start.speculative, start.holdUntilCommit, start.labels, start.traceparent],
    ["deep", true, true, { a: "b" }, "00-1-2-03"],
  );
});

test("bad options are refused by name and start nothing", async (t) => {
  const { relay, session } = await pair(t);
  const refused: [unknown, RegExp][] = [
    [{}, /exactly one of prompt, messages and body/],
    [{ prompt: "a", messages: [] }, /exactly one/],
    [{ prompt: [] }, /messages go into/],
    [{ messages: "a" }, /messages is a list/],
    [{ prompt: "a", modell: "x" }, /no modell/],
    [{ prompt: "a", budgets: { firstTokenMs: -1 } }, /budgets\.firstTokenMs/],
    [{ prompt: "a", budgets: { firstToken: 1 } }, /budgets has no firstToken/],
    [{ prompt: "a", output: { textMode: "words" } }, /output\.textMode is one of deltas, segments/],
    [{ prompt: "a", labels: { a: 1 } }, /labels\.a/],
    [{ prompt: "a", signal: {} }, /signal/],
    [{ prompt: "a", supersedes: {} }, /supersedes|iterable|map/],
    [{ prompt: { sampling: { topK: -1 } } }, /uint32/i],
  ];
  for (const [options, message] of refused) {
    assert.throws(() => session.start(options as StartOptions), { name: /Error/, message });
  }
  relay.onStart = answers("fine");
  assert.equal(await session.start({ prompt: "Hi" }).text(), "fine");
  assert.equal((await relay.stream()).starts.length, 1);
});

test("tool calls come whole", async (t) => {
  const { relay, session } = await pair(t);
  const call = v1.ToolCall.fromPartial({ callId: "c1", name: "find", arguments: '{"a": 1}' });
  relay.onStart = (stream, { generationId }) => {
    const value = v1.ToolCallDone.fromPartial({ generationId, call });
    stream.send({ $case: "toolCall", value });
    stream.end(generationId, { choices: [{ finishReason: v1.FinishReason.TOOL_CALLS }] });
  };
  const answer = session.start({ prompt: "Hi" });
  assert.deepEqual(await collect(answer), [
    { type: "tool_call", call, index: 0, isPartial: false, choice: 0 },
  ]);
  assert.equal((await answer.end).choices[0]?.finishReason, "tool_calls");
});

test("segments are told, and are the text where they come alone", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = (stream, { generationId }) => {
    stream.segment(generationId, "One. ", 0);
    stream.segment(generationId, "Two.", 1);
    stream.end(generationId);
  };
  assert.deepEqual(await collect(session.start({ prompt: "Hi" }).segments()), ["One. ", "Two."]);
  const output = { textMode: "segments" } as const;
  assert.equal(await session.start({ prompt: "Hi", output }).text(), "One. Two.");
  assert.equal(await session.start({ prompt: "Hi" }).text(), "");
});

test("a merged delta holds several kinds", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = (stream, { generationId }) => {
    const value = v1.Delta.fromPartial({
      ...{ generationId, text: "a", reasoning: "b", refusal: "c" },
      toolArguments: [{ index: 1, fragment: "{" }],
      audio: { audioId: "x", data: new Uint8Array([1]) },
      extras: [{ key: "k", valueJson: Buffer.from("1") }],
    });
    stream.send({ $case: "delta", value });
    stream.end(generationId);
  };
  const events = await collect(session.start({ prompt: "Hi" }));
  assert.deepEqual(
    events.map((event) => event.type),
    ["reasoning", "text", "refusal", "tool_arguments", "audio", "extra"],
  );
});

test("a failure is thrown after what came, with what the relay said", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = (stream, start) => {
    begins("Hel")(stream, start);
    const error = statusOf(status.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED", "slow down");
    stream.end(start.generationId, { outcome: v1.Outcome.FAILED, error });
  };
  const answer = session.start({ prompt: "Hi" });
  const reader = answer[Symbol.asyncIterator]();
  assert.deepEqual(await reader.next(), { value: text("Hel", 0), done: false });
  const error = await reader.next().then(
    () => assert.fail(),
    (caught: unknown) => caught,
  );
  assert.ok(error instanceof RelayError);
  assert.deepEqual(
    [error.code, error.reason, error.message, error.retryAfterMs, error.retryable],
    ["RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED", "slow down", 1500, true],
  );
  assert.deepEqual(
    [error.provider, error.upstreamStatus, error.details.provider_code],
    ["lab", 429, "slow"],
  );
  const end = await answer.end;
  assert.equal(end.outcome, "failed");
  assert.equal(end.error, error);
  assert.equal(error.end, end);
});

// --- cancels ------------------------------------------------------------------------------------

/** It was cancelled: the relay was told once, its end has come, nothing is delivered, the stream lives. */
async function assertStopped(answer: Generation, relay: FakeRelay, reason = 0): Promise<void> {
  const end = await answer.end;
  const stream = await relay.stream();
  assert.deepEqual(stream.cancels, [{ id: answer.generationId, reason }]);
  assert.equal(answer.isCancelled, true);
  assert.equal(end.outcome, "cancelled");
  assert.equal(end.usage?.completionTokens, 3);
  assert.deepEqual(await collect(answer), []);
  assert.equal(relay.streams.length, 1);
}

test("leaving the loop is a cancel", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = begins("One");
  const answer = session.start({ prompt: "Hi" });
  for await (const event of answer) {
    assert.deepEqual(event, text("One", 0));
    break;
  }
  await assertStopped(answer, relay);
  relay.onStart = answers("fine");
  assert.equal(await session.start({ prompt: "Hi" }).text(), "fine");
});

test("an exception in the loop is a cancel", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = begins("One");
  const answer = session.start({ prompt: "Hi" });
  const read = async () => {
    for await (const piece of answer.textStream()) throw new Error(`mine ${piece}`);
  };
  await assert.rejects(read(), /mine One/);
  await assertStopped(answer, relay);
});

test("cancel is idempotent and resolves with the end", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = begins("One");
  const answer = session.start({ prompt: "Hi" });
  await (await relay.stream()).start();
  const [first, second] = await Promise.all([answer.cancel("barge_in"), answer.cancel()]);
  assert.equal(first, second);
  assert.equal(first.cancelReason, "barge_in");
  assert.throws(() => answer.cancel("no" as "barge_in"), /reason is one of barge_in/);
  await assertStopped(answer, relay, v1.CancelReason.BARGE_IN);
});

test("a waiting reader is woken by a cancel", async (t) => {
  const { relay, session } = await pair(t);
  const answer = session.start({ prompt: "Hi" });
  const whole = answer.text();
  await (await relay.stream()).start();
  void answer.cancel();
  assert.equal(await whole, "");
  await assertStopped(answer, relay);
});

test("what comes between a cancel and its end, and after it, is not delivered", async (t) => {
  const { relay, session } = await pair(t);
  relay.isAnsweringCancels = false;
  relay.onStart = begins("One");
  const answer = session.start({ prompt: "Hi" });
  const reader = answer[Symbol.asyncIterator]();
  await reader.next();
  const ended = answer.cancel("barge_in");
  const stream = await relay.stream();
  await stream.until(() => stream.cancels.length > 0);
  stream.say(answer.generationId, "late", 3);
  stream.end(answer.generationId, { outcome: v1.Outcome.CANCELLED });
  const end = await ended;
  stream.say(answer.generationId, "later", 7);
  stream.end(answer.generationId, { outcome: v1.Outcome.COMPLETED });
  await session.ping();
  assert.deepEqual(await reader.next(), { value: undefined, done: true });
  assert.equal(await answer.end, end);
  assert.equal(end.outcome, "cancelled");
});

test("a signal cancels one generation and never the stream", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = begins("One");
  const controller = new AbortController();
  const aborted = session.start({ prompt: "Hi", signal: controller.signal });
  const other = session.start({ prompt: "Hi" });
  const stream = await relay.stream();
  await stream.start(1);
  controller.abort("barge_in");
  const end = await aborted.end;
  assert.equal(end.cancelReason, "barge_in");
  assert.equal(getEventListeners(controller.signal, "abort").length, 0);
  stream.end(other.generationId);
  assert.equal(await other.text(), "One");
  assert.equal(relay.streams.length, 1);
});

test("a signal that outlives its generations keeps none of them", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = answers("x");
  const { signal } = new AbortController();
  for (let i = 0; i < 20; i++) await session.start({ prompt: "Hi", signal }).end;
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("a signal that is aborted already starts nothing", async (t) => {
  const { relay, session } = await pair(t);
  await session.ready();
  const timedOut = new DOMException("timed out", "TimeoutError");
  const answer = session.start({ prompt: "Hi", signal: AbortSignal.abort(timedOut) });
  const end = await answer.end;
  assert.deepEqual([end.outcome, end.cancelReason], ["cancelled", "client_timeout"]);
  assert.equal(end.fromRelay, false);
  await session.ping();
  assert.equal((await relay.stream()).starts.length, 0);
});

test("cancelled while it waits for a stream it is never sent", async (t) => {
  const { relay, client } = await pair(t);
  const session = client.session();
  const answer = session.start({ prompt: "Hi", turnId: "t" }); // before a stream is opened
  assert.deepEqual(session.counts, { running: 0, waiting: 1, streams: 0 });
  const end = await answer.cancel("superseded");
  assert.deepEqual(
    [end.outcome, end.cancelReason, end.fromRelay, end.turnId],
    ["cancelled", "superseded", false, "t"],
  );
  await session.ping();
  assert.equal(relay.streams.flatMap((stream) => stream.starts).length, 0);
});

test("cancelled right behind its start it is told in order", async (t) => {
  const { relay, session } = await pair(t);
  await session.ready();
  const answer = session.start({ prompt: "Hi" });
  await answer.cancel("barge_in");
  const stream = await relay.stream();
  assert.deepEqual(
    stream.frames.map((frame) => frame?.$case),
    ["setup", "start", "cancel"],
  );
});

test("superseding", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = begins("One");
  const first = session.start({ prompt: "Hi" });
  const stream = await relay.stream();
  await stream.start();
  relay.onStart = answers("Two");
  const second = session.start({ prompt: "Hi", supersedes: first });
  assert.equal(await second.text(), "Two");
  assert.deepEqual(stream.starts[1]?.supersedes, [first.generationId]);
  assert.deepEqual(stream.cancels, []);
  assert.equal(first.isCancelled, true);
  assert.deepEqual(await collect(first), []);
});

test("a speculation is committed once", async (t) => {
  const { relay, session } = await pair(t);
  const answer = session.start({ prompt: "Hi", speculative: true, holdUntilCommit: true });
  answer.commit(); // before a stream has it
  answer.commit();
  const stream = await relay.stream();
  await stream.until(() => stream.commits.length > 0);
  await session.ping();
  assert.deepEqual(stream.commits, [answer.generationId]);
  stream.end(answer.generationId);
  await answer.end;
  answer.commit();
});

test("two readers at once are refused", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = hangs;
  const answer = session.start({ prompt: "Hi" });
  const first = answer.text();
  await assert.rejects(answer[Symbol.asyncIterator]().next(), /somebody else/);
  await answer.cancel();
  assert.equal(await first, "");
});

test("many generations share a stream", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = hangs;
  const all = Array.from({ length: 20 }, () => session.start({ prompt: "Hi" }));
  const stream = await relay.stream();
  await stream.start(19);
  assert.deepEqual(session.counts, { running: 20, waiting: 0, streams: 1 });
  for (const [number, { generationId }] of all.entries()) {
    for (const digit of `${number}`) stream.say(generationId, digit);
  }
  for (const { generationId } of [...all].reverse()) stream.end(generationId);
  const texts = await Promise.all(all.map((answer) => answer.text()));
  assert.deepEqual(
    texts,
    all.map((_, number) => `${number}`),
  );
  assert.deepEqual(session.counts, { running: 0, waiting: 0, streams: 1 });
});
