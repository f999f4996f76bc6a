// What is known of one generation: its start, its unread events, its end.
//
// It does no I/O. Whoever reads the stream puts frames in (`take`, `finish`, `fail`), one consumer
// takes events out (`next`), and nothing here ever makes the reader wait: a consumer that is slow
// gets its pieces merged.

import { type CancelReasonName, endOfFrame, endOfOurs, type GenerationEnd } from "./end.js";
import { copyOf, RelayError } from "./errors.js";
import { eventsOf, type GenerationEvent, type OutputFrame } from "./events.js";
import { ConverseRequest, type End, type Start } from "./generated/rtrelay/v1/relay.js";
import type { Link } from "./link.js";
import { merged, sizeOf } from "./merge.js";

/** Unread events at which they are merged: some seconds of fast speech, so that only who does not
 * read at all sees it. */
export const MERGE_AT = 256;
/** What cannot be merged (segments, tool calls) may wait up to so many events; more are the end of
 * the generation. */
export const MOST_UNREAD = 4 * MERGE_AT;
/** The same for code units of text and bytes of sound. */
export const MOST_UNREAD_BYTES = 16 * 1024 * 1024;

/** @internal */
export class Flow {
  /** The stream it runs on; undefined while it waits for one and after its end. */
  link: Link | undefined;
  /** How often it was started again on another stream. */
  restarts = 0;
  isStarted = false;
  hasOutput = false;
  isCommitted = false;
  /** Cancelled on this side: no event is delivered from then on. */
  isCancelled = false;
  cancelReason: CancelReasonName | undefined;
  /** The relay's own id of it. */
  requestId = "";
  end: GenerationEnd | undefined;
  /** Resolves with `end`; never rejects. */
  readonly over: Promise<GenerationEnd>;
  /** Called once with the end, before `over` resolves. */
  onOver: (() => void) | undefined;
  #resolveOver!: (end: GenerationEnd) => void;
  #unread: GenerationEvent[] = [];
  #unreadBytes = 0;
  #mergeAt = MERGE_AT;
  #waiter: (() => void) | undefined;

  constructor(readonly start: Start) {
    this.over = new Promise((resolve) => {
      this.#resolveOver = resolve;
    });
  }

  get generationId(): string {
    return this.start.generationId;
  }

  /** The frame that starts it on a Converse stream. */
  startFrame(): Uint8Array {
    const frame = ConverseRequest.create({ frame: { $case: "start", value: this.start } });
    return ConverseRequest.encode(frame).finish();
  }

  // --- the reader's side ------------------------------------------------------------------------

  /** Take output. Returns whether the generation can go on; if not, too much is unread. */
  take(frame: OutputFrame): boolean {
    this.hasOutput = true;
    if (this.isCancelled || this.end) return true;
    for (const event of eventsOf(frame)) {
      this.#unread.push(event);
      this.#unreadBytes += sizeOf(event);
    }
    if (this.#unread.length > this.#mergeAt) this.#merge();
    this.#wake();
    return this.#unread.length <= MOST_UNREAD && this.#unreadBytes <= MOST_UNREAD_BYTES;
  }

  #merge(): void {
    this.#unread = merged(this.#unread);
    // Twice what is left, so that merging stays linear where little can be merged.
    this.#mergeAt = Math.max(MERGE_AT, 2 * this.#unread.length);
  }

  /** Its end came. */
  finish(end: End): void {
    this.#setOver(() => endOfFrame(end));
  }

  /** It was cancelled, and no end of the relay can come. */
  finishUnsent(): void {
    this.#setOver(() => endOfOurs(this.#ids(), { cancelReason: this.cancelReason }));
  }

  /** It is over without an end of the relay. Others may have failed with the same error. */
  fail(error: RelayError): void {
    this.#setOver(() => endOfOurs(this.#ids(), { error: copyOf(error) }));
  }

  #ids() {
    const { generationId, turnId } = this.start;
    return { generationId, turnId, requestId: this.requestId };
  }

  #setOver(make: () => GenerationEnd): void {
    if (this.end) return;
    this.end = make();
    this.link = undefined;
    this.onOver?.();
    this.#resolveOver(this.end);
    this.#wake();
  }

  /** Deliver nothing any more; whoever waits for an event is told that there is none. */
  cancel(reason: CancelReasonName | undefined): void {
    if (this.isCancelled) return;
    this.isCancelled = true;
    this.cancelReason = reason;
    this.#unread = [];
    this.#unreadBytes = 0;
    this.#wake();
  }

  // --- the consumer's side ----------------------------------------------------------------------

  /**
   * The next event; undefined if there will be none.
   *
   * @throws RelayError the generation failed, and all that came before was delivered
   * @throws Error somebody else waits already
   */
  async next(): Promise<GenerationEvent | undefined> {
    for (;;) {
      if (this.isCancelled) return undefined;
      const event = this.#unread.shift();
      if (event) {
        this.#unreadBytes -= sizeOf(event);
        if (this.#unread.length === 0) this.#mergeAt = MERGE_AT;
        return event;
      }
      if (this.end?.error) throw this.end.error;
      if (this.end) return undefined;
      if (this.#waiter) throw new Error("somebody else waits for the events of this generation");
      await new Promise<void>((resolve) => {
        this.#waiter = resolve;
      });
    }
  }

  #wake(): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.();
  }
}

/** @internal Too much is unread. */
export function slowConsumer(): RelayError {
  return new RelayError(
    "SLOW_CONSUMER",
    "RESOURCE_EXHAUSTED",
    `more than ${MOST_UNREAD} events or ${MOST_UNREAD_BYTES} bytes of the generation were not read`,
  );
}
