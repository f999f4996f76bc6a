// What one generation is started with.

import { Prompt, Role } from "./generated/rtrelay/v1/content.js";
import { type DeepPartial, Start } from "./generated/rtrelay/v1/relay.js";
import type { Generation } from "./generation.js";
import {
  budgetsOf,
  type CacheModeName,
  cacheOf,
  checkKeys,
  DEFAULTS_KEYS,
  type Defaults,
  type HedgePolicy,
  hedgeOf,
  labelsOf,
  type OutputOptions,
  outputOf,
  promptCacheOf,
} from "./options.js";

/** A message as OpenAI's chat completions have it; nothing of it is checked or changed here. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: unknown;
  readonly [key: string]: unknown;
}

/** The body of an OpenAI chat completion: `messages`, `tools`, `temperature`, ... */
export interface ChatBody {
  readonly messages: readonly ChatMessage[];
  readonly [key: string]: unknown;
}

/** What the model is given: one of the three. */
interface Input {
  /** A question, or a prompt in the contract's own terms. */
  readonly prompt?: string | DeepPartial<Prompt>;
  /** The conversation in OpenAI's terms. */
  readonly messages?: readonly ChatMessage[];
  /** The body of an OpenAI chat completion, or its JSON. `stream` in it is ignored. */
  readonly body?: ChatBody | string | Uint8Array;
}

/** A generation without a session. The fields are those of `Start` in the contract, whose comments hold. */
export interface GenerateOptions extends Input, Defaults {
  /** The turn this belongs to; starts of one turn share it. */
  readonly turnId?: string;
  readonly output?: OutputOptions;
  /** Tags for the operator's routing rules. */
  readonly tags?: readonly string[];
  readonly hedge?: HedgePolicy;
  /** Whether an answer that the relay has kept will do; left out: as the operator says. */
  readonly cache?: CacheModeName;
  /** W3C trace context. */
  readonly traceparent?: string;
  /**
   * Aborting cancels this generation and nothing else. `controller.abort("barge_in")` gives the
   * reason; a signal of `AbortSignal.timeout` gives `client_timeout`.
   */
  readonly signal?: AbortSignal;
}

/** A generation of a session. */
export interface StartOptions extends GenerateOptions {
  /** It may yet be discarded: tool calls are withheld until `commit()`. */
  readonly speculative?: boolean;
  /** With `speculative`: all output is withheld until `commit()`. */
  readonly holdUntilCommit?: boolean;
  /** Generations that are cancelled before this one starts. */
  readonly supersedes?: Generation | readonly Generation[];
}

const GENERATE_KEYS = [
  ...["prompt", "messages", "body", ...DEFAULTS_KEYS, "turnId"],
  ...["output", "tags", "hedge", "cache", "traceparent", "signal"],
];
const START_KEYS = [...GENERATE_KEYS, "speculative", "holdUntilCommit", "supersedes"];

/** @internal @throws TypeError naming the field at fault */
export function startOf(given: StartOptions, kind: "start" | "generate"): Start {
  checkKeys(given, kind, kind === "start" ? START_KEYS : GENERATE_KEYS);
  if (given.signal !== undefined && !(given.signal instanceof AbortSignal)) {
    throw new TypeError("signal is an AbortSignal");
  }
  return Start.create({
    input: inputOf(given),
    model: textOf(given.model, "model"),
    turnId: textOf(given.turnId, "turnId"),
    traceparent: textOf(given.traceparent, "traceparent"),
    ...(given.budgets && { budgets: budgetsOf(given.budgets) }),
    ...(given.output && { output: outputOf(given.output) }),
    ...(given.hedge && { hedge: hedgeOf(given.hedge) }),
    speculative: given.speculative ?? false,
    holdUntilCommit: given.holdUntilCommit ?? false,
    tags: [...(given.tags ?? [])],
    labels: labelsOf(given.labels ?? {}),
    promptCache: promptCacheOf(given.promptCache),
    cache: cacheOf(given.cache),
  });
}

function inputOf({ prompt, messages, body }: Input): NonNullable<Start["input"]> {
  const given = [prompt, messages, body].filter((input) => input !== undefined);
  if (given.length !== 1) {
    throw new TypeError("a generation needs exactly one of prompt, messages and body");
  }
  if (typeof prompt === "string") {
    return { $case: "prompt", value: Prompt.fromPartial({ messages: [userMessage(prompt)] }) };
  }
  if (prompt !== undefined) {
    if (typeof prompt !== "object" || prompt === null || Array.isArray(prompt)) {
      throw new TypeError("prompt is a text or a Prompt; messages go into `messages`");
    }
    return { $case: "prompt", value: Prompt.fromPartial(prompt) };
  }
  return { $case: "openaiChatBody", value: chatBodyOf(messages ? { messages } : body) };
}

function chatBodyOf(body: Input["body"]): Uint8Array {
  if (body instanceof Uint8Array) return body;
  if (typeof body === "string") return Buffer.from(body);
  if (typeof body !== "object" || body === null || !Array.isArray(body.messages)) {
    throw new TypeError("messages is a list");
  }
  return Buffer.from(JSON.stringify(body));
}

function userMessage(text: string): NonNullable<DeepPartial<Prompt>["messages"]>[number] {
  return { role: Role.USER, parts: [{ kind: { $case: "text", value: text } }] };
}

function textOf(given: string | undefined, field: string): string {
  if (given !== undefined && typeof given !== "string") throw new TypeError(`${field} is a text`);
  return given ?? "";
}
