// Recent generations: a list whose rows open into a waterfall.
import { el, empty, keyed, name } from "./dom.js";
import { clock, count, dollars, ms, us } from "./format.js";
import { waterfall } from "./waterfall.js";

const MOST = 60;
const FATES = { ok: "answered", cancelled: "cancelled", limited: "over a limit", refused: "refused", failed: "failed" };
const FILTERS = {
  all: () => true,
  raced: (one) => one.attempts.length > 1,
  bad: (one) => one.fate !== "ok" && one.fate !== "cancelled",
};

const state = { records: [], keys: {}, isPaused: false, filter: "all", root: null };

const keyOf = (record) => `${record.worker} ${record.id}`;

export function startRecent(root) {
  state.root = root;
  document.getElementById("filter").addEventListener("change", (event) => {
    state.filter = event.target.value;
    draw();
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

export function nameKeys(keys) {
  state.keys = keys ?? {};
}

function draw() {
  if (state.isPaused && state.root.heldParts?.size) return;
  const rows = state.records.filter(FILTERS[state.filter]).slice(0, MOST);
  if (!rows.length) {
    empty(state.root, state.records.length ? "None of the recent ones is of this kind." : "No generation has ended yet.");
    return;
  }
  keyed(state.root, [rows], () => "table", table);
}

function table() {
  const node = el("div", { class: "panel rows" });
  return { node, update: (rows) => keyed(node, rows, keyOf, row) };
}

function outcome(record) {
  if (record.fate !== "ok") return FATES[record.fate] + (record.reason ? `: ${record.reason}` : "");
  const won = record.attempts.find((one) => one.outcome === "won" || one.target === record.winner);
  if (!won) return "answered";
  if (won.role === "hedge") return "a hedge won";
  if (won.role === "failover") return "failed over";
  return record.attempts.some((one) => one.outcome === "lost") ? "the first won" : "answered";
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
    el("span", { class: "number", text: record.ttft_us === null ? "–" : us(record.ttft_us) }),
    el("span", { class: "number", text: us(record.wall_us) }),
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
  if (record.turn) parts.push(["turn", record.turn]);
  if (record.prompt_tokens !== null) parts.push(["tokens", `${record.prompt_tokens} in, ${record.completion_tokens} out`]);
  if (record.cost_micro !== null) parts.push(["cost", dollars(record.cost_micro)]);
  if (record.stalls) parts.push(["stalls", `${count(record.stalls, "stall")}, longest gap ${ms(record.longest_gap_us / 1000)}`]);
  parts.push(["worker", String(record.worker)]);
  return el("dl", { class: "facts" }, ...parts.map(([term, text]) => el("div", {}, el("dt", { text: term }), el("dd", {}, name(text, "plain")))));
}
