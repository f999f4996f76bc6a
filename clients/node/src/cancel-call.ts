// The one way in which calls are cancelled here.

/**
 * @internal Cancel a call of grpc-js once the callbacks of this moment are done.
 *
 * grpc-js (1.14) forgets a cancel that comes right behind the start of a call: it tells us that the
 * call is cancelled, and then sends it all the same, to an answer that nobody can stop.
 */
export function cancelCall(call: { cancel(): void } | undefined): void {
  if (call) setImmediate(() => call.cancel());
}
