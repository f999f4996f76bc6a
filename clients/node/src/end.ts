// How a generation ended, with names instead of the contract's numbers.

import { fromStatus, RelayError, setEnd } from "./errors.js";
import { FinishReason } from "./generated/rtrelay/v1/content.js";
import { ErrorReason } from "./generated/rtrelay/v1/errors.js";
import {
  AttemptKind,
  type Attempt as AttemptMessage,
  AttemptOutcome,
  CancelReason,
  type ChoiceEnd as ChoiceEndMessage,
  End,
  Outcome,
} from "./generated/rtrelay/v1/relay.js";
import { type NameOf, nameOf } from "./names.js";

/** Why generations are cancelled. All are handled alike; they tell records and metrics apart. */
export type CancelReasonName = NameOf<typeof CancelReason>;

/** How one alternative answer ended; no reason if the generation ended before it did. */
export interface ChoiceEnd extends Readonly<Omit<ChoiceEndMessage, "finishReason">> {
  readonly finishReason: NameOf<typeof FinishReason> | undefined;
}

/** One try at one endpoint; names that this version does not know are undefined. */
export interface Attempt extends Readonly<Omit<AttemptMessage, "kind" | "outcome" | "reason">> {
  readonly kind: NameOf<typeof AttemptKind> | undefined;
  readonly outcome: NameOf<typeof AttemptOutcome> | undefined;
  /** As in `RelayError.reason`: `FIRST_TOKEN_TIMEOUT` and the like. */
  readonly reason: string | undefined;
}

type Renamed = "outcome" | "error" | "cancelReason" | "choices" | "attempts" | "decisionJson";

/** How a generation ended. There is exactly one for each, whatever happens. */
export interface GenerationEnd extends Readonly<Omit<End, Renamed>> {
  /** `completed`: the answer is whole. `failed`: `error` says why; what came before stays valid. */
  readonly outcome: NameOf<typeof Outcome>;
  /** With `failed`. */
  readonly error: RelayError | undefined;
  /** With `cancelled`: the reason that was given. */
  readonly cancelReason: CancelReasonName | undefined;
  readonly choices: readonly ChoiceEnd[];
  /** All that was tried, in the order of their starts. */
  readonly attempts: readonly Attempt[];
  /**
   * What the operator's policies made of it: `rule`, `experiment`, `composition`, `legs`, `cache`,
   * `guards`, ...; empty where there was nothing to decide.
   */
  readonly decision: Readonly<Record<string, unknown>>;
  /**
   * The relay told it. False where it could not (no stream to be had, a stream that broke) or was
   * not asked (cancelled before a stream had it): usage, attempts and timeline are not known then.
   */
  readonly fromRelay: boolean;
}

/** @internal The end that the relay told. */
export function endOfFrame({ decisionJson, ...frame }: End): GenerationEnd {
  const outcome = nameOf(Outcome, frame.outcome) ?? "failed";
  const error = outcome === "failed" ? errorOf(frame) : undefined;
  return withError({
    ...frame,
    outcome,
    error,
    cancelReason: nameOf(CancelReason, frame.cancelReason),
    choices: frame.choices.map((choice) => ({
      ...choice,
      finishReason: nameOf(FinishReason, choice.finishReason),
    })),
    attempts: frame.attempts.map((attempt) => ({
      ...attempt,
      kind: nameOf(AttemptKind, attempt.kind),
      outcome: nameOf(AttemptOutcome, attempt.outcome),
      reason: nameOf(ErrorReason, attempt.reason)?.toUpperCase(),
    })),
    decision: decisionOf(decisionJson),
    fromRelay: true,
  });
}

function decisionOf(json: Uint8Array): Record<string, unknown> {
  return json.length === 0 ? {} : JSON.parse(Buffer.from(json).toString());
}

function errorOf(frame: Pick<End, "error">): RelayError {
  if (frame.error) return fromStatus(frame.error);
  return new RelayError("", "UNKNOWN", "the generation failed, and the relay does not say why");
}

/** @internal An end that no relay told: cancelled, or failed if there is an error. */
export function endOfOurs(
  ids: { generationId: string; turnId: string; requestId: string },
  how: { cancelReason: CancelReasonName | undefined } | { error: RelayError },
): GenerationEnd {
  const error = "error" in how ? how.error : undefined;
  const { decisionJson: _, ...blank } = End.create(ids);
  return withError({
    ...blank,
    outcome: error ? "failed" : "cancelled",
    error,
    cancelReason: "cancelReason" in how ? how.cancelReason : undefined,
    choices: [],
    attempts: [],
    decision: {},
    fromRelay: false,
  });
}

function withError(end: GenerationEnd): GenerationEnd {
  if (end.error) setEnd(end.error, end);
  return end;
}
