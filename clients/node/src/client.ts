// The channels to one relay or several, and what runs over them.

import {
  type ChannelCredentials,
  Client as GrpcClient,
  credentials as grpcCredentials,
  Metadata,
} from "@grpc/grpc-js";
import { checkAddresses } from "./address.js";
import { Channels } from "./channels.js";
import { Flow } from "./flow.js";
import { bindSignal, Generation } from "./generation.js";
import { encode } from "./link.js";
import { OneShot, requestOf } from "./one-shot.js";
import {
  checkKeys,
  checkUint32,
  DEFAULTS_KEYS,
  type Defaults,
  mergeDefaults,
  type SessionOptions,
  setupOf,
} from "./options.js";
import { DEFAULT_RECONNECT, type Reconnect } from "./reconnect.js";
import { Session } from "./session.js";
import { type GenerateOptions, startOf } from "./start.js";
import { Switchboard } from "./switchboard.js";
import { type TlsOptions, tlsCredentials } from "./tls.js";

/** The README of the package says why. */
const CHANNEL_OPTIONS: Readonly<Record<string, number | string>> = {
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.keepalive_permit_without_calls": 1,
  // A relay is on this machine or network; gRPC would obey `http_proxy`.
  "grpc.enable_http_proxy": 0,
  // How often an address is tried is for the session to say, within `Reconnect`. While gRPC itself
  // pauses, a try fails without looking at the address.
  "grpc.enable_retries": 0,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 100,
  // Connections end with their client.
  "grpc.use_local_subchannel_pool": 1,
};

/** How relays are reached, and defaults of what is asked of them. */
export interface ClientOptions extends Defaults {
  /** `host:port` or `unix:/path`, one or several, in the order in which they are tried. */
  readonly address: string | readonly string[];
  /** Sent with each call as `authorization: Bearer KEY`; over a network use TLS. */
  readonly apiKey?: string;
  /** TLS: `true` for the machine's own roots, or what else it takes. Unix sockets are always plain. */
  readonly tls?: boolean | TlsOptions | ChannelCredentials;
  /** For the relay's logs and metrics; `rtrelay-node` when left out. */
  readonly clientName?: string;
  readonly clientVersion?: string;
  /** How streams are opened; what is left out has its default. */
  readonly reconnect?: Partial<Reconnect>;
  /** gRPC channel options over those of the client. */
  readonly channelOptions?: Readonly<Record<string, number | string>>;
}

const CLIENT_KEYS = [
  ...["address", "apiKey", "tls", "clientName", "clientVersion", "reconnect", "channelOptions"],
  ...DEFAULTS_KEYS,
];
const SESSION_KEYS = [...DEFAULTS_KEYS, "prewarmPrompt", "heartbeatMs"];

/**
 * One connection to each relay (a second one while it drains); make one per process and keep it.
 * Nothing is opened before the first session. `close` ends all, and the process can exit.
 */
export class Client {
  readonly #addresses: readonly string[];
  readonly #defaults: Defaults;
  readonly #reconnect: Reconnect;
  readonly #name: { name: string; version: string };
  readonly #channels: Channels;
  readonly #sessions = new Set<Session>();
  readonly #runs = new Map<Generation, Promise<void>>();
  #isClosed = false;

  /** @throws TypeError an option is wrong; its name is in the message, never its value */
  constructor(options: ClientOptions) {
    checkKeys(options, "a client", CLIENT_KEYS);
    this.#addresses = checkAddresses(options.address);
    const { model, budgets, labels, promptCache } = options;
    this.#defaults = mergeDefaults({}, { model, budgets, labels, promptCache } as Defaults);
    this.#name = {
      name: options.clientName ?? "rtrelay-node",
      version: options.clientVersion ?? "",
    };
    setupOf(this.#defaults, this.#name, undefined); // what is wrong is told here
    const { reconnect = {} } = options;
    checkKeys(reconnect, "reconnect", Object.keys(DEFAULT_RECONNECT));
    for (const [key, value] of Object.entries(reconnect)) checkUint32(value, `reconnect.${key}`);
    this.#reconnect = { ...DEFAULT_RECONNECT, ...reconnect };
    const channelOptions = { ...CHANNEL_OPTIONS, ...options.channelOptions };
    const plain = grpcCredentials.createInsecure();
    const { credentials, channelOptions: ofTls } = tlsCredentials(options.tls);
    this.#channels = new Channels((address) => {
      const isPlain = !credentials || address.startsWith("unix:");
      return new GrpcClient(address, isPlain ? plain : credentials, {
        ...(isPlain ? {} : ofTls),
        ...channelOptions,
      });
    }, metadataMaker(options.apiKey));
  }

  /**
   * A session; it begins to open its stream, and nothing needs to be waited for.
   *
   * @throws TypeError an option is wrong; its name is in the message
   * @throws Error the client is closed
   */
  session(options: SessionOptions = {}): Session {
    this.#checkOpen();
    checkKeys(options, "a session", SESSION_KEYS);
    const { prewarmPrompt, heartbeatMs = 0, ...over } = options;
    checkUint32(heartbeatMs, "heartbeatMs");
    const setup = setupOf(mergeDefaults(this.#defaults, over), this.#name, prewarmPrompt);
    const switchboard = new Switchboard(
      this.#addresses,
      this.#channels,
      encode({ $case: "setup", value: setup }),
      this.#reconnect,
      heartbeatMs,
    );
    const session = new Session(switchboard, (closed) => this.#sessions.delete(closed));
    this.#sessions.add(session);
    return session;
  }

  /**
   * One generation without a session: for jobs that are no conversation. After a cancel its end holds
   * no usage, since the relay cannot tell any.
   *
   * @throws TypeError an option is wrong; its name is in the message
   * @throws Error the client is closed
   */
  generate(options: GenerateOptions): Generation {
    this.#checkOpen();
    const given = { ...options, ...mergeDefaults(this.#defaults, options) };
    const flow = new Flow(startOf(given, "generate"));
    const frame = requestOf(flow);
    const shot = new OneShot(flow, this.#addresses, this.#channels, this.#reconnect);
    const generation = new Generation(flow, shot);
    bindSignal(flow, shot, options.signal);
    this.#runs.set(
      generation,
      shot.run(frame).then(() => {
        this.#runs.delete(generation);
      }),
    );
    return generation;
  }

  /**
   * Close sessions and connections, and cancel what else runs. Waits at most a second for the relay.
   * Idempotent, never rejects; no timer and no socket of the client is left.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const generation of this.#runs.keys()) void generation.cancel("session_end");
    const sessions = [...this.#sessions].map((session) => session.close());
    await Promise.all([...sessions, ...this.#runs.values()]);
    this.#channels.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new Error("the client is closed");
  }
}

/** The key lives in a closure, where nothing prints it. */
function metadataMaker(apiKey: string | undefined): () => Metadata {
  if (apiKey !== undefined && (typeof apiKey !== "string" || !/^[\x21-\x7e]+$/.test(apiKey))) {
    // grpc-js would name the value.
    throw new TypeError("apiKey has characters that no header can carry, or is empty");
  }
  return () => {
    const metadata = new Metadata();
    if (apiKey !== undefined) metadata.set("authorization", `Bearer ${apiKey}`);
    return metadata;
  };
}
