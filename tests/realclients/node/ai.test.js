// Vercel's AI SDK, over its provider for compatible hosts and over OpenAI's own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { abandoned, baseURL, lastStream, names, scripted, streams, unserved } from "./support.js";

const Trip = z.object({ city: z.string(), days: z.number().int() });
const trip = { city: names.CITY, days: names.DAYS };
const prompt = "Hello";

const compatible = createOpenAICompatible({
  name: "relay",
  baseURL,
  apiKey: "any",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const openai = createOpenAI({ baseURL, apiKey: "any" });
const noResponses = await unserved("/v1/responses");

const PROVIDERS = {
  "openai-compatible": { of: (name) => compatible(name), skip: false },
  "openai chat": { of: (name) => openai.chat(name), skip: false },
  // What `openai(name)` means.
  "openai responses": { of: (name) => openai(name), skip: noResponses },
};

/** A tool that remembers what it was asked. */
function weather(asked) {
  return tool({
    description: "The weather",
    inputSchema: Trip,
    execute: ({ city }) => {
      asked.push(city);
      return names.RESULT;
    },
  });
}

for (const [provider, { of, skip }] of Object.entries(PROVIDERS)) {
  test(`${provider}: text`, { skip }, async () => {
    const answer = await generateText({ model: of(names.ANSWERS), prompt });
    assert.equal(answer.text, names.TEXT);
    assert.equal(answer.finishReason, "stop");
    assert.ok(answer.usage.outputTokens > 0);
  });

  test(`${provider}: stream`, { skip }, async () => {
    const answer = streamText({ model: of(names.ANSWERS), prompt });
    const pieces = await Array.fromAsync(answer.textStream);
    assert.equal(pieces.join(""), names.TEXT);
    assert.ok(pieces.length > 5);
    assert.ok((await answer.usage).outputTokens > 0);
  });

  test(`${provider}: tool loop`, { skip }, async () => {
    const asked = [];
    const answer = await generateText({
      model: of(await scripted(names.REPEATS_RESULTS, { tools: 2 })),
      prompt,
      tools: { weather: weather(asked) },
      stopWhen: stepCountIs(3),
    });
    assert.equal(answer.text, names.RESULTS);
    assert.equal(asked.length, 2);
  });

  test(`${provider}: streamed tool loop`, { skip }, async () => {
    const asked = [];
    const answer = streamText({
      model: of(await scripted(names.REPEATS_RESULTS, { tools: 2 })),
      prompt,
      tools: { weather: weather(asked) },
      stopWhen: stepCountIs(3),
    });
    assert.equal((await Array.fromAsync(answer.textStream)).join(""), names.RESULTS);
    assert.equal(asked.length, 2);
  });

  test(`${provider}: structured output`, { skip }, async () => {
    const answer = await generateText({
      model: of(names.STRUCTURED),
      prompt,
      output: Output.object({ schema: Trip }),
    });
    assert.deepEqual(answer.output, trip);
  });

  for (const [name, status] of [
    [names.LIMITED, 429],
    [names.UNKNOWN, 404],
  ]) {
    test(`${provider}: ${status}`, { skip }, async () => {
      const before = await lastStream();
      const asking = generateText({ model: of(name), prompt, maxRetries: 0 });
      await assert.rejects(asking, (error) => {
        assert.ok(APICallError.isInstance(error));
        assert.equal(error.statusCode, status);
        return true;
      });
      assert.equal((await streams(before)).length, status === 429 ? 1 : 0);
    });
  }

  test(`${provider}: its own retries wait for Retry-After`, { skip }, async () => {
    const model = await scripted({ text: names.TEXT }, { fault: `rate:${names.RETRY_AFTER_S}` });
    const began = Date.now();
    assert.equal((await generateText({ model: of(model), prompt })).text, names.TEXT);
    assert.ok(Date.now() - began >= 1000 * names.RETRY_AFTER_S - 50);
  });

  test(`${provider}: a stream that breaks is an error`, { skip }, async () => {
    const model = of(await scripted({ text: names.TEXT, fault: "cut@3" }));
    const answer = streamText({ model, prompt, onError: () => {} });
    const parts = await Array.fromAsync(answer.fullStream);
    assert.ok(parts.some((part) => part.type === "error"));
    assert.ok(!parts.some((part) => part.type === "finish" && part.finishReason === "stop"));
  });

  test(`${provider}: an abort stops the provider`, { skip }, async () => {
    const before = await lastStream();
    const abort = new AbortController();
    const answer = streamText({
      model: of(names.ENDLESS),
      prompt,
      abortSignal: abort.signal,
    });
    for await (const part of answer.fullStream) {
      if (part.type === "text-delta") abort.abort();
    }
    await abandoned(before);
  });
}

test("embeddings", async () => {
  const model = compatible.embeddingModel(names.VECTORS);
  const { embeddings } = await embedMany({ model, values: ["one", "two"] });
  assert.deepEqual(
    embeddings.map((each) => each.length),
    [256, 256],
  );
});
