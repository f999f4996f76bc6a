// One generation over the Generate RPC: no session, no frames to the relay but the start.

import { setTimeout as sleep } from "node:timers/promises";
import { type ClientReadableStream, status as grpcStatus, type StatusObject } from "@grpc/grpc-js";
import { cancelCall } from "./cancel-call.js";
import type { Channels } from "./channels.js";
import type { CancelReasonName } from "./end.js";
import { fromRpc, fromStatus, isLasting, noStream, type RelayError, streamLost } from "./errors.js";
import { type Flow, slowConsumer } from "./flow.js";
import {
  CancelReason,
  ConverseResponse,
  type End,
  GenerateRequest,
  NoticeKind,
  RelayServiceService,
} from "./generated/rtrelay/v1/relay.js";
import type { Driver } from "./generation.js";
import { asBuffer } from "./link.js";
import { numberOf } from "./names.js";
import { MOST_RESTARTS, pauseMs, type Reconnect } from "./reconnect.js";

/** @internal Tries addresses until one has taken the start; never tries again after output. */
export class OneShot implements Driver {
  readonly #stopping = new AbortController();
  #call: ClientReadableStream<ConverseResponse> | undefined;

  constructor(
    private readonly flow: Flow,
    private readonly addresses: readonly string[],
    private readonly channels: Channels,
    private readonly reconnect: Reconnect,
  ) {}

  /** No end can come after the cancel of the RPC, so it is made here. */
  cancel(flow: Flow, reason: CancelReasonName | undefined): void {
    numberOf(CancelReason, reason, "reason");
    flow.cancel(reason);
    flow.finishUnsent();
    this.#stopping.abort();
    cancelCall(this.#call);
  }

  commit(): void {
    // there are no speculations without a session
  }

  /** Never rejects; the flow is over then. */
  async run(frame: Uint8Array): Promise<void> {
    const { flow } = this;
    let giveUpAtMs = performance.now() + this.reconnect.giveUpMs;
    for (let tries = 1; !flow.end; tries++) {
      const address = this.addresses[(tries - 1) % this.addresses.length] as string;
      const error = await this.#attempt(address, frame);
      if (flow.end) return;
      if (flow.hasOutput || isLasting(error)) {
        flow.fail(isLasting(error) ? error : streamLost(error));
        return;
      }
      if (flow.isStarted) {
        flow.isStarted = false;
        flow.restarts++;
        giveUpAtMs = performance.now() + this.reconnect.giveUpMs;
      }
      const wait = pauseMs(this.reconnect, Math.floor(tries / this.addresses.length));
      if (flow.restarts > MOST_RESTARTS || performance.now() + wait >= giveUpAtMs) {
        flow.fail(error);
        return;
      }
      await sleep(wait, undefined, { signal: this.#stopping.signal }).catch(() => {});
    }
  }

  /** One RPC; resolves with how it ended, for the case that the flow is not over. */
  #attempt(address: string, frame: Uint8Array): Promise<RelayError> {
    const { channels } = this;
    const channel = channels.acquire(address);
    const call = channel.makeServerStreamRequest<Uint8Array, ConverseResponse>(
      RelayServiceService.generate.path,
      asBuffer,
      ConverseResponse.decode, // the frames of Generate are frames of Converse
      frame,
      channels.metadata(),
    );
    this.#call = call;
    let refused: RelayError | undefined;
    let late: RelayError | undefined;
    const timer = setTimeout(() => {
      late = noStream(`${address} did not take the start in time`);
      cancelCall(call);
    }, this.reconnect.connectTimeoutMs);
    const took = ({ frame }: ConverseResponse) => {
      clearTimeout(timer);
      if (frame?.$case === "end") refused = this.#tookEnd(frame.value);
      else this.#took(frame);
    };
    call.on("data", took);
    call.on("error", () => {}); // `status` follows
    return new Promise((resolve) => {
      call.on("status", (status: StatusObject) => {
        clearTimeout(timer);
        for (let rest = call.read(); rest; rest = call.read()) took(rest as ConverseResponse);
        const isOk = status.code === grpcStatus.OK;
        const ending = isOk ? noStream("the relay ended the stream") : fromRpc(status);
        const error = refused ?? late ?? ending;
        if (error.reason === "DRAINING") channels.retire(address, channel);
        channels.release(channel);
        resolve(error);
      });
    });
  }

  #took(frame: ConverseResponse["frame"]): void {
    const { flow } = this;
    switch (frame?.$case) {
      case "started":
        flow.isStarted = true;
        flow.requestId = frame.value.requestId;
        flow.start.generationId = frame.value.generationId;
        return;
      case "notice":
        if (frame.value.kind !== NoticeKind.RETRACT) return;
        break;
      case "delta":
      case "segment":
      case "toolCall":
        break;
      default:
        return;
    }
    if (flow.take(frame)) return;
    flow.fail(slowConsumer());
    cancelCall(this.#call);
  }

  /** Returns the error of a relay that drains; another one may take the start. */
  #tookEnd(end: End): RelayError | undefined {
    const error = end.error && fromStatus(end.error);
    if (error?.reason === "DRAINING" && !this.flow.hasOutput) return error;
    this.flow.finish(end);
    return undefined;
  }
}

/** @internal The bytes of the request. */
export function requestOf(flow: Flow): Uint8Array {
  return GenerateRequest.encode(GenerateRequest.create({ start: flow.start })).finish();
}
