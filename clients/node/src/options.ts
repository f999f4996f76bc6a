// What callers pass, checked and turned into messages of the contract.

import type { Prompt } from "./generated/rtrelay/v1/content.js";
import type { DeepPartial } from "./generated/rtrelay/v1/relay.js";
import {
  type Budgets as BudgetsMessage,
  CacheMode,
  CommitOn,
  HedgeMode,
  type HedgePolicy as HedgePolicyMessage,
  type OutputOptions as OutputMessage,
  PromptCache,
  Setup,
  TextMode,
} from "./generated/rtrelay/v1/relay.js";
import { type NameOf, numberOf } from "./names.js";

/** Time limits of one generation in milliseconds; 0 sets none here. */
export interface Budgets {
  /** Until the first content. */
  readonly firstTokenMs?: number;
  /** Until the first speakable segment. */
  readonly firstSegmentMs?: number;
  /** Between two pieces of the provider's answer. */
  readonly interTokenMs?: number;
  /** Until the end. */
  readonly totalMs?: number;
}

/** What is sent back, and in which form. */
export interface OutputOptions {
  /** `deltas` (also when left out), `segments` (speakable pieces, no deltas), or both. */
  readonly textMode?: NameOf<typeof TextMode>;
  /** When the answer is bound to one provider: `first_content` (also when left out) or `first_segment`. */
  readonly commitOn?: NameOf<typeof CommitOn>;
  readonly reasoning?: boolean;
  /** Also the pieces of a tool call's arguments; the whole call comes in any case. */
  readonly toolArguments?: boolean;
  readonly extras?: boolean;
  /** The phases of every attempt in the end. */
  readonly attemptPhases?: boolean;
}

/** What is asked of the race for the first token, within what the operator allows. */
export interface HedgePolicy {
  readonly mode?: NameOf<typeof HedgeMode>;
  readonly delayMs?: number;
  readonly maxAttempts?: number;
}

/** Whether the relay sees to it that the provider caches prompts. */
export type PromptCacheName = NameOf<typeof PromptCache>;

/** Whether an answer that the relay has kept will do; `only`: nothing else will. */
export type CacheModeName = NameOf<typeof CacheMode>;

/** Defaults of generations that do not say it themselves. */
export interface Defaults {
  /** An alias, `provider/model`, or a model's own name. */
  readonly model?: string;
  readonly budgets?: Budgets;
  /** Labels for usage records and logs; at most 16. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly promptCache?: PromptCacheName;
}

/** What a session takes; what is given goes over the client's defaults, labels and budgets field by field. */
export interface SessionOptions extends Defaults {
  /** What all prompts of the session begin with, put into the provider's cache now; needs `model`. */
  readonly prewarmPrompt?: DeepPartial<Prompt>;
  /**
   * Ping the relay so often, and give up a stream whose pings stay unanswered for as long; 0 (when
   * left out) does not. It also keeps an idle session open.
   */
  readonly heartbeatMs?: number;
}

/** @internal */
export const DEFAULTS_KEYS = ["model", "budgets", "labels", "promptCache"] as const;

/** @internal @throws TypeError naming keys that there are not: a misspelt option would do nothing. */
export function checkKeys(given: object, where: string, known: readonly string[]): void {
  if (typeof given !== "object" || given === null) throw new TypeError(`${where} is an object`);
  for (const key of Object.keys(given)) {
    if (!known.includes(key)) {
      throw new TypeError(`${where} has no ${key}; it has ${known.join(", ")}`);
    }
  }
}

/** @internal @throws TypeError naming the field if it is no whole number of 32 bits */
export function checkUint32(value: number | undefined, field: string): void {
  if (value === undefined) return;
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw new TypeError(`${field} is a whole number from 0 to 4294967295`);
  }
}

/** @internal @throws TypeError naming the field */
export function budgetsOf(given: Budgets): BudgetsMessage {
  const known = ["firstTokenMs", "firstSegmentMs", "interTokenMs", "totalMs"] as const;
  checkKeys(given, "budgets", known);
  for (const key of known) checkUint32(given[key], `budgets.${key}`);
  const { firstTokenMs, firstSegmentMs, interTokenMs, totalMs } = given;
  return { firstTokenMs, firstSegmentMs, interTokenMs, totalMs };
}

/** @internal @throws TypeError naming the field */
export function outputOf(given: OutputOptions): OutputMessage {
  const flags = ["reasoning", "toolArguments", "extras", "attemptPhases"] as const;
  checkKeys(given, "output", ["textMode", "commitOn", ...flags]);
  const { reasoning = false, toolArguments = false, extras = false, attemptPhases = false } = given;
  return {
    textMode: numberOf(TextMode, given.textMode, "output.textMode"),
    commitOn: numberOf(CommitOn, given.commitOn, "output.commitOn"),
    reasoning,
    toolArguments,
    extras,
    attemptPhases,
  };
}

/** @internal @throws TypeError naming the field */
export function hedgeOf(given: HedgePolicy): HedgePolicyMessage {
  checkKeys(given, "hedge", ["mode", "delayMs", "maxAttempts"]);
  checkUint32(given.delayMs, "hedge.delayMs");
  checkUint32(given.maxAttempts, "hedge.maxAttempts");
  const { delayMs = 0, maxAttempts = 0 } = given;
  return { mode: numberOf(HedgeMode, given.mode, "hedge.mode"), delayMs, maxAttempts };
}

/** @internal @throws TypeError naming the field */
export function labelsOf(given: Readonly<Record<string, string>>): Record<string, string> {
  for (const [key, value] of Object.entries(given)) {
    if (typeof value !== "string") throw new TypeError(`labels.${key} is a text`);
  }
  return { ...given };
}

/** @internal @throws TypeError naming the field */
export function promptCacheOf(given: PromptCacheName | undefined): PromptCache {
  return numberOf(PromptCache, given, "promptCache");
}

/** @internal @throws TypeError naming the field */
export function cacheOf(given: CacheModeName | undefined): CacheMode {
  return numberOf(CacheMode, given, "cache");
}

/** @internal Later defaults over earlier ones, labels and budgets field by field. */
export function mergeDefaults(base: Defaults, over: Defaults): Defaults {
  return {
    ...base,
    ...definedOf(over),
    budgets: { ...base.budgets, ...definedOf(over.budgets ?? {}) },
    labels: { ...base.labels, ...over.labels },
  };
}

/** @internal @throws TypeError naming the field */
export function setupOf(
  defaults: Defaults,
  client: { name: string; version: string },
  prewarmPrompt: DeepPartial<Prompt> | undefined,
): Setup {
  return Setup.fromPartial({
    clientName: client.name,
    clientVersion: client.version,
    model: defaults.model ?? "",
    budgets: budgetsOf(defaults.budgets ?? {}),
    labels: labelsOf(defaults.labels ?? {}),
    promptCache: promptCacheOf(defaults.promptCache),
    ...(prewarmPrompt && { prewarmPrompt }),
  });
}

function definedOf<T extends object>(given: T): T {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as T;
}
