// Figures as people read them.

export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10000) return `${(value / 1000).toFixed(0)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 10) return `${Math.round(value)} ms`;
  return `${value.toFixed(value >= 1 ? 1 : 2)} ms`;
}

export const us = (value) => (value === null || value === undefined ? "–" : ms(value / 1000));

/** Of a latency: `over` where so many were given up that only a bound is known. */
export const quantile = (latency, which) =>
  (latency.floor.includes(which) ? "> " : "") + ms(latency[which]);

export function dollars(micro) {
  if (micro === null || micro === undefined) return "–";
  const value = micro / 1e6;
  if (value === 0) return "$0";
  if (value >= 100) return `$${value.toFixed(0)}`;
  if (value >= 1) return `$${value.toFixed(2)}`;
  if (value >= 0.01) return `$${value.toFixed(3)}`;
  return `$${value.toFixed(6).replace(/0+$/, "")}`;
}

export const percent = (share) => `${Math.round(share * 100)} %`;

export const count = (number, one, more = `${one}s`) => `${number} ${number === 1 ? one : more}`;

export const clock = (at_ms) => new Date(at_ms).toLocaleTimeString([], { hour12: false });

export function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}
