// A session of many generations, as callers hold it.

import { Flow } from "./flow.js";
import type { Ready } from "./generated/rtrelay/v1/relay.js";
import { bindSignal, flowOf, Generation } from "./generation.js";
import { type StartOptions, startOf } from "./start.js";
import type { Switchboard } from "./switchboard.js";

/** How long a session that is closed waits for the ends of what ran. */
const CLOSE_TIMEOUT_MS = 1000;

/** What a session has open at this moment. */
export interface SessionCounts {
  /** Generations that run on a stream. */
  readonly running: number;
  /** Generations that wait for a stream. */
  readonly waiting: number;
  /** Streams; more than one while a relay drains. */
  readonly streams: number;
}

/**
 * Many generations over one stream, or over the next one when that breaks. Made by `Client.session`,
 * which begins to open the stream; `close` ends it.
 */
export class Session {
  readonly #switchboard: Switchboard;
  readonly #onClosed: (session: Session) => void;

  /** @internal */
  constructor(switchboard: Switchboard, onClosed: (session: Session) => void) {
    this.#switchboard = switchboard;
    this.#onClosed = onClosed;
    switchboard.openSoon();
  }

  /**
   * Wait until the relay is ready. Nothing needs it: starts may come before.
   *
   * @returns what the relay says of itself and its limits
   * @throws RelayError no address gave a stream in time
   */
  async ready(): Promise<Ready> {
    const link = await this.#switchboard.open();
    return link.ready as Ready;
  }

  /** Where new generations go; undefined while there is no stream. */
  get address(): string | undefined {
    return this.#switchboard.current?.address;
  }

  /** What is open at this moment. */
  get counts(): SessionCounts {
    return this.#switchboard.counts;
  }

  /**
   * Start a generation; it is on its way when this returns, and nothing was waited for. A failure is
   * told by the generation, never here.
   *
   * @throws TypeError an option is wrong; its name is in the message
   * @throws Error the session is closed
   */
  start(options: StartOptions): Generation {
    const flow = new Flow(startOf(options, "start"));
    if (this.#switchboard.isClosed) throw new Error("the session is closed");
    const { signal, supersedes = [] } = options;
    const superseded = (supersedes instanceof Generation ? [supersedes] : supersedes).map(flowOf);
    if (signal?.aborted) {
      for (const other of superseded) this.#switchboard.cancel(other, "superseded");
    } else {
      this.#switchboard.start(flow, superseded);
    }
    bindSignal(flow, this.#switchboard, signal);
    return new Generation(flow, this.#switchboard);
  }

  /**
   * The round trip to the relay in milliseconds, through both event loops.
   *
   * @throws RelayError there is no stream, or it broke before the answer
   */
  async ping(): Promise<number> {
    return (await this.#switchboard.open()).ping();
  }

  /**
   * Cancel what runs (`session_end`) and end the session; waits at most a second for the relay's ends.
   * Idempotent, never rejects.
   */
  async close(): Promise<void> {
    await this.#switchboard.close(CLOSE_TIMEOUT_MS);
    this.#onClosed(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
