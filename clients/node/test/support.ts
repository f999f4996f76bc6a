// What tests of sessions share: a fake relay, a client and a session, closed again afterwards.

import type { TestContext } from "node:test";
import { Client, type ClientOptions, type Session } from "../src/index.js";
import { FakeRelay } from "./fake-relay.js";

/** Times of reconnects that keep tests short; none of them is waited for where all goes well. */
export const QUICK = { connectTimeoutMs: 500, giveUpMs: 1000, backoffMs: 5, maxBackoffMs: 20 };

/** A fake relay that ends with the test. */
export async function fakeRelay(t: TestContext, address?: string): Promise<FakeRelay> {
  const relay = await FakeRelay.start(address);
  t.after(() => relay.stop());
  return relay;
}

/** A client that ends with the test. */
export function clientOf(t: TestContext, options: ClientOptions): Client {
  const client = new Client({ model: "fast", reconnect: QUICK, ...options });
  t.after(() => client.close());
  return client;
}

/** One relay, and a session with it. */
export async function pair(
  t: TestContext,
  options: Partial<ClientOptions> = {},
): Promise<{ relay: FakeRelay; client: Client; session: Session }> {
  const relay = await fakeRelay(t);
  const client = clientOf(t, { address: relay.address, apiKey: "k", ...options });
  return { relay, client, session: client.session({ labels: { call: "1" } }) };
}

/** All that an iterable has. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
