// Where relays are.

const ADDRESS = /^(unix:.+|(dns|ipv4|ipv6):.+|[^/:\s]+:\d{1,5}|\[[0-9a-fA-F:.%]+\]:\d{1,5})$/;

/** @internal @throws TypeError naming the address at fault; gRPC would take what is no address for a name */
export function checkAddresses(given: string | readonly string[]): readonly string[] {
  const addresses = typeof given === "string" ? [given] : [...(given ?? [])];
  if (addresses.length === 0) throw new TypeError("a client needs an address");
  for (const address of addresses) {
    if (typeof address !== "string" || !ADDRESS.test(address)) {
      throw new TypeError(`address is host:port or unix:/path, not ${JSON.stringify(address)}`);
    }
  }
  return addresses;
}
