// Recent generations: a list whose rows open into a waterfall.
import { chosenWord, decisionWord, decisionWords } from "./decision.js";
import { el, empty, keyed, name, say } from "./dom.js";
import { clock, count, dollars, ms, us } from "./format.js";
import { waterfall } from "./waterfall.js";

const PAGE = 25;
const FATES = { ok: "answered", cancelled: "cancelled", limited: "over a limit", refused: "refused", failed: "failed" };
const FILTERS = {
  all: () => true,
  decided: (one) => decisionWords(one.decision).length > 0,
  raced: (one) => one.attempts.length > 1,
  bad: (one) => one.fate !== "ok" && one.fate !== "cancelled",
};

const state = { records: [], keys: {}, budgets: {}, isPaused: false, filter: "all", most: PAGE, root: null };

const keyOf = (record) => `${record.worker} ${record.id}`;

export function startRecent(root) {
  state.root = root;
  document.getElementById("filter").addEventListener("change", (event) => {
    state.filter = event.target.value;
    state.most = PAGE;
    draw(true);
  });
  const pause = document.getElementById("pause");
  pause.addEventListener("click", () => {
    state.isPaused = !state.isPaused;
    pause.setAttribute("aria-pressed", String(state.isPaused));
    pause.textContent = state.isPaused ? "Go on" : "Pause";
    draw();
  });
}

/** @param records newest last; `isWhole`: in place of all that was there */
export function takeRecent(records, isWhole) {
  const fresh = [...records].reverse();
  const known = new Set(fresh.map(keyOf));
  state.records = [...fresh, ...(isWhole ? [] : state.records.filter((one) => !known.has(keyOf(one))))].slice(0, 256);
  draw();
}

export function nameKeys(keys, budgets) {
  state.keys = keys ?? {};
  state.budgets = Object.fromEntries((budgets ?? []).map((one) => [one.id, one.name]));
}

function draw(isAsked = false) {
  if (state.isPaused && !isAsked && state.root.heldParts?.size) return;
  const every = state.records.filter(FILTERS[state.filter]);
  const rows = every.slice(0, state.most);
  if (!rows.length) {
    empty(state.root, state.records.length ? "None of the recent ones is of this kind." : "No generation has ended yet.");
    return;
  }
  keyed(state.root, [{ rows, left: every.length - rows.length }], () => "table", table);
}

function table() {
  const list = el("div");
  const more = el("button", { type: "button", class: "more" });
  more.addEventListener("click", () => {
    state.most += PAGE;
    draw(true);
  });
  const heads = [["ended", ""], ["asked for", ""], ["answered by", ""], ["first token", "number"], ["in all", "number"], ["outcome", ""]];
  const head = el("div", { class: "line head", "aria-hidden": "true" }, ...heads.map(([text, kind]) => el("span", { class: kind, text })));
  const node = el("div", { class: "panel rows" }, head, list, more);
  return {
    node,
    update({ rows, left }) {
      keyed(list, rows, keyOf, row);
      more.hidden = left <= 0;
      say(more, `Show ${Math.min(PAGE, left)} more`);
    },
  };
}

function outcome(record) {
  if (record.reason === "BUDGET_EXCEEDED") return "over its budget";
  if (record.fate !== "ok") return FATES[record.fate] + (record.reason ? `: ${record.reason}` : "");
  const decided = decisionWord(record.decision);
  if (decided) return decided;
  const won = record.attempts.find((one) => one.outcome === "won" || one.target === record.winner);
  if (!won) return "answered";
  if (won.role === "hedge") return "a hedge won";
  if (won.role === "failover") return "failed over";
  if (record.attempts.some((one) => one.outcome === "lost")) return "the first won";
  return chosenWord(record.decision) || "answered";
}

function row(record) {
  const id = `gen-${keyOf(record).replace(/[^\w]/g, "-")}`;
  const detail = el("div", { class: "detail", id, hidden: true });
  const kind = record.fate === "ok" && outcome(record) !== "answered" && outcome(record) !== "the first won" ? "note" : record.fate;
  const button = el(
    "button", { type: "button", class: "line", "aria-expanded": "false", "aria-controls": id },
    el("span", { class: "when", text: clock(record.ended_ms) }),
    el("span", { class: "who" }, name(record.alias)),
    el("span", { class: "winner" }, record.winner ? name(record.winner) : "nobody"),
    el("span", { class: "number" }, el("span", { class: "unseen", text: "first token " }), record.ttft_us === null ? "–" : us(record.ttft_us)),
    el("span", { class: "number" }, el("span", { class: "unseen", text: "in all " }), us(record.wall_us)),
    el("span", { class: "fate", data: { fate: kind }, text: outcome(record) }),
  );
  button.addEventListener("click", () => {
    detail.hidden = !detail.hidden;
    button.setAttribute("aria-expanded", String(!detail.hidden));
    if (!detail.hidden) detail.replaceChildren(facts(record), waterfall(record));
  });
  return { node: el("div", { class: "row-block" }, button, detail), update() {} };
}

function facts(record) {
  const parts = [["id", record.id], ["by", record.frontend], ["first token", record.ttft_us === null ? "–" : us(record.ttft_us)], ["in all", us(record.wall_us)]];
  if (record.key) parts.push(["key", state.keys[record.key] ?? record.key]);
  if (record.budget) parts.push(["budget", state.budgets[record.budget] ?? record.budget]);
  if (record.turn) parts.push(["turn", record.turn]);
  if (record.prompt_tokens !== null) parts.push(["tokens", `${record.prompt_tokens} in, ${record.completion_tokens} out`]);
  if (record.cost_micro !== null) parts.push(["cost", dollars(record.cost_micro)]);
  if (record.stalls) parts.push(["stalls", `${count(record.stalls, "stall")}, longest gap ${ms(record.longest_gap_us / 1000)}`]);
  parts.push(["worker", String(record.worker)]);
  return el("dl", { class: "facts" }, ...parts.map(([term, text]) => el("div", {}, el("dt", { text: term }), el("dd", {}, name(text, "plain")))));
}
