// What comes of a generation, one small object a piece. `choice` is the alternative answer, from 0.

import type { ToolCall } from "./generated/rtrelay/v1/content.js";
import type { ConverseResponse, Delta } from "./generated/rtrelay/v1/relay.js";

/** Text of the answer. */
export interface TextDelta {
  readonly type: "text";
  readonly text: string;
  /** Where it begins in the choice's text, in code points (`codePoints`); without a gap. */
  readonly charOffset: number;
  readonly choice: number;
}

/** Reasoning text, if `output.reasoning` asks for it. */
export interface ReasoningDelta {
  readonly type: "reasoning";
  readonly text: string;
  readonly choice: number;
}

/** Text of a refusal. */
export interface RefusalDelta {
  readonly type: "refusal";
  readonly text: string;
  readonly choice: number;
}

/** A piece of the arguments of a tool call, if `output.toolArguments` asks for it. */
export interface ToolArgumentsDelta {
  readonly type: "tool_arguments";
  /** Which call of the choice, from 0. */
  readonly index: number;
  /** JSON text that follows what came before. */
  readonly fragment: string;
  /** In the first piece only, else empty. */
  readonly callId: string;
  /** In the first piece only, else empty. */
  readonly name: string;
  readonly choice: number;
}

/** A piece of spoken answer. */
export interface AudioDelta {
  readonly type: "audio";
  readonly audioId: string;
  /** The sound, to be appended. */
  readonly data: Uint8Array;
  /** Text of what is spoken, to be appended. */
  readonly transcript: string;
  /** Seconds since 1970 until which the provider knows `audioId`; 0 if it does not say. */
  readonly expiresAtS: number;
  readonly choice: number;
}

/** A provider field that the relay does not read, if `output.extras` asks for them. */
export interface Extra {
  readonly type: "extra";
  readonly key: string;
  /** JSON in UTF-8. */
  readonly valueJson: Uint8Array;
  readonly choice: number;
}

/** A whole tool call. Of a speculative generation it comes after the commit only. */
export interface ToolCallEvent {
  readonly type: "tool_call";
  /** Unchanged into `toolCalls` of the next prompt's message, or by `toChatToolCall` into a chat body. */
  readonly call: ToolCall;
  /** Which call of the choice, from 0. */
  readonly index: number;
  /** The limit of tokens cut its arguments off. */
  readonly isPartial: boolean;
  readonly choice: number;
}

/** A speakable piece of text, if `output.textMode` asks for them. */
export interface Segment {
  readonly type: "segment";
  /** With the white space that follows it; may be empty in the last one. */
  readonly text: string;
  readonly charOffset: number;
  /** Its number in the choice, from 0. */
  readonly index: number;
  readonly isLast: boolean;
  readonly choice: number;
}

/**
 * A guardrail withdraws text that was delivered: not to be spoken where it was not yet, and to be taken
 * back where it can be. The end follows.
 */
export interface Retract {
  readonly type: "retract";
  /** From where on the choice's text is withdrawn, in code points. */
  readonly fromChars: number;
  /** For people and logs. */
  readonly message: string;
  readonly choice: number;
}

/** A piece of output; switch on `type`, and pass over types that you do not know. */
export type GenerationEvent =
  | TextDelta
  | ReasoningDelta
  | RefusalDelta
  | ToolArgumentsDelta
  | AudioDelta
  | Extra
  | ToolCallEvent
  | Segment
  | Retract;

type Frame = NonNullable<ConverseResponse["frame"]>;
/** @internal A frame with output. */
export type OutputFrame = Extract<Frame, { $case: "delta" | "segment" | "toolCall" | "notice" }>;

/** @internal The events of a frame; of notices those that withdraw text. */
export function eventsOf(frame: OutputFrame): GenerationEvent[] {
  if (frame.$case === "delta") return ofDelta(frame.value);
  if (frame.$case === "segment") {
    const { text, charOffset, index, isLast, choice } = frame.value;
    return [{ type: "segment", text, charOffset, index, isLast, choice }];
  }
  if (frame.$case === "notice") {
    const { retractFromChars: fromChars, message, choice } = frame.value;
    return [{ type: "retract", fromChars, message, choice }];
  }
  const { call, index, isPartial, choice } = frame.value;
  return call ? [{ type: "tool_call", call, index, isPartial, choice }] : [];
}

/** A delta holds several kinds only if pieces were merged; between kinds the order is not told. */
function ofDelta(delta: Delta): GenerationEvent[] {
  const { choice } = delta;
  const found: GenerationEvent[] = [];
  if (delta.reasoning) found.push({ type: "reasoning", text: delta.reasoning, choice });
  if (delta.text) {
    found.push({ type: "text", text: delta.text, charOffset: delta.charOffset, choice });
  }
  if (delta.refusal) found.push({ type: "refusal", text: delta.refusal, choice });
  for (const { index, fragment, callId, name } of delta.toolArguments) {
    found.push({ type: "tool_arguments", index, fragment, callId, name, choice });
  }
  if (delta.audio) {
    const { audioId, data, transcript, expiresAtS } = delta.audio;
    found.push({ type: "audio", audioId, data, transcript, expiresAtS, choice });
  }
  for (const { key, valueJson } of delta.extras) {
    found.push({ type: "extra", key, valueJson, choice });
  }
  return found;
}

/** Length of a text in code points, as the relay counts; `length` counts UTF-16 units. */
export function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
