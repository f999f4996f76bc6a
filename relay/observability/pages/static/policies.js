// Experiments, rules, cascades, panels, caches and guardrails: what each has decided lately.
import { el, empty, keyed, mark, name, say } from "./dom.js";
import { count, dollars, percent, quantile } from "./format.js";

const KINDS = ["experiment", "cascade", "panel", "rule", "cache", "guardrail"];
const TITLES = { experiment: "Experiment", cascade: "Cascade", panel: "Panel", rule: "Rule", cache: "Caches of", guardrail: "Guardrail" };
const FIRST = { experiment: "Arm", cache: "Verdict", guardrail: "What was done" };
const CACHED = new Set(["hit", "semantic", "shared"]);

function outcome(label) {
  const cells = Object.fromEntries(["n", "share", "p50", "p95", "failed", "cost"].map((key) => [key, el("td", { class: "number" })]));
  const fill = el("span", { class: "part won" });
  const bar = el("div", { class: "stack", role: "img" }, fill);
  const node = el("tr", {}, el("th", { scope: "row" }, name(label.replaceAll("_", " "))), el("td", { class: "wide" }, bar), ...Object.values(cells));
  return {
    node,
    update({ row, whole }) {
      const share = row.n / Math.max(1, whole);
      fill.style.width = `${100 * share}%`;
      mark(bar, "aria-label", `${percent(share)} of ${whole}`);
      say(cells.n, String(row.n));
      say(cells.share, percent(share));
      say(cells.p50, row.ttft.n ? quantile(row.ttft, "p50") : "–");
      say(cells.p95, row.ttft.n ? quantile(row.ttft, "p95") : "–");
      say(cells.failed, row.failed ? `${row.failed} (${percent(row.failed / row.n)})` : "–");
      say(cells.cost, row.cost ? dollars(row.cost / row.n) : "–");
    },
  };
}

function policy({ kind, title }) {
  const body = el("tbody");
  const said = el("p", { class: "aside" });
  const heads = [[FIRST[kind] ?? "What came of it", ""], ["Share", "wide"], ["Generations", "number"], ["", "number"], ["TTFT p50", "number"], ["p95", "number"], ["Failed", "number"], ["Cost each", "number"]];
  const table = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${TITLES[kind]} ${title}` },
    el("table", { class: "lanes" }, el("thead", {}, el("tr", {}, ...heads.map(([text, where]) => (text ? el("th", { scope: "col", class: where, text }) : el("td", { class: where }))))), body));
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
      say(said, parts.join("; "));
      keyed(body, rows.map((row) => ({ row, whole })), (one) => one.row.outcome, (one) => outcome(one.row.outcome));
    },
  };
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
