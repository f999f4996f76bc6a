// Unread events in fewer objects: pieces of the same text become one, where the first was.

import type { AudioDelta, GenerationEvent, ToolArgumentsDelta } from "./events.js";

/**
 * @internal The same output in fewer events.
 *
 * Within a kind and choice the order stays; between kinds it does not, as in the relay's own merged
 * deltas. Cost is linear in the text.
 */
export function merged(events: readonly GenerationEvent[]): GenerationEvent[] {
  const groups = new Map<string, GenerationEvent[]>();
  for (const [number, event] of events.entries()) {
    const key = keyOf(event, number);
    const group = groups.get(key);
    if (group) group.push(event);
    else groups.set(key, [event]);
  }
  return [...groups.values()].map(joined);
}

function keyOf(event: GenerationEvent, number: number): string {
  switch (event.type) {
    case "text":
    case "reasoning":
    case "refusal":
      return `${event.type} ${event.choice}`;
    case "tool_arguments":
      return `${event.type} ${event.choice} ${event.index}`;
    case "audio":
      return `${event.type} ${event.choice} ${event.audioId}`;
    default:
      return `${number}`;
  }
}

function joined(group: readonly GenerationEvent[]): GenerationEvent {
  const first = group[0] as GenerationEvent;
  if (group.length === 1) return first;
  switch (first.type) {
    case "text":
    case "reasoning":
    case "refusal":
      return {
        ...first,
        text: (group as readonly { text: string }[]).map((event) => event.text).join(""),
      };
    case "tool_arguments": {
      const pieces = group as readonly ToolArgumentsDelta[];
      return { ...first, fragment: pieces.map((piece) => piece.fragment).join("") };
    }
    case "audio": {
      const sounds = group as readonly AudioDelta[];
      return {
        ...first,
        data: Buffer.concat(sounds.map((sound) => sound.data)),
        transcript: sounds.map((sound) => sound.transcript).join(""),
        expiresAtS: (sounds.at(-1) ?? first).expiresAtS,
      };
    }
    default:
      return first;
  }
}

/** @internal About how much memory an event keeps: code units of text and bytes of sound. */
export function sizeOf(event: GenerationEvent): number {
  switch (event.type) {
    case "tool_arguments":
      return event.fragment.length;
    case "audio":
      return event.data.byteLength + event.transcript.length;
    case "extra":
      return event.valueJson.byteLength;
    case "tool_call":
      return event.call.arguments.length + event.call.extraJson.byteLength;
    case "retract":
      return event.message.length;
    default:
      return event.text.length;
  }
}
