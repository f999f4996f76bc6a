// One answer in the making, as callers hold it.

import type { CancelReasonName, GenerationEnd } from "./end.js";
import type { GenerationEvent } from "./events.js";
import type { Flow } from "./flow.js";
import { CancelReason, TextMode } from "./generated/rtrelay/v1/relay.js";

/** @internal Who runs it. */
export interface Driver {
  cancel(flow: Flow, reason: CancelReasonName | undefined): void;
  commit(flow: Flow): void;
}

const flows = new WeakMap<Generation, Flow>();

/** @internal The inside of a generation. */
export function flowOf(generation: Generation): Flow {
  const flow = flows.get(generation);
  if (!flow) throw new TypeError("supersedes holds generations");
  return flow;
}

/**
 * One answer; made by `Session.start` and `Client.generate`.
 *
 *     for await (const event of answer) {
 *       if (event.type === "text") speak(event.text);
 *     }
 *     const { outcome, usage } = await answer.end;
 *
 * It is cancelled by `cancel`, by its signal, and by leaving a loop over it (`break`, `return`, an
 * exception). Nothing waits for the relay then, and no event is delivered afterwards: the loop just
 * ends. The relay's word on it (usage, timeline) is in `end`, also after a cancel.
 *
 * One consumer may read at a time. The end comes whether or not it is read.
 */
export class Generation implements AsyncIterable<GenerationEvent> {
  /** How it ended. Resolves exactly once and never rejects; a failure is in `error` of it. */
  readonly end: Promise<GenerationEnd>;
  readonly #flow: Flow;
  readonly #driver: Driver;

  /** @internal */
  constructor(flow: Flow, driver: Driver) {
    this.#flow = flow;
    this.#driver = driver;
    this.end = flow.over;
    flows.set(this, flow);
  }

  /** Its id on the wire; the same after a restart. Empty until the relay has made one (`generate`). */
  get generationId(): string {
    return this.#flow.generationId;
  }

  /** The relay's own id of it, in its logs; empty until it was accepted. */
  get requestId(): string {
    return this.#flow.requestId;
  }

  /** It was cancelled on this side. */
  get isCancelled(): boolean {
    return this.#flow.isCancelled;
  }

  /** Its end is known; events may still be unread. */
  get isOver(): boolean {
    return this.#flow.end !== undefined;
  }

  /**
   * Stop it. Idempotent, and without effect once it is over.
   *
   * @returns its end, when the relay has told it; never rejects
   * @throws TypeError there is no such reason
   */
  cancel(reason?: CancelReasonName): Promise<GenerationEnd> {
    this.#driver.cancel(this.#flow, reason);
    return this.end;
  }

  /** The speculation is wanted. Idempotent; does nothing for what is no speculation or over. */
  commit(): void {
    this.#driver.commit(this.#flow);
  }

  /**
   * Read it to its end.
   *
   * @returns the text of the first choice, without what a guardrail withdrew of it; what had come of
   *   it, if it was cancelled meanwhile
   * @throws RelayError it failed. The text so far is lost; iterate to keep it.
   */
  async text(): Promise<string> {
    const type = this.#textType();
    let whole = "";
    for await (const event of this) {
      if (event.choice !== 0) continue;
      if (event.type === type) whole += event.text;
      else if (event.type === "retract") whole = [...whole].slice(0, event.fromChars).join("");
    }
    return whole;
  }

  /**
   * The text of the first choice as it comes, for who wants nothing else: deltas, or segments where
   * only these were asked for. What is withdrawn later it cannot take back. Leaving the loop cancels
   * the generation.
   *
   * @throws RelayError from the loop, after all that came before the failure
   */
  async *textStream(): AsyncGenerator<string, void, undefined> {
    const type = this.#textType();
    for await (const event of this) {
      if (event.type === type && event.choice === 0 && event.text) yield event.text;
    }
  }

  #textType(): "segment" | "text" {
    const isInSegments = this.#flow.start.output?.textMode === TextMode.SEGMENTS;
    return isInSegments ? "segment" : "text";
  }

  /**
   * The speakable segments of the first choice as they come, if `output.textMode` asks for them.
   * Leaving the loop cancels the generation.
   *
   * @throws RelayError from the loop, after all that came before the failure
   */
  async *segments(): AsyncGenerator<string, void, undefined> {
    for await (const event of this) {
      if (event.type === "segment" && event.choice === 0 && event.text) yield event.text;
    }
  }

  /** @throws RelayError from the loop, after all that came before the failure */
  [Symbol.asyncIterator](): AsyncIterator<GenerationEvent, undefined, undefined> {
    const flow = this.#flow;
    const driver = this.#driver;
    return {
      async next() {
        const value = await flow.next();
        return value ? { value, done: false } : { value: undefined, done: true };
      },
      async return() {
        driver.cancel(flow, undefined);
        return { value: undefined, done: true };
      },
    };
  }

  /** Cancel it if it is not over; waits for nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#driver.cancel(this.#flow, undefined);
  }
}

/** @internal Cancel a generation when its signal is aborted. No listener is left when it is over. */
export function bindSignal(flow: Flow, driver: Driver, signal: AbortSignal | undefined): void {
  if (!signal || flow.end) return;
  const abort = () => driver.cancel(flow, reasonOf(signal.reason));
  if (signal.aborted) {
    abort();
    return;
  }
  signal.addEventListener("abort", abort, { once: true });
  flow.onOver = () => signal.removeEventListener("abort", abort);
}

/** The reason of an abort that means one to the relay. */
function reasonOf(reason: unknown): CancelReasonName | undefined {
  if (reason instanceof Error && reason.name === "TimeoutError") return "client_timeout";
  if (typeof reason !== "string" || reason === "unspecified") return undefined;
  const isKnown = Object.keys(CancelReason).some((name) => name.toLowerCase() === reason);
  return isKnown ? (reason as CancelReasonName) : undefined;
}
