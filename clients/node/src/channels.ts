// The channels of a client: one to each address, replaced when the worker behind it drains.
//
// A new stream on the connection of a worker that drains would be refused by that same worker, for as
// long as old generations keep the connection open. A channel of its own makes a connection of its
// own, which another worker may accept.

import type { Client as GrpcClient, Metadata } from "@grpc/grpc-js";

/** @internal Opened as they are needed; `close` closes all of them. */
export class Channels {
  readonly #current = new Map<string, GrpcClient>();
  readonly #retired = new Set<GrpcClient>();
  readonly #uses = new Map<GrpcClient, number>();

  /**
   * @param make opens a channel to an address
   * @param metadata of each call; never printed, it holds the key
   */
  constructor(
    private readonly make: (address: string) => GrpcClient,
    private readonly makeMetadata: () => Metadata,
  ) {}

  /** Metadata of a call. */
  metadata(): Metadata {
    return this.makeMetadata();
  }

  /** The channel for a new stream; give it back with `release`. */
  acquire(address: string): GrpcClient {
    let channel = this.#current.get(address);
    if (!channel) {
      channel = this.make(address);
      this.#current.set(address, channel);
    }
    this.#uses.set(channel, (this.#uses.get(channel) ?? 0) + 1);
    return channel;
  }

  /** Use it for no new stream. Idempotent. */
  retire(address: string, channel: GrpcClient): void {
    if (this.#current.get(address) !== channel) return;
    this.#current.delete(address);
    if (this.#uses.has(channel)) this.#retired.add(channel);
    else channel.close();
  }

  /** A stream is over; the last one closes a channel that is retired. */
  release(channel: GrpcClient): void {
    const uses = (this.#uses.get(channel) ?? 1) - 1;
    if (uses > 0) {
      this.#uses.set(channel, uses);
      return;
    }
    this.#uses.delete(channel);
    if (this.#retired.delete(channel)) channel.close();
  }

  /** Close all. Idempotent. */
  close(): void {
    for (const channel of [...this.#current.values(), ...this.#retired]) channel.close();
    this.#current.clear();
    this.#retired.clear();
  }
}
