// Streams that break, relays that drain, answer late or not at all, and who does not read.

import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { RelayError, v1 } from "../src/index.js";
import { answers, begins, hangs, statusOf } from "./fake-relay.js";
import { clientOf, collect, fakeRelay, pair } from "./support.js";

function failsWith(fields: Partial<RelayError>): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof RelayError);
    for (const [key, value] of Object.entries(fields)) {
      assert.deepEqual(error[key as keyof RelayError], value, key);
    }
    return true;
  };
}

test("a stream that breaks before output: started again under the same id", async (t) => {
  const { relay, session } = await pair(t);
  const answer = session.start({ prompt: "Hi" });
  const first = await relay.stream();
  const { generationId } = await first.start();
  relay.onStart = answers("fine");
  first.abort();
  assert.equal(await answer.text(), "fine");
  const second = await relay.stream(1);
  assert.equal((await second.start()).generationId, generationId);
  assert.equal((await answer.end).outcome, "completed");
});

test("a stream that breaks after output: the failure is told, nothing is started again", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = begins("One");
  const answer = session.start({ prompt: "Hi" });
  const reader = answer[Symbol.asyncIterator]();
  await reader.next();
  (await relay.stream()).abort(status.UNAVAILABLE, "", "gone");
  await assert.rejects(
    reader.next(),
    failsWith({ reason: "STREAM_LOST", code: "UNAVAILABLE", retryable: true, message: "gone" }),
  );
  const end = await answer.end;
  assert.deepEqual([end.outcome, end.fromRelay], ["failed", false]);
  relay.onStart = answers("fine");
  assert.equal(await session.start({ prompt: "Hi" }).text(), "fine");
  assert.equal((await relay.stream(1)).starts.length, 1);
});

test("a relay that is killed: sockets cut, the next address takes over", async (t) => {
  const first = await fakeRelay(t);
  const second = await fakeRelay(t);
  second.onStart = answers("fine");
  const client = clientOf(t, { address: [first.address, second.address] });
  const session = client.session();
  const waiting = session.start({ prompt: "Hi" });
  const stream = await first.stream();
  await stream.start();
  first.onStart = begins("One");
  const speaking = session.start({ prompt: "Hi" });
  const reader = speaking[Symbol.asyncIterator]();
  await reader.next();
  first.stop();
  assert.equal(await waiting.text(), "fine");
  await assert.rejects(reader.next(), failsWith({ reason: "STREAM_LOST" }));
  assert.equal(session.address, second.address);
});

test("output and ends that came before a status are not lost to it", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = (stream, start) => {
    answers(..."abcdefghij")(stream, start);
    stream.abort(status.UNAVAILABLE, "DRAINING");
  };
  for (let i = 0; i < 5; i++) {
    const answer = session.start({ prompt: "Hi" });
    assert.equal(await answer.text(), "abcdefghij");
    assert.equal((await answer.end).fromRelay, true);
  }
});

test("what kills relays does not visit them all", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = (stream, start) => {
    hangs(stream, start);
    stream.abort();
  };
  const answer = session.start({ prompt: "Hi" });
  await assert.rejects(answer.text(), failsWith({ code: "UNAVAILABLE" }));
  const starts = relay.streams.reduce((sum, stream) => sum + stream.starts.length, 0);
  assert.equal(starts, 4);
});

test("a status that would come again is told at once", async (t) => {
  const { relay, session } = await pair(t);
  relay.refusal = { code: status.UNAUTHENTICATED, reason: "UNAUTHENTICATED" };
  const answer = session.start({ prompt: "Hi" });
  await assert.rejects(
    answer.text(),
    failsWith({ reason: "UNAUTHENTICATED", code: "UNAUTHENTICATED" }),
  );
  await assert.rejects(session.ready(), RelayError);
});

test("no relay: what waits fails, and a later start tries anew", async (t) => {
  const { relay, session } = await pair(t);
  relay.stop();
  const answer = session.start({ prompt: "Hi" });
  await assert.rejects(answer.text(), failsWith({ code: "UNAVAILABLE", retryable: true }));
  assert.deepEqual(session.counts, { running: 0, waiting: 0, streams: 0 });
  const again = await fakeRelay(t, relay.address);
  again.onStart = answers("fine");
  assert.equal(await session.start({ prompt: "Hi" }).text(), "fine");
});

test("a relay that is never ready is left for the next address", async (t) => {
  const first = await fakeRelay(t);
  const second = await fakeRelay(t);
  first.isReady = false;
  second.onStart = answers("fine");
  const client = clientOf(t, {
    address: [first.address, second.address],
    reconnect: { connectTimeoutMs: 30 },
  });
  assert.equal(await client.session().start({ prompt: "Hi" }).text(), "fine");
});

test("a drain: what runs finishes, new starts go to a fresh stream on its own connection", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = begins("One");
  const running = session.start({ prompt: "Hi" });
  const first = await relay.stream();
  await first.start();
  first.drain();
  const second = await relay.stream(1); // before it is needed
  relay.onStart = answers("Two");
  assert.equal(await session.start({ prompt: "Hi" }).text(), "Two");
  assert.equal(second.starts.length, 1);
  assert.notEqual(second.call.getPeer(), first.call.getPeer());
  first.say(running.generationId, " more", 3);
  first.end(running.generationId);
  assert.equal(await running.text(), "One more");
  await first.until(() => first.isOver);
});

