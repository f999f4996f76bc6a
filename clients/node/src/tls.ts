// TLS towards relays.

import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import { checkKeys } from "./options.js";

/** PEM texts. Left out: the machine's own roots, no client certificate, the name in the address. */
export interface TlsOptions {
  /** The only roots that are trusted. */
  readonly ca?: string | Uint8Array;
  /** Certificate of this client, with `key`. */
  readonly cert?: string | Uint8Array;
  readonly key?: string | Uint8Array;
  /** The name that the relay's certificate must have, if it is not the host in the address. */
  readonly serverName?: string;
}

/** @internal @throws TypeError naming the field */
export function tlsCredentials(given: boolean | TlsOptions | ChannelCredentials | undefined): {
  credentials: ChannelCredentials | undefined;
  channelOptions: Record<string, string>;
} {
  if (given === undefined || given === false) return { credentials: undefined, channelOptions: {} };
  if (isCredentials(given)) return { credentials: given, channelOptions: {} };
  const { ca, cert, key, serverName, ...rest } = given === true ? ({} as TlsOptions) : given;
  checkKeys(rest, "tls", []);
  if ((cert === undefined) !== (key === undefined)) {
    throw new TypeError("tls.cert and tls.key come together");
  }
  return {
    credentials: credentials.createSsl(pem(ca), pem(key), pem(cert)),
    channelOptions: serverName
      ? { "grpc.ssl_target_name_override": serverName, "grpc.default_authority": serverName }
      : {},
  };
}

function isCredentials(given: true | TlsOptions | ChannelCredentials): given is ChannelCredentials {
  return typeof given === "object" && "_createSecureConnector" in given;
}

function pem(given: string | Uint8Array | undefined): Buffer | null {
  return given === undefined ? null : Buffer.from(given as Uint8Array);
}
