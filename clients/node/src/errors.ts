// What the client throws: one class, whose `code` and `reason` tell what happened.

import { status as grpcStatus, type Metadata, type StatusObject } from "@grpc/grpc-js";
import type { GenerationEnd } from "./end.js";
import { ErrorInfo, RetryInfo } from "./generated/google/rpc/error_details.js";
import { Status } from "./generated/google/rpc/status.js";

/** Name of a gRPC status: `UNAVAILABLE`, `INVALID_ARGUMENT`, ... */
export type StatusCode = keyof typeof grpcStatus;

/** Reason of our own: the stream broke, and the relay could not tell how the generation ended. */
export const STREAM_LOST = "STREAM_LOST";

interface RelayErrorFields {
  retryAfterMs?: number | undefined;
  details?: Readonly<Record<string, string>> | undefined;
  cause?: unknown;
}

/** A generation failed, or no session with a relay could be had. */
export class RelayError extends Error {
  override readonly name = "RelayError";
  /** Name of the gRPC status. To switch on; new reasons may come at any time. */
  readonly code: StatusCode;
  /** Name of an `ErrorReason` of the contract, `STREAM_LOST`, or empty if the relay did not say. */
  readonly reason: string;
  /** Milliseconds after which another try may work; undefined if it is not known. */
  readonly retryAfterMs: number | undefined;
  /**
   * Small facts: `field`, `provider`, `upstream_status`, and the provider's own words
   * (`provider_type`, `provider_code`, `provider_param`).
   */
  readonly details: Readonly<Record<string, string>>;
  /** The end of the generation with its usage and attempts; undefined if none is known. */
  declare readonly end: GenerationEnd | undefined;

  constructor(reason: string, code: StatusCode, message: string, fields: RelayErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = code;
    this.reason = reason;
    this.retryAfterMs = fields.retryAfterMs;
    this.details = fields.details ?? {};
    setEnd(this, undefined);
  }

  /** The same start may work at another try. */
  get retryable(): boolean {
    return this.code === "UNAVAILABLE" || this.retryAfterMs !== undefined;
  }

  /** The provider at fault, as the operator calls it. */
  get provider(): string | undefined {
    return this.details.provider;
  }

  /** HTTP status of the provider. */
  get upstreamStatus(): number | undefined {
    const text = this.details.upstream_status;
    return text === undefined ? undefined : Number(text);
  }
}

/** @internal Give an error its end. Not enumerable: the end holds the error. */
export function setEnd(error: RelayError, end: GenerationEnd | undefined): void {
  Object.defineProperty(error, "end", { value: end, configurable: true, enumerable: false });
}

/** @internal The same error, for another generation: each has an end of its own. */
export function copyOf(error: RelayError): RelayError {
  const { reason, code, message, retryAfterMs, details, cause } = error;
  return new RelayError(reason, code, message, { retryAfterMs, details, cause });
}

/** @internal The error that a `google.rpc.Status` tells of; unknown details are passed over. */
export function fromStatus(status: Status): RelayError {
  let reason = "";
  let details: Record<string, string> = {};
  let retryAfterMs: number | undefined;
  for (const { typeUrl, value } of status.details) {
    if (typeUrl.endsWith("/google.rpc.ErrorInfo")) {
      const info = ErrorInfo.decode(value);
      reason = info.reason;
      details = info.metadata;
    } else if (typeUrl.endsWith("/google.rpc.RetryInfo")) {
      const delay = RetryInfo.decode(value).retryDelay;
      retryAfterMs = delay && delay.seconds * 1000 + delay.nanos / 1e6;
    }
  }
  return new RelayError(reason, codeName(status.code), status.message, { retryAfterMs, details });
}

/** @internal The error that a failed RPC tells of, by its trailers where the relay sent any. */
export function fromRpc(status: StatusObject): RelayError {
  const packed = detailsOf(status.metadata);
  return packed ? fromStatus(packed) : new RelayError("", codeName(status.code), status.details);
}

function detailsOf(trailers: Metadata): Status | undefined {
  const [data] = trailers.get("grpc-status-details-bin");
  if (!(data instanceof Uint8Array)) return undefined;
  try {
    return Status.decode(data);
  } catch {
    return undefined; // of some proxy; the plain status has to do
  }
}

/** @internal A generation went down with its stream; `cause` says how that broke. */
export function streamLost(cause: RelayError): RelayError {
  return new RelayError(STREAM_LOST, "UNAVAILABLE", cause.message, { cause });
}

/** @internal There is no stream, or no longer. */
export function noStream(message: string): RelayError {
  return new RelayError(STREAM_LOST, "UNAVAILABLE", message);
}

const LASTING: ReadonlySet<StatusCode> = new Set<StatusCode>([
  "INVALID_ARGUMENT",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "NOT_FOUND",
  "UNIMPLEMENTED",
  "FAILED_PRECONDITION",
  "OUT_OF_RANGE",
  "RESOURCE_EXHAUSTED", // of a frame that gRPC itself finds too large
]);

/** @internal Whether another stream would end the same. */
export function isLasting(error: RelayError): boolean {
  return LASTING.has(error.code);
}

function codeName(code: number): StatusCode {
  return (grpcStatus[code] as StatusCode | undefined) ?? "UNKNOWN";
}
