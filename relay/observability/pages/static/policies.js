// Experiments, rules, cascades, panels, caches and guardrails: what each has decided lately.
import { verdictWords } from "./decision.js";
import { el, empty, keyed, mark, name, say } from "./dom.js";
import { count, dollars, percent, quantile } from "./format.js";

const KINDS = ["experiment", "cascade", "panel", "rule", "cache", "guardrail"];
const TITLES = { experiment: "Experiment", cascade: "Cascade", panel: "Panel", rule: "Rule", cache: "Caches of", guardrail: "Guardrail" };
const FIRST = { experiment: "Arm", cache: "Verdict", guardrail: "What was done" };
// As the top line has it: too few are chance, and what is quick enough is not slow.
const SAMPLES = 5;
const SLOWER = 1.8;
const SLOW_MS = 300;
const CACHED = new Set(["hit", "semantic", "shared"]);

function outcome(kind, label) {
  const words = kind === "guardrail" ? verdictWords(label) : label.replaceAll("_", " ");
  const cells = Object.fromEntries(["share", "p50", "p95", "failed", "cost", "n"].map((key) => [key, el("td", { class: "number" })]));
  const fill = el("span", { class: "part won" });
  const bar = el("div", { class: "stack", role: "img" }, fill);
  const node = el("tr", {}, el("th", { scope: "row" }, name(words, kind === "experiment" ? "name" : "plain")), el("td", { class: "wide" }, bar), ...Object.values(cells));
  return {
    node,
    update({ row, whole, level }) {
      const share = row.n / Math.max(1, whole);
      fill.style.width = `${100 * share}%`;
      mark(bar, "aria-label", `${percent(share)} of ${whole}`);
      say(cells.n, String(row.n));
      say(cells.share, percent(share));
      say(cells.p50, row.ttft.n ? quantile(row.ttft, "p50") : "–");
      mark(cells.p50, "data-level", level);
      say(cells.p95, row.ttft.n ? quantile(row.ttft, "p95") : "–");
      say(cells.failed, row.failed ? `${row.failed} (${percent(row.failed / row.n)})` : "–");
      say(cells.cost, row.cost ? dollars(row.cost / row.n) : "–");
    },
  };
}

function policy({ kind, title }) {
  const body = el("tbody");
  const said = el("p", { class: "aside" });
  const heads = [[FIRST[kind] ?? "What came of it", ""], ["", "wide"], ["Share", "number"], ["TTFT p50", "number"], ["p95", "number"], ["Failed", "number"], ["Cost each", "number"], [kind === "guardrail" ? "Times" : "Generations", "number"]];
  const table = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${TITLES[kind]} ${title}` },
    el("table", { class: "lanes thin" }, el("thead", {}, el("tr", {}, ...heads.map(([text, where]) => (text ? el("th", { scope: "col", class: where, text }) : el("td", { class: where }))))), body));
  const node = el("article", { class: "panel" }, el("div", { class: "card-top" }, el("h3", {}, `${TITLES[kind]} `, name(title)), said), table);
  return {
    node,
    update({ rows }) {
      const whole = rows.reduce((sum, row) => sum + row.n, 0);
      const parts = [count(whole, kind === "guardrail" ? "verdict" : "generation")];
      if (kind === "cache") {
        const kept = rows.filter((row) => CACHED.has(row.outcome)).reduce((sum, row) => sum + row.n, 0);
        const saved = rows.reduce((sum, row) => sum + row.saved, 0);
        parts.push(`${percent(kept / Math.max(1, whole))} answered without a provider`);
        if (saved) parts.push(`${dollars(saved)} saved`);
      }
      const slow = kind === "experiment" ? slower(rows) : null;
      if (slow) parts.push(`first tokens of ${slow.row.outcome} take ${slow.times} times those of ${slow.than.outcome}`);
      say(said, parts.join("; "));
      keyed(body, rows.map((row) => ({ row, whole, level: slow?.row === row ? "warn" : null })), (one) => one.row.outcome, (one) => outcome(kind, one.row.outcome));
    },
  };
}

/** The arm that is far slower than the quickest, when enough have been asked to tell. */
function slower(rows) {
  const known = rows.filter((row) => row.ttft.n >= SAMPLES && row.ttft.p50).sort((a, b) => a.ttft.p50 - b.ttft.p50);
  const [than, row] = [known[0], known.at(-1)];
  const ratio = than ? row.ttft.p50 / than.ttft.p50 : 1;
  return ratio > SLOWER && row.ttft.p50 > SLOW_MS ? { row, than, times: ratio.toFixed(1) } : null;
}

export function showPolicies(root, picture) {
  const found = new Map();
  for (const row of picture.policies ?? []) {
    const key = `${row.kind} ${row.name}`;
    if (!found.has(key)) found.set(key, { key, kind: row.kind, title: row.name, rows: [] });
    found.get(key).rows.push(row);
  }
  const shown = [...found.values()].sort((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) || a.title.localeCompare(b.title));
  if (!shown.length) empty(root, "No policy, cache or guardrail had anything to decide in the last 15 minutes.");
  else keyed(root, shown, (one) => one.key, policy);
}
