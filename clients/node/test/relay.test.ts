// The client with a real relay and its emulator.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { Client, RelayError, v1 } from "../src/index.js";
import { Lab, noRelay } from "./relay-process.js";
import { collect } from "./support.js";

const LONG = "lab/emu:ttft=20,itl=5,tokens=2000";

describe("with a real relay", { skip: noRelay }, () => {
  let lab: Lab;
  let client: Client;
  let address: string;

  before(async () => {
    lab = await Lab.start();
    ({ address } = await lab.relay());
    client = new Client({ address, model: "lab/emu:ttft=20,itl=2,tokens=30" });
  });

  after(async () => {
    await client.close();
    await lab.stop();
  });

  test("an answer, its end and its account of the time", async () => {
    const session = client.session();
    const ready = await session.ready();
    assert.ok(ready.capabilities.includes("speculation"));
    const answer = session.start({ prompt: "Hi" });
    const whole = await answer.text();
    const end = await answer.end;
    assert.equal(end.outcome, "completed");
    assert.equal(end.choices[0]?.finishReason, "stop");
    assert.equal(end.choices[0]?.textChars, whole.length);
    assert.equal(end.usageFinal, true);
    assert.ok((end.usage?.completionTokens ?? 0) > 0);
    assert.ok((end.timeline?.wallUs ?? 0) > 20_000);
    assert.deepEqual([end.provider, end.attempts[0]?.isWinner], ["lab", true]);
    assert.ok((await session.ping()) >= 0);
    await session.close();
  });

  test("a barge-in, and the next turn on the same stream", async () => {
    const session = client.session();
    const answer = session.start({ prompt: "Hi", model: LONG });
    for await (const piece of answer.textStream()) {
      if (piece) break;
    }
    const end = await answer.cancel("barge_in");
    assert.deepEqual([end.outcome, end.fromRelay], ["cancelled", true]);
    assert.equal(end.usageFinal, false);
    assert.ok(end.usage);
    const next = session.start({ messages: [{ role: "user", content: "And now?" }] });
    assert.notEqual(await next.text(), "");
    assert.equal(session.counts.streams, 1);
    await session.close();
  });

  test("segments make the text", async () => {
    const session = client.session();
    const answer = session.start({ prompt: "Hi", output: { textMode: "deltas_and_segments" } });
    const events = await collect(answer);
    const textOf = (type: "text" | "segment") =>
      events.map((event) => (event.type === type ? event.text : "")).join("");
    assert.equal(textOf("segment"), textOf("text"));
    await session.close();
  });

  test("tool calls of a speculation come whole, after the commit", async () => {
    const session = client.session();
    const answer = session.start({
      body: {
        messages: [{ role: "user", content: "What does it cost?" }],
        tools: [{ type: "function", function: { name: "price", parameters: { type: "object" } } }],
      },
      model: "lab/emu-tools",
      speculative: true,
    });
    answer.commit();
    const calls = (await collect(answer)).filter((event) => event.type === "tool_call");
    assert.ok(calls.length > 0);
    for (const { call } of calls) assert.ok(call.callId && JSON.parse(call.arguments));
    await session.close();
  });

  test("held output waits for its commit", async () => {
    const session = client.session();
    const held = session.start({ prompt: "Hi", speculative: true, holdUntilCommit: true });
    const reader = held[Symbol.asyncIterator]();
    const first = reader.next();
    await session.start({ prompt: "Hi" }).end; // takes as long, and all of it
    assert.equal(await Promise.race([first, Promise.resolve("nothing yet")]), "nothing yet");
    held.commit();
    assert.equal((await first).done, false);
    assert.equal((await held.end).outcome, "completed");
    await session.close();
  });

  test("superseding", async () => {
    const session = client.session();
    const first = session.start({ prompt: "Hi", model: LONG });
    const second = session.start({ prompt: "Hi", supersedes: first });
    assert.notEqual(await second.text(), "");
    assert.equal((await first.end).cancelReason, "superseded");
    await session.close();
  });

  test("errors of the relay are typed", async () => {
    const session = client.session();
    const unknown = await session.start({ prompt: "Hi", model: "nowhere/x" }).end;
    assert.deepEqual([unknown.error?.code, unknown.error?.reason], ["NOT_FOUND", "UNKNOWN_MODEL"]);
    assert.equal(unknown.error?.retryable, false);
    const budgets = { firstTokenMs: 30 };
    const slow = await session.start({ prompt: "Hi", model: "lab/emu-mute", budgets }).end;
    assert.equal(slow.error?.reason, "FIRST_TOKEN_TIMEOUT");
    const failed = client.generate({ prompt: "Hi", model: "lab/emu:fault=status:503" });
    await assert.rejects(failed.text(), RelayError);
    const { attempts, error } = await failed.end;
    assert.ok(attempts.length > 0);
    assert.equal(error?.upstreamStatus, 503);
    await session.close();
  });

  test("a single generation, and its cancel", async () => {
    assert.notEqual(await client.generate({ prompt: "Hi" }).text(), "");
    const long = client.generate({ prompt: "Hi", model: LONG });
    for await (const event of long) if (event.type === "text") break;
    assert.equal((await long.end).outcome, "cancelled");
  });

  test("a thousand starts and cancels leave nothing", async () => {
    const session = client.session();
    const outcomes = new Set<string>();
    for (let round = 0; round < 250; round++) {
      const some = Array.from({ length: 4 }, () => session.start({ prompt: "Hi", model: LONG }));
      if (round % 2) await some[0]?.[Symbol.asyncIterator]().next();
      for (const end of await Promise.all(some.map((answer) => answer.cancel()))) {
        outcomes.add(end.outcome);
      }
    }
    assert.deepEqual([...outcomes], ["cancelled"]);
    assert.deepEqual(session.counts, { running: 0, waiting: 0, streams: 1 });
    await session.close();
  });

  test("a relay that is killed in the middle of an answer", async () => {
    const doomed = await lab.relay();
    const agent = new Client({ address: [doomed.address, address], model: LONG });
    const session = agent.session();
    const answer = session.start({ prompt: "Hi" });
    const reader = answer[Symbol.asyncIterator]();
    assert.equal((await reader.next()).done, false);
    doomed.process.kill("SIGKILL");
    const read = async () => {
      while (!(await reader.next()).done);
    };
    await assert.rejects(read(), { reason: "STREAM_LOST", code: "UNAVAILABLE" });
    const next = session.start({ prompt: "Hi", model: "lab/emu-instant" });
    assert.notEqual(await next.text(), "");
    assert.equal(session.address, address);
    await agent.close();
  });

  test("a relay that drains: the answer is finished, the next turn goes elsewhere", async () => {
    const leaving = await lab.relay();
    const agent = new Client({ address: [leaving.address, address], model: "lab/emu-instant" });
    const session = agent.session();
    const model = "lab/emu:ttft=0,itl=10,tokens=60";
    const answer = session.start({ prompt: "Hi", model });
    const reader = answer[Symbol.asyncIterator]();
    await reader.next();
    leaving.process.kill("SIGTERM");
    let whole = 1;
    while (!(await reader.next()).done) whole++;
    const end = await answer.end;
    assert.deepEqual([end.outcome, end.fromRelay], ["completed", true]);
    assert.ok(whole > 10);
    assert.notEqual(await session.start({ prompt: "Hi" }).text(), "");
    assert.equal(session.address, address);
    await once(leaving.process, "exit");
    await agent.close();
  });

  test("typed prompts of the contract", async () => {
    const message = (role: v1.Role, value: string) => ({
      role,
      parts: [{ kind: { $case: "text" as const, value } }],
    });
    const messages = [message(v1.Role.SYSTEM, "Be short."), message(v1.Role.USER, "Hi")];
    const sampling = { temperature: 0, maxOutputTokens: 50 };
    const answer = client.generate({ prompt: { messages, sampling } });
    assert.notEqual(await answer.text(), "");
  });
});
