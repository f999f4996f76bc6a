// Enums of the contract by name: `CANCEL_REASON_BARGE_IN` is `"barge_in"` outside.

type Values = Readonly<Record<string, number | object>>;

/** The names of an enum in lower case, but its zero. */
export type NameOf<E> = Lowercase<Exclude<keyof E & string, "UNSPECIFIED" | "UNRECOGNIZED">>;

/** @internal The name of a value; undefined for zero and for values that this version does not know. */
export function nameOf<E extends Values>(values: E, value: number): NameOf<E> | undefined {
  if (value <= 0) return undefined;
  const found = Object.keys(values).find((key) => values[key] === value);
  return found?.toLowerCase() as NameOf<E> | undefined;
}

/**
 * @internal The value of a name; 0 for undefined.
 *
 * @throws TypeError naming `field` if there is no such name
 */
export function numberOf<E extends Values>(
  values: E,
  name: NameOf<E> | undefined,
  field: string,
): E[keyof E] & number {
  const value = name === undefined ? 0 : values[String(name).toUpperCase()];
  if (typeof value !== "number" || value < 0 || (name !== undefined && value === 0)) {
    const known = Object.keys(values).filter((key) => Number(values[key]) > 0);
    throw new TypeError(`${field} is one of ${known.join(", ").toLowerCase()}`);
  }
  return value as E[keyof E] & number;
}
