// One Converse stream. Frames go out in order, what comes is told to its owner.

import {
  type ClientDuplexStream,
  type Client as GrpcClient,
  status as grpcStatus,
  type StatusObject,
} from "@grpc/grpc-js";
import { cancelCall } from "./cancel-call.js";
import type { Channels } from "./channels.js";
import { fromRpc, noStream, type RelayError } from "./errors.js";
import type { Flow } from "./flow.js";
import {
  ConverseRequest,
  ConverseResponse,
  type Ready,
  RelayServiceService,
} from "./generated/rtrelay/v1/relay.js";

/** @internal Who is told what happens on a stream. */
export interface LinkOwner {
  /** A frame came that is not the link's own business. */
  took(link: Link, frame: ConverseResponse["frame"]): void;
  /** The stream is over; `link.error` says how. Called once. */
  lost(link: Link): void;
}

interface Ping {
  sentAtMs: number;
  resolve: (roundTripMs: number) => void;
  reject: (error: RelayError) => void;
}

/** @internal The bytes of a frame to the relay. */
export function encode(frame: NonNullable<ConverseRequest["frame"]>): Uint8Array {
  return ConverseRequest.encode(ConverseRequest.create({ frame })).finish();
}

/** @internal */
export class Link {
  /** Generations that run on it, by their id on the wire. */
  readonly flows = new Map<string, Flow>();
  ready: Ready | undefined;
  readyAtMs = 0;
  isDraining = false;
  /** How it ended; undefined while it goes on. */
  error: RelayError | undefined;
  /** Resolves when it is ready, and when it is over. */
  readonly opened: Promise<void>;
  /** Resolves when it is over and its owner was told. */
  readonly closed: Promise<void>;
  #setOpened!: () => void;
  #setClosed!: () => void;
  readonly #channel: GrpcClient;
  readonly #call: ClientDuplexStream<Uint8Array, ConverseResponse>;
  readonly #pings = new Map<number, Ping>();
  #lastNonce = 0;
  #isFinishing = false;
  #isOver = false;
  #heartbeat: NodeJS.Timeout | undefined;

  constructor(
    readonly address: string,
    private readonly channels: Channels,
    private readonly owner: LinkOwner,
    setupFrame: Uint8Array,
    private readonly heartbeatMs: number,
  ) {
    this.opened = new Promise((resolve) => {
      this.#setOpened = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.#setClosed = resolve;
    });
    this.#channel = channels.acquire(address);
    const { path } = RelayServiceService.converse;
    this.#call = this.#channel.makeBidiStreamRequest(
      path,
      asBuffer,
      ConverseResponse.decode,
      channels.metadata(),
    );
    this.#call.on("data", (frame: ConverseResponse) => this.#took(frame.frame));
    this.#call.on("error", () => {}); // `status` follows
    this.#call.on("status", (status: StatusObject) => this.#over(status));
    this.send(setupFrame);
  }

  /** Send a frame; after `finish` it is dropped. */
  send(frame: Uint8Array): void {
    if (!this.#isFinishing && !this.#isOver) this.#call.write(frame);
  }

  /** Half-close behind what was sent: what runs may end, then the stream does. */
  finish(): void {
    if (this.#isFinishing || this.#isOver) return;
    this.#isFinishing = true;
    this.#call.end();
  }

  /** Its worker drains: streams after this one get a connection of their own. */
  leaveConnection(): void {
    this.channels.retire(this.address, this.#channel);
  }

  /** End it at once; `error` is what is told of it. */
  abort(error: RelayError): void {
    this.error ??= error;
    if (!this.#isOver) cancelCall(this.#call);
  }

  /** Ask the relay for a sign of life. Resolves with the round trip in milliseconds, through both
   * event loops; rejects with RelayError if the stream goes. */
  ping(): Promise<number> {
    const nonce = ++this.#lastNonce;
    return new Promise((resolve, reject) => {
      if (this.#isOver || this.#isFinishing) {
        reject(this.error ?? noStream("the stream is over"));
        return;
      }
      this.#pings.set(nonce, { sentAtMs: performance.now(), resolve, reject });
      this.send(encode({ $case: "ping", value: { nonce } }));
    });
  }

  #took(frame: ConverseResponse["frame"]): void {
    switch (frame?.$case) {
      case undefined: // of a kind that is not known
        return;
      case "ready":
        this.ready = frame.value;
        this.readyAtMs = performance.now();
        if (this.heartbeatMs > 0) this.#startHeartbeat();
        this.#setOpened();
        return;
      case "pong": {
        const ping = this.#pings.get(frame.value.nonce);
        this.#pings.delete(frame.value.nonce);
        ping?.resolve(performance.now() - ping.sentAtMs);
        return;
      }
      default:
        this.owner.took(this, frame);
    }
  }

  #startHeartbeat(): void {
    let isWaiting = false;
    this.#heartbeat = setInterval(() => {
      if (isWaiting) {
        this.abort(noStream(`${this.address} did not answer a ping in ${this.heartbeatMs} ms`));
        return;
      }
      isWaiting = true;
      this.ping().then(
        () => {
          isWaiting = false;
        },
        () => {}, // the stream is over, and so is this
      );
    }, this.heartbeatMs);
    this.#heartbeat.unref();
  }

  #over(status: StatusObject): void {
    if (this.#isOver) return;
    // Frames that the readable side still holds: they came before the status.
    for (let frame = this.#read(); frame; frame = this.#read()) this.#took(frame.frame);
    this.#isOver = true;
    clearInterval(this.#heartbeat);
    const isOk = status.code === grpcStatus.OK;
    this.error ??= isOk ? noStream("the relay ended the stream") : fromRpc(status);
    for (const ping of this.#pings.values()) ping.reject(this.error);
    this.#pings.clear();
    if (this.error.reason === "DRAINING") this.leaveConnection();
    this.owner.lost(this);
    this.channels.release(this.#channel);
    this.#setOpened();
    this.#setClosed();
  }

  #read(): ConverseResponse | null {
    return this.#call.read() as ConverseResponse | null;
  }
}

/** @internal The same bytes as a Buffer. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
