// Races: per alias who started, who won, and when losers were reset.
import { el, empty, keyed, mark, name, say } from "./dom.js";
import { count, dollars, ms, percent, quantile } from "./format.js";

const PARTS = ["won", "lost", "failed", "open"];
const WORDS = { won: "won", lost: "lost", failed: "failed", open: "given up" };

function lane(target) {
  const cells = Object.fromEntries(["started", "hedges", "won", "lost", "at", "failed", "held"].map((key) => [key, el("td", { class: "number" })]));
  const fills = Object.fromEntries(PARTS.map((part) => [part, el("span", { class: `part ${part}` })]));
  const bar = el("div", { class: "stack", role: "img" }, ...Object.values(fills));
  const node = el("tr", {}, el("th", { scope: "row" }, name(target)), el("td", { class: "wide" }, bar), ...Object.values(cells));
  return {
    node,
    update({ row, most }) {
      const failed = row.failed + row.overloaded;
      const parts = { won: row.won, lost: row.lost, failed, open: Math.max(0, row.started - row.won - row.lost - failed) };
      for (const part of PARTS) fills[part].style.width = `${(100 * parts[part]) / most}%`;
      mark(bar, "aria-label", PARTS.filter((part) => parts[part]).map((part) => `${parts[part]} ${WORDS[part]}`).join(", ") || "nothing started");
      say(cells.started, String(row.started));
      say(cells.hedges, row.hedges ? String(row.hedges) : "–");
      say(cells.won, String(row.won));
      say(cells.lost, row.lost ? String(row.lost) : "–");
      say(cells.at, row.lost_at_ms === null ? "–" : ms(row.lost_at_ms));
      say(cells.held, row.held_back ? String(row.held_back) : "–");
      say(cells.failed, failed ? String(failed) : "–");
    },
  };
}

function race(alias) {
  const body = el("tbody");
  const said = el("p", { class: "aside" });
  const heads = [["Target", ""], ["What came of it", "wide"], ["Started", "number"], ["As hedge", "number"], ["Won", "number"], ["Lost", "number"], ["Reset after", "number"], ["Failed", "number"], ["Held back", "number"]];
  const lanesRoot = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Race of ${alias}` },
    el("table", { class: "lanes" }, el("thead", {}, el("tr", {}, ...heads.map(([text, kind]) => el("th", { scope: "col", class: kind, text })))), body));
  const node = el("article", { class: "panel" }, el("div", { class: "card-top" }, el("h3", {}, name(alias)), said), lanesRoot);
  return {
    node,
    update({ row }) {
      const now = row.quarter;
      const parts = [`${count(now.generations, "generation")}`];
      if (now.ttft.n) parts.push(`clients had the first token in ${quantile(now.ttft, "p50")} (p95 ${quantile(now.ttft, "p95")})`);
      if (now.fired) {
        parts.push(`${count(now.fired, "hedge")} sent, ${now.hedge_won} won`);
        if (now.cost) parts.push(`for ${dollars(now.added_cost)} more (${percent(now.added_cost / now.cost)})`);
      } else if (row.shadow) parts.push(`shadow: ${row.shadow.would_fire} hedges would have been sent, some ${Math.round(row.shadow.would_win)} would have won`);
      const refused = Object.values(now.refused).reduce((sum, one) => sum + one, 0);
      if (refused) parts.push(`${count(refused, "hedge")} refused`);
      if (!Object.keys(now.race).length) parts.push("none came to a provider");
      say(said, parts.join("; "));
      lanesRoot.hidden = !Object.keys(now.race).length;
      const lanes = Object.entries(now.race).sort(([, a], [, b]) => b.started - a.started);
      const most = Math.max(1, ...lanes.map(([, one]) => one.started));
      keyed(body, lanes.map(([target, one]) => ({ target, row: one, most })), (one) => one.target, (one) => lane(one.target));
    },
  };
}

export function showRaces(root, picture) {
  const rows = Object.entries(picture.aliases).map(([alias, row]) => ({ alias, row })).filter((one) => one.row.quarter.generations);
  if (!rows.length) empty(root, "No race in the last 15 minutes.");
  else keyed(root, rows, (one) => one.alias, (one) => race(one.alias));
}
