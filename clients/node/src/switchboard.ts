// Which stream each generation of a session runs on, and what happens when a stream goes.
//
// Strategy: new generations go to `current`. When the relay drains, `current` is given up at once, so
// that the next generation goes to a fresh stream while those that run finish on the old one. When a
// stream breaks, generations without output wait for the next stream and are started again on it;
// those with output fail, since what was heard cannot be unsaid. Streams are opened address after
// address, with full jitter between rounds, and only while there is a reason to.

import type { Channels } from "./channels.js";
import type { CancelReasonName } from "./end.js";
import { fromStatus, isLasting, noStream, RelayError, streamLost } from "./errors.js";
import { type Flow, slowConsumer } from "./flow.js";
import {
  CancelReason,
  type ConverseResponse,
  type End,
  type Notice,
  NoticeKind,
} from "./generated/rtrelay/v1/relay.js";
import { encode, Link, type LinkOwner } from "./link.js";
import { numberOf } from "./names.js";
import { MOST_RESTARTS, pauseMs, type Reconnect } from "./reconnect.js";

/** A stream that was ready for less time counts as a failed try: see `#open`. */
const SHORT_LIVED_MS = 1000;

/** @internal */
export class Switchboard implements LinkOwner {
  /** Where new generations go; undefined while there is no stream to be had. */
  current: Link | undefined;
  isClosed = false;
  readonly #waiting = new Set<Flow>();
  readonly #links = new Set<Link>();
  /** Ends the pause between two tries, if there is one now, and tells whether somebody asked. */
  #endPause: (wasAsked: boolean) => void = () => {};
  #opener: Promise<void> | undefined;
  #openError: RelayError | undefined;
  #nextAddress = 0;
  #maxFrameBytes = 0;
  #shortLived = 0; // streams in a row that were ready and soon lost
  #ids = 0;

  constructor(
    private readonly addresses: readonly string[],
    private readonly channels: Channels,
    private readonly setupFrame: Uint8Array,
    private readonly reconnect: Reconnect,
    private readonly heartbeatMs: number,
  ) {}

  // --- life -------------------------------------------------------------------------------------

