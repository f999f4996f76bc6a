// What users of the package see.

export { toChatToolCall } from "./chat.js";
export { Client, type ClientOptions } from "./client.js";
export type { Attempt, CancelReasonName, ChoiceEnd, GenerationEnd } from "./end.js";
export { RelayError, STREAM_LOST, type StatusCode } from "./errors.js";
export {
  type AudioDelta,
  codePoints,
  type Extra,
  type GenerationEvent,
  type ReasoningDelta,
  type RefusalDelta,
  type Retract,
  type Segment,
  type TextDelta,
  type ToolArgumentsDelta,
  type ToolCallEvent,
} from "./events.js";
export type { Generation } from "./generation.js";
export type {
  Budgets,
  CacheModeName,
  Defaults,
  HedgePolicy,
  OutputOptions,
  PromptCacheName,
  SessionOptions,
} from "./options.js";
export type { Reconnect } from "./reconnect.js";
export type { Session, SessionCounts } from "./session.js";
export type { ChatBody, ChatMessage, GenerateOptions, StartOptions } from "./start.js";
export type { TlsOptions } from "./tls.js";
export * as v1 from "./v1.js";
