// From the contract's terms back into OpenAI's, for who keeps the conversation in those.

import { type ToolCall, ToolKind } from "./generated/rtrelay/v1/content.js";

/**
 * A tool call as it goes into `tool_calls` of an assistant's message in a chat body, with the provider's
 * state that must go back unchanged.
 */
export function toChatToolCall(call: ToolCall): Record<string, unknown> {
  const isCustom = call.kind === ToolKind.CUSTOM;
  const content = isCustom
    ? { type: "custom", custom: { name: call.name, input: call.arguments } }
    : { type: "function", function: { name: call.name, arguments: call.arguments } };
  const extra =
    call.extraJson.byteLength > 0 ? JSON.parse(Buffer.from(call.extraJson).toString()) : {};
  return { ...extra, id: call.callId, ...content };
}