  /**
   * Have a stream that is ready.
   *
   * @throws RelayError no address gave one in time
   */
  async open(): Promise<Link> {
    while (!this.current?.ready) {
      this.openSoon();
      if (!this.#opener) throw noStream("the session is closed");
      this.#openError = undefined;
      await this.#opener;
      if (this.#openError) throw this.#openError;
    }
    return this.current;
  }

  /** What there is of everything. */
  get counts(): { running: number; waiting: number; streams: number } {
    let running = 0;
    for (const link of this.#links) running += link.flows.size;
    return { running, waiting: this.#waiting.size, streams: this.#links.size };
  }

  /** Cancel what runs and end the streams. Idempotent. Waits up to `timeoutMs` for the relay's ends. */
  async close(timeoutMs: number): Promise<void> {
    if (!this.isClosed) {
      this.isClosed = true;
      this.#endPause(false);
      for (const flow of [...this.#waiting]) this.cancel(flow, "session_end");
      for (const link of this.#links) {
        for (const flow of link.flows.values()) flow.cancel("session_end");
        if (link.ready) {
          link.send(encode({ $case: "close", value: {} }));
          link.finish();
        } else {
          link.abort(noStream("the session was closed"));
        }
      }
    }
    const links = [...this.#links];
    const timer = setTimeout(() => {
      for (const link of links) link.abort(noStream("the session was closed"));
    }, timeoutMs);
    await Promise.all([this.#opener, ...links.map((link) => link.closed)]);
    clearTimeout(timer);
  }

  // --- generations ------------------------------------------------------------------------------

  /**
   * Start a generation on the current stream, or on the next one that there is.
   *
   * @throws an error of the encoder: a field of the start has a value that it cannot have
   */
  start(flow: Flow, supersedes: readonly Flow[]): void {
    flow.start.generationId = (this.#ids + 1).toString(36);
    const link = this.current;
    // The relay cancels these, before it starts the new one.
    const there = supersedes.filter((other) => link && other.link === link && !other.isCancelled);
    flow.start.supersedes = there.map((other) => other.generationId);
    const frame = flow.startFrame();
    this.#ids++;
    for (const other of supersedes) {
      if (there.includes(other)) other.cancel("superseded");
      else this.cancel(other, "superseded");
    }
    if (link) {
      this.#place(flow, link, frame);
    } else {
      this.#waiting.add(flow);
      this.#endPause(true); // it waits, so the next try must not
      this.openSoon();
    }
  }

  /** Deliver nothing more of it, and tell the relay. Idempotent. */
  cancel(flow: Flow, reason: CancelReasonName | undefined): void {
    const isFirst = !flow.isCancelled;
    const value = numberOf(CancelReason, reason, "reason");
    flow.cancel(reason);
    if (flow.end || !isFirst) return;
    if (!flow.link) {
      this.#waiting.delete(flow);
      flow.finishUnsent();
      return;
    }
    flow.link.send(cancelFrame(flow.generationId, value));
  }

  /** A speculation is wanted. Idempotent; does nothing for what is over. */
  commit(flow: Flow): void {
    if (flow.isCommitted) return;
    flow.isCommitted = true;
    flow.link?.send(commitFrame(flow));
  }

  #place(flow: Flow, link: Link, frame: Uint8Array): void {
    if (flow.end) return;
    if (this.#maxFrameBytes > 0 && frame.byteLength > this.#maxFrameBytes) {
      // Far larger ones would end the stream, and with it the generations of others. What it was to
      // supersede is not heard any more here: it has to stop there too.
      for (const id of flow.start.supersedes) link.send(cancelFrame(id, CancelReason.SUPERSEDED));
      const limit = `${this.#maxFrameBytes}`;
      flow.fail(
        new RelayError(
          "REQUEST_TOO_LARGE",
          "RESOURCE_EXHAUSTED",
          `the start is larger than the ${limit} bytes of a frame`,
          { details: { limit_bytes: limit, size_bytes: `${frame.byteLength}` } },
        ),
      );
      return;
    }
    flow.link = link;
    link.flows.set(flow.generationId, flow);
    link.send(frame);
    if (flow.isCommitted) link.send(commitFrame(flow));
  }

  /** Queue a generation that had no output for the next stream. */
  #waitAgain(flow: Flow): void {
    flow.link = undefined;
    flow.isStarted = false;
    flow.start.supersedes = []; // they were cancelled, or went with the stream
    this.#waiting.add(flow);
  }

  // --- what streams tell ------------------------------------------------------------------------

  /** A frame of the relay; of kinds and generations that are not known it is ignored. */
  took(link: Link, frame: ConverseResponse["frame"]): void {
    switch (frame?.$case) {
      case "notice":
        this.#tookNotice(link, frame.value);
        return;
      case "started": {
        const flow = link.flows.get(frame.value.generationId);
        if (flow) {
          flow.isStarted = true;
          flow.requestId = frame.value.requestId;
        }
        return;
      }
      case "end":
        this.#tookEnd(link, frame.value);
        return;
      case "delta":
      case "segment":
      case "toolCall": {
        const flow = link.flows.get(frame.value.generationId);
        if (flow && !flow.take(frame)) this.#overflow(link, flow);
        return;
      }
    }
  }

  /** Its consumer is told why; what the relay still sends finds no flow. */
  #overflow(link: Link, flow: Flow): void {
    link.send(cancelFrame(flow.generationId, CancelReason.UNSPECIFIED));
    link.flows.delete(flow.generationId);
    flow.fail(slowConsumer());
    this.#endIfDrained(link);
  }

  #tookEnd(link: Link, end: End): void {
    const flow = link.flows.get(end.generationId);
    if (!flow) return;
    link.flows.delete(end.generationId);
    const isRefused = end.error !== undefined && fromStatus(end.error).reason === "DRAINING";
    if (isRefused && this.#mayRestart(flow) && flow.restarts < MOST_RESTARTS) {
      flow.restarts++;
      this.#waitAgain(flow);
      this.#giveUpOn(link);
    } else {
      flow.finish(end);
    }
    this.#endIfDrained(link);
  }

  #tookNotice(link: Link, notice: Notice): void {
    if (notice.kind === NoticeKind.DRAIN) {
      this.#giveUpOn(link);
      this.#endIfDrained(link);
    } else if (notice.kind === NoticeKind.FRAME_REJECTED) {
      const flow = link.flows.get(notice.generationId);
      if (flow && !flow.isStarted) {
        link.flows.delete(notice.generationId);
        flow.fail(
          notice.error
            ? fromStatus(notice.error)
            : new RelayError("", "INVALID_ARGUMENT", notice.message),
        );
        this.#endIfDrained(link);
      }
    } else if (notice.kind === NoticeKind.RETRACT) {
      const flow = link.flows.get(notice.generationId);
      if (flow && !flow.take({ $case: "notice", value: notice })) this.#overflow(link, flow);
    }
  }

  /** Send nothing new over a stream that drains; have another one before it is needed. */
  #giveUpOn(link: Link): void {
    link.isDraining = true;
    link.leaveConnection();
    if (this.current === link) this.current = undefined;
    this.openSoon();
  }

  #endIfDrained(link: Link): void {
    if (link.isDraining && link.flows.size === 0) link.finish();
  }

  /** A stream is over: its generations wait for another one, or fail. */
  lost(link: Link): void {
    this.#links.delete(link);
    const wasCurrent = this.current === link;
    if (wasCurrent) this.current = undefined;
    if (link.ready) {
      const isShort = performance.now() - link.readyAtMs < SHORT_LIVED_MS;
      this.#shortLived = isShort ? this.#shortLived + 1 : 0;
    }
    const error = link.error ?? noStream("the stream is over");
    const flows = [...link.flows.values()];
    link.flows.clear();
    for (const flow of flows) {
      if (flow.isCancelled) {
        flow.finishUnsent();
      } else if (isLasting(error) || !this.#mayRestart(flow)) {
        flow.fail(isLasting(error) ? error : streamLost(error));
      } else if (flow.restarts >= MOST_RESTARTS) {
        flow.fail(error);
      } else {
        // Where it was never ready, the start was hardly seen.
        if (link.ready) flow.restarts++;
        this.#waitAgain(flow);
      }
    }
    const isIdle = error.reason === "SESSION_IDLE"; // who wants nothing needs no stream
    if (this.#waiting.size > 0 || (wasCurrent && !isIdle && !isLasting(error))) this.openSoon();
  }

  #mayRestart(flow: Flow): boolean {
    return !flow.hasOutput && !flow.isCancelled && !this.isClosed;
  }

  // --- opening streams --------------------------------------------------------------------------

  /** Begin to open a stream, if there is none. */
  openSoon(): void {
    if (this.#opener || this.current || this.isClosed) return;
    this.#opener = this.#open();
  }

  /** Try addresses until one is ready, or give up: then what waits fails. Never rejects. */
  async #open(): Promise<void> {
    // A relay that takes streams and drops them must not be asked in a tight loop.
    await this.#wasAskedWithin(pauseMs(this.reconnect, this.#shortLived));
    const giveUpAtMs = performance.now() + this.reconnect.giveUpMs;
    let failures = 0; // since somebody asked
    while (!this.isClosed) {
      const link = this.#makeLink();
      const timer = setTimeout(() => {
        link.abort(noStream(`${link.address} was not ready in time`));
      }, this.reconnect.connectTimeoutMs);
      await link.opened;
      clearTimeout(timer);
      if (link.ready && this.current === link) {
        this.#maxFrameBytes = link.ready.limits?.maxFrameBytes ?? 0;
        break;
      }
      const error = link.error ?? noStream(`${link.address} drains`);
      failures++;
      const wait = pauseMs(this.reconnect, Math.floor(failures / this.addresses.length));
      if (isLasting(error) || performance.now() + wait >= giveUpAtMs) {
        this.#giveUp(error);
        return;
      }
      if (await this.#wasAskedWithin(wait)) failures = 0;
    }
    this.#opener = undefined;
  }

  /** For so long as nobody asks anything, and the session is not closed. Whether somebody did. */
  async #wasAskedWithin(ms: number): Promise<boolean> {
    if (ms <= 0 || this.isClosed) return false;
    const wasAsked = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), ms);
      this.#endPause = (asked) => {
        clearTimeout(timer);
        resolve(asked);
      };
    });
    this.#endPause = () => {};
    return wasAsked;
  }

  #giveUp(error: RelayError): void {
    this.#openError = error;
    // First: whoever hears of a failure below may start again, and needs a new opener then.
    this.#opener = undefined;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const flow of waiting) flow.fail(error);
  }

  /** Begin a stream to the next address. What waits is sent with its setup: no generation waits for
   * `ready`. */
  #makeLink(): Link {
    const address = this.addresses[this.#nextAddress++ % this.addresses.length] as string;
    const link = new Link(address, this.channels, this, this.setupFrame, this.heartbeatMs);
    this.#links.add(link);
    this.current = link;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const flow of waiting) this.#place(flow, link, flow.startFrame());
    return link;
  }
}

function cancelFrame(generationId: string, reason: CancelReason): Uint8Array {
  const target = { $case: "generationId", value: generationId } as const;
  return encode({ $case: "cancel", value: { target, reason } });
}

function commitFrame(flow: Flow): Uint8Array {
  return encode({ $case: "commit", value: { generationId: flow.generationId } });
}
