// A relay of a few lines: it does what a test tells it, and breaks on request.
//
//     const relay = await FakeRelay.start();
//     relay.onStart = answers("Hel", "lo");
//     ... a client talks to relay.address ...
//     const stream = await relay.stream(); // the first stream it got
//     await stream.until(() => stream.cancels.length > 0); // woken by frames

import { once } from "node:events";
import {
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  status,
} from "@grpc/grpc-js";
import { ErrorInfo, RetryInfo } from "../src/generated/google/rpc/error_details.js";
import { Status } from "../src/generated/google/rpc/status.js";
import { v1 } from "../src/index.js";

type Frame = NonNullable<v1.ConverseResponse["frame"]>;
type Call = ServerDuplexStream<v1.ConverseRequest, v1.ConverseResponse>;
type GenerateCall = Parameters<
  handleServerStreamingCall<v1.GenerateRequest, v1.GenerateResponse>
>[0];

export type OnStart = (stream: FakeStream, start: v1.Start) => void;

/** One Converse call as the relay sees it. */
export class FakeStream {
  readonly frames: v1.ConverseRequest["frame"][] = [];
  setup: v1.Setup | undefined;
  isOver = false;
  readonly #changed = new EventTarget();

  constructor(readonly call: Call) {}

  get starts(): v1.Start[] {
    return this.frames.flatMap((frame) => (frame?.$case === "start" ? [frame.value] : []));
  }

  get cancels(): { id: string; reason: number }[] {
    return this.frames.flatMap((frame) =>
      frame?.$case === "cancel" && frame.value.target?.$case === "generationId"
        ? [{ id: frame.value.target.value, reason: frame.value.reason }]
        : [],
    );
  }

  get commits(): string[] {
    return this.frames.flatMap((frame) =>
      frame?.$case === "commit" ? [frame.value.generationId] : [],
    );
  }

  send(frame: Frame): void {
    if (!this.isOver) this.call.write({ frame });
  }

  begin(generationId: string): void {
    this.send({ $case: "started", value: { generationId, requestId: `r-${generationId}` } });
  }

  say(generationId: string, text: string, charOffset = 0): void {
    const value = v1.Delta.fromPartial({ generationId, text, charOffset });
    this.send({ $case: "delta", value });
  }

  segment(generationId: string, text: string, index: number): void {
    this.send({ $case: "segment", value: v1.Segment.fromPartial({ generationId, text, index }) });
  }

  end(generationId: string, more: v1.DeepPartial<v1.End> = {}): void {
    const value = v1.End.fromPartial({ outcome: v1.Outcome.COMPLETED, ...more, generationId });
    this.send({ $case: "end", value });
  }

  drain(): void {
    const value = v1.Notice.fromPartial({ kind: v1.NoticeKind.DRAIN, timeLeftMs: 1000 });
    this.send({ $case: "notice", value });
  }

  /** End the RPC with a status, after what was sent before. */
  abort(code: status = status.UNAVAILABLE, reason = "", message = ""): void {
    if (this.isOver) return;
    this.isOver = true;
    this.call.emit("error", {
      code,
      details: message,
      metadata: trailersOf(code, reason, message),
    });
  }

  finish(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.call.end();
    this.changed();
  }

  /** Wait until it is true; asked again after each frame of the client. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await once(this.#changed, "change");
  }

  async start(index = 0): Promise<v1.Start> {
    await this.until(() => this.starts.length > index);
    return this.starts[index] as v1.Start;
  }

  took(frame: v1.ConverseRequest["frame"], relay: FakeRelay): void {
    this.frames.push(frame);
    switch (frame?.$case) {
      case "setup":
        this.setup = frame.value;
        if (relay.isReady) {
          const limits = { maxFrameBytes: relay.maxFrameBytes };
          this.send({ $case: "ready", value: v1.Ready.fromPartial({ sessionId: "s", limits }) });
        }
        break;
      case "start":
        relay.onStart(this, frame.value);
        break;
      case "cancel":
        if (relay.isAnsweringCancels && frame.value.target?.$case === "generationId") {
          this.end(frame.value.target.value, {
            outcome: v1.Outcome.CANCELLED,
            cancelReason: frame.value.reason,
            usage: { completionTokens: 3 },
          });
        }
        break;
      case "ping":
        if (relay.isAnsweringPings) this.send({ $case: "pong", value: frame.value });
        break;
      case "close":
        for (const { generationId } of this.starts) {
          this.end(generationId, { outcome: v1.Outcome.CANCELLED, cancelReason: 4 });
        }
        break;
    }
    this.changed();
  }

  changed(): void {
    this.#changed.dispatchEvent(new Event("change"));
  }
}

/** A server on a free port, or on `address`. */
export class FakeRelay {
  onStart: OnStart = hangs;
  onGenerate: (call: GenerateCall, start: v1.Start) => void = (call) => call.end();
  isReady = true;
  isAnsweringCancels = true;
  isAnsweringPings = true;
  maxFrameBytes = 0;
  /** Ends each stream at once. */
  refusal: { code: status; reason: string } | undefined;
  readonly streams: FakeStream[] = [];
  readonly generates: GenerateCall[] = [];
  readonly #changed = new EventTarget();
  readonly #server: Server;

