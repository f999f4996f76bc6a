// The official OpenAI client for Node.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { abandoned, baseURL, lastStream, names, scripted, streams, unserved } from "./support.js";

const client = new OpenAI({ baseURL, apiKey: "any" });
const messages = [{ role: "user", content: "Hello" }];
const Trip = z.object({ city: z.string(), days: z.number().int() });
const trip = { city: names.CITY, days: names.DAYS };

/** A tool that remembers what it was asked. */
function weather(asked) {
  return {
    type: "function",
    function: {
      name: "weather",
      description: "The weather",
      parameters: z.toJSONSchema(Trip),
      parse: (text) => Trip.parse(JSON.parse(text)),
      function: (input) => {
        asked.push(input.city);
        return names.RESULT;
      },
    },
  };
}

test("text", async () => {
  const answer = await client.chat.completions.create({ model: names.ANSWERS, messages });
  assert.equal(answer.choices[0].message.content, names.TEXT);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.ok(answer.usage.completion_tokens > 0);
});

test("stream", async () => {
  const stream = await client.chat.completions.create({
    model: names.ANSWERS,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = await Array.fromAsync(stream);
  const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
  assert.equal(text, names.TEXT);
  assert.ok(chunks.length > 5);
  assert.ok(chunks.at(-1).usage.completion_tokens > 0);
});

test("stream helper", async () => {
  const stream = client.chat.completions.stream({ model: names.ANSWERS, messages });
  assert.equal(await stream.finalContent(), names.TEXT);
});

for (const stream of [false, true]) {
  test(`tool runner, ${stream ? "streamed" : "whole"}`, async () => {
    const model = await scripted(names.REPEATS_RESULTS, { tools: 2 });
    const asked = [];
    const runner = client.chat.completions.runTools({
      model,
      messages,
      stream,
      tools: [weather(asked)],
    });
    assert.equal(await runner.finalContent(), names.RESULTS);
    assert.equal(asked.length, 2);
  });
}

test("parse", async () => {
  const answer = await client.chat.completions.parse({
    model: names.STRUCTURED,
    messages,
    response_format: zodResponseFormat(Trip, "trip"),
  });
  assert.deepEqual(answer.choices[0].message.parsed, trip);
});

for (const stream of [false, true]) {
  test(`rate limit, ${stream ? "streamed" : "whole"}`, async () => {
    const before = await lastStream();
    const asking = client.chat.completions.create({ model: names.LIMITED, messages, stream });
    await assert.rejects(asking, (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError);
      assert.equal(error.status, 429);
      assert.equal(Number(error.headers.get("retry-after")), names.RETRY_AFTER_S);
      return true;
    });
    assert.equal((await streams(before)).length, 1);
  });
}

test("unknown model", async () => {
  const asking = client.chat.completions.create({ model: names.UNKNOWN, messages });
  await assert.rejects(asking, (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
});

test("a stream that breaks is an error", async () => {
  const model = await scripted({ text: names.TEXT, fault: "cut@3" });
  let text = "";
  await assert.rejects(async () => {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  }, OpenAI.APIError);
  assert.ok(text && names.TEXT.startsWith(text));
});

test("an abort stops the provider", async () => {
  const before = await lastStream();
  const stream = await client.chat.completions.create({
    model: names.ENDLESS,
    messages,
    stream: true,
  });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) stream.controller.abort();
  }
  await abandoned(before);
});

test("embeddings", async () => {
  const answer = await client.embeddings.create({ model: names.VECTORS, input: ["one", "two"] });
  assert.deepEqual(
    answer.data.map((row) => row.embedding.length),
    [256, 256],
  );
});

test("responses", { skip: await unserved("/v1/responses") }, async () => {
  const answer = await client.responses.create({ model: names.ANSWERS, input: "Hello" });
  assert.equal(answer.output_text, names.TEXT);
  const stream = client.responses.stream({ model: names.ANSWERS, input: "Hello" });
  assert.equal((await stream.finalResponse()).output_text, names.TEXT);
  const parsed = await client.responses.parse({
    model: names.STRUCTURED,
    input: "Hello",
    text: { format: zodTextFormat(Trip, "trip") },
  });
  assert.deepEqual(parsed.output_parsed, trip);
});