test("refused because the relay drains: started again elsewhere", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = (stream, { generationId }) => {
    relay.onStart = answers("fine");
    const error = statusOf(status.UNAVAILABLE, "DRAINING");
    stream.end(generationId, { outcome: v1.Outcome.FAILED, error });
  };
  assert.equal(await session.start({ prompt: "Hi" }).text(), "fine");
  assert.equal(relay.streams.length, 2);
});

test("cancelled on a stream that breaks: cancelled, not failed", async (t) => {
  const { relay, session } = await pair(t);
  relay.isAnsweringCancels = false;
  relay.onStart = begins("One");
  const answer = session.start({ prompt: "Hi" });
  const stream = await relay.stream();
  const ended = answer.cancel("barge_in");
  await stream.start();
  stream.abort();
  const end = await ended;
  assert.deepEqual([end.outcome, end.cancelReason], ["cancelled", "barge_in"]);
});

test("an idle session ends, and the next start opens another stream", async (t) => {
  const { relay, session } = await pair(t);
  await session.ready();
  const stream = await relay.stream();
  stream.abort(status.UNAVAILABLE, "SESSION_IDLE");
  relay.onStart = answers("fine");
  assert.equal(await session.start({ prompt: "Hi" }).text(), "fine");
});

test("a start that is too large is refused here, and what it supersedes stops", async (t) => {
  const relay = await fakeRelay(t);
  relay.maxFrameBytes = 1000;
  const session = clientOf(t, { address: relay.address }).session();
  await session.ready();
  relay.onStart = begins("One");
  const first = session.start({ prompt: "Hi" });
  const large = session.start({ prompt: "x".repeat(2000), supersedes: [first] });
  await assert.rejects(large.text(), failsWith({ reason: "REQUEST_TOO_LARGE", retryable: false }));
  assert.equal((await first.end).cancelReason, "superseded");
});

test("a frame that was refused ends its generation", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = (stream, { generationId }) => {
    const error = statusOf(status.INVALID_ARGUMENT, "INVALID_REQUEST", "bad");
    const kind = v1.NoticeKind.FRAME_REJECTED;
    stream.send({ $case: "notice", value: v1.Notice.fromPartial({ kind, generationId, error }) });
  };
  const answer = session.start({ prompt: "Hi" });
  await assert.rejects(answer.text(), failsWith({ reason: "INVALID_REQUEST", message: "bad" }));
});

test("a ping is answered; one on a stream that breaks is not", async (t) => {
  const { relay, session } = await pair(t);
  assert.ok((await session.ping()) >= 0);
  relay.isAnsweringPings = false;
  const stream = await relay.stream();
  const ping = session.ping();
  await stream.until(() => stream.frames.length === 3);
  stream.abort();
  await assert.rejects(ping, RelayError);
});

test("a heartbeat gives up a relay that hangs", async (t) => {
  const first = await fakeRelay(t);
  const second = await fakeRelay(t);
  first.isAnsweringPings = false;
  second.onStart = answers("fine");
  const client = clientOf(t, { address: [first.address, second.address] });
  const session = client.session({ heartbeatMs: 20 });
  assert.equal(await session.start({ prompt: "Hi" }).text(), "fine");
});

// --- buffers ------------------------------------------------------------------------------------

test("who does not read gets merged text and stops nobody", async (t) => {
  const { relay, session } = await pair(t);
  const words = Array.from({ length: 5000 }, (_, number) => `${number} `);
  relay.onStart = answers(...words);
  const slow = session.start({ prompt: "Hi" });
  await slow.end;
  assert.equal(await session.start({ prompt: "Hi" }).text(), words.join(""));
  const events = await collect(slow);
  assert.ok(events.length < 300, `${events.length} events`);
  let offset = 0;
  for (const event of events) {
    assert.ok(event.type === "text");
    assert.equal(event.charOffset, offset);
    offset += event.text.length;
  }
  assert.equal(offset, words.join("").length);
});

test("what cannot be merged ends its generation and no other", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = (stream, { generationId }) => {
    for (let index = 0; index < 3000; index++) stream.segment(generationId, "A. ", index);
  };
  const answer = session.start({ prompt: "Hi" });
  const end = await answer.end;
  assert.equal(end.error?.reason, "SLOW_CONSUMER");
  const stream = await relay.stream();
  await stream.until(() => stream.cancels.length > 0);
  assert.deepEqual(session.counts, { running: 0, waiting: 0, streams: 1 });
  relay.onStart = answers("fine");
  assert.equal(await session.start({ prompt: "Hi" }).text(), "fine");
});

test("unread sound is bounded by its bytes", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = (stream, { generationId }) => {
    for (let index = 0; index < 9; index++) {
      const audio = { audioId: "a", data: new Uint8Array(2 * 1024 * 1024) };
      stream.send({ $case: "delta", value: v1.Delta.fromPartial({ generationId, audio }) });
    }
  };
  const end = await session.start({ prompt: "Hi" }).end;
  assert.equal(end.error?.reason, "SLOW_CONSUMER");
});

test("a thousand starts and cancels leave nothing", async (t) => {
  const { relay, session } = await pair(t);
  relay.onStart = begins("One");
  const ends = [];
  for (let i = 0; i < 1000; i++) {
    const answer = session.start({ prompt: "Hi" });
    ends.push(answer.cancel("barge_in"));
    if (i % 50 === 0) await session.ping();
  }
  const outcomes = new Set((await Promise.all(ends)).map((end) => end.outcome));
  assert.deepEqual([...outcomes], ["cancelled"]);
  assert.deepEqual(session.counts, { running: 0, waiting: 0, streams: 1 });
});