  private constructor(
    readonly address: string,
    server: Server,
  ) {
    this.#server = server;
  }

  static async start(address = "127.0.0.1:0", credentials = ServerCredentials.createInsecure()) {
    const server = new Server();
    const holder: { relay?: FakeRelay } = {};
    const converse: handleBidiStreamingCall<v1.ConverseRequest, v1.ConverseResponse> = (call) =>
      holder.relay?.converse(call);
    const generate: handleServerStreamingCall<v1.GenerateRequest, v1.GenerateResponse> = (call) =>
      holder.relay?.generate(call);
    server.addService(v1.RelayServiceService, { converse, generate });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(address, credentials, (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    const relay = new FakeRelay(
      address.startsWith("unix:") ? address : `127.0.0.1:${port}`,
      server,
    );
    holder.relay = relay;
    return relay;
  }

  /** Cut everything off. */
  stop(): void {
    this.#server.forceShutdown();
  }

  async stream(index = 0): Promise<FakeStream> {
    while (this.streams.length <= index) await once(this.#changed, "change");
    return this.streams[index] as FakeStream;
  }

  async generateCall(index = 0): Promise<GenerateCall> {
    while (this.generates.length <= index) await once(this.#changed, "change");
    return this.generates[index] as GenerateCall;
  }

  converse(call: Call): void {
    const stream = new FakeStream(call);
    this.streams.push(stream);
    call.on("data", (request: v1.ConverseRequest) => stream.took(request.frame, this));
    call.on("end", () => stream.finish());
    call.on("error", () => {}); // the client is gone
    call.on("cancelled", () => {
      stream.isOver = true;
      stream.changed();
    });
    if (this.refusal) stream.abort(this.refusal.code, this.refusal.reason);
    this.#changed.dispatchEvent(new Event("change"));
  }

  generate(call: GenerateCall): void {
    this.generates.push(call);
    call.on("error", () => {});
    this.#changed.dispatchEvent(new Event("change"));
    this.onGenerate(call, call.request.start as v1.Start);
  }
}

/** Accept it and say nothing. */
export const hangs: OnStart = (stream, start) => stream.begin(start.generationId);

/** Answer with these words and say nothing more. */
export function begins(...words: string[]): OnStart {
  return (stream, start) => {
    stream.begin(start.generationId);
    let offset = 0;
    for (const word of words) {
      stream.say(start.generationId, word, offset);
      offset += word.length;
    }
  };
}

/** Answer with these words and end. */
export function answers(...words: string[]): OnStart {
  return (stream, start) => {
    begins(...words)(stream, start);
    stream.end(start.generationId);
  };
}

/** A status with an ErrorInfo, and a RetryInfo of 1.5 s. */
export function statusOf(code: status, reason: string, message = ""): Status {
  const metadata = { provider: "lab", upstream_status: "429", provider_code: "slow" };
  const info = ErrorInfo.fromPartial({ reason, domain: "rtrelay", metadata });
  const retry = RetryInfo.fromPartial({ retryDelay: { seconds: 1, nanos: 500_000_000 } });
  const prefix = "type.googleapis.com/google.rpc.";
  return Status.fromPartial({
    code,
    message,
    details: [
      { typeUrl: `${prefix}ErrorInfo`, value: ErrorInfo.encode(info).finish() },
      { typeUrl: `${prefix}RetryInfo`, value: RetryInfo.encode(retry).finish() },
      { typeUrl: `${prefix}Help`, value: new Uint8Array() },
    ],
  });
}

/** Trailers with the details of a status, if there is a reason. */
export function trailersOf(code: status, reason: string, message = ""): Metadata {
  const metadata = new Metadata();
  if (reason) {
    const packed = Status.encode(statusOf(code, reason, message)).finish();
    metadata.set("grpc-status-details-bin", Buffer.from(packed));
  }
  return metadata;
}
