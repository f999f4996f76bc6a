// How often and how long relays are tried. Times are in milliseconds.

/** How streams are opened. */
export interface Reconnect {
  /** Until an address has said `ready`; then the next one is tried. 3000. */
  readonly connectTimeoutMs: number;
  /** After so long without a stream what waits for one fails. Later starts try anew. 5000. */
  readonly giveUpMs: number;
  /** Bound of the pause after each address was tried once; it doubles with every try. 50. */
  readonly backoffMs: number;
  /** Bound of that bound. The pause itself is drawn evenly between 0 and the bound. 1000. */
  readonly maxBackoffMs: number;
}

/** @internal */
export const DEFAULT_RECONNECT: Reconnect = {
  connectTimeoutMs: 3000,
  giveUpMs: 5000,
  backoffMs: 50,
  maxBackoffMs: 1000,
};

/** @internal Of one generation after streams that had worked: what kills relays must not visit them all. */
export const MOST_RESTARTS = 3;

/**
 * @internal How long to wait after so many failures in a row; not at all after none. Full jitter, so
 * that the clients of a relay that went do not come back in step.
 */
export function pauseMs(reconnect: Reconnect, failures: number): number {
  if (failures <= 0) return 0;
  const bound = reconnect.backoffMs * 2 ** Math.min(failures - 1, 16);
  return Math.random() * Math.min(bound, reconnect.maxBackoffMs);
}
