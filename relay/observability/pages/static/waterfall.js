// One generation drawn along its time: a lane for each attempt, one for the phases of the answer.
import { decisionWords } from "./decision.js";
import { el, name } from "./dom.js";
import { us } from "./format.js";

const PHASES = ["admission", "route", "race_wait", "pool_wait", "request_sent", "response_headers", "first_content", "relay_out", "stream", "stalls", "end"];
const WORDS = {
  admission: "admission", route: "routing", race_wait: "waiting in the race", pool_wait: "connection", request_sent: "sending",
  response_headers: "provider thinks", first_content: "first content", relay_out: "relay writes", stream: "answer streams", stalls: "stalls", end: "ending",
};
const OUTCOMES = { won: "won", lost: "lost", success: "answered", failure: "failed", overload: "too much to do", ignored: "given up", held_back: "held back, not sent", running: "running" };

function ticks(whole) {
  const most = window.innerWidth < 600 ? 3 : 5;
  const rough = whole / (most - 1);
  const step = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((one) => one * step).find((one) => whole / one <= most);
  const found = [];
  for (let at = 0; at <= whole; at += size) found.push(at);
  return found;
}

/**
 * @param record a generation, or one that runs: then `now_us` says how far it is
 */
export function waterfall(record) {
  const now = record.now_us ?? 0;
  const whole = Math.max(1, record.wall_us ?? 0, now, ...record.attempts.map((one) => Math.max(one.ended_us ?? 0, one.content_us ?? 0, one.started_us)));
  const place = (node, from, until) => {
    node.style.left = `${(100 * from) / whole}%`;
    node.style.width = `${Math.max(0.2, (100 * (until - from)) / whole)}%`;
    return node;
  };
  const scale = el("div", { class: "scale", "aria-hidden": "true" }, ...ticks(whole).map((at) => {
    const tick = el("span", { text: at ? us(at) : "0" });
    tick.style.left = `${(100 * at) / whole}%`;
    if (at / whole > 0.82) tick.classList.add("last");
    return tick;
  }));
  const lanes = record.attempts.map((attempt) => {
    const until = attempt.ended_us ?? (record.wall_us || now);
    const track = el("div", { class: "track", "aria-hidden": "true" });
    const bar = place(el("span", { class: `run ${attempt.outcome}` }), attempt.started_us, Math.max(until, attempt.started_us));
    track.append(bar);
    if (attempt.content_us !== null) {
      const thinking = place(el("span", { class: "run think" }), attempt.started_us, attempt.content_us);
      const dot = el("span", { class: "dot" });
      dot.style.left = `${(100 * attempt.content_us) / whole}%`;
      track.append(thinking, dot);
    }
    const said = [OUTCOMES[attempt.outcome] ?? attempt.outcome];
    if (attempt.reason) said.push(attempt.reason + (attempt.http ? ` (${attempt.http})` : ""));
    if (attempt.role !== "primary") said.push(`started at ${us(attempt.started_us)}`);
    if (attempt.content_us !== null) said.push(`first content at ${us(attempt.content_us)}`);
    if (attempt.outcome === "lost" && attempt.ended_us) said.push(`reset at ${us(attempt.ended_us)}`);
    return el("div", { class: "lane", data: { outcome: attempt.outcome } },
      el("p", { class: "lane-name" }, el("span", { class: "role", text: attempt.leg ? `${attempt.leg}, ${attempt.role}` : attempt.role }), name(attempt.target)),
      track, el("p", { class: "aside", text: said.join(", ") }));
  });
  const root = el("div", { class: "waterfall" }, scale, ...lanes);
  const hedge = record.hedge;
  if (hedge && hedge.reason !== "disabled") {
    const words = [hedge.shadow ? "Shadow hedge" : "Hedge"];
    if (hedge.delay_us !== null) words.push(`due after ${us(hedge.delay_us)} (${hedge.reason.replaceAll("_", " ")})`);
    else words.push(`none: ${hedge.reason.replaceAll("_", " ")}`);
    const isOver = Boolean(record.wall_us); // before that nobody has said who won
    if (hedge.fired) words.push(!isOver ? "sent" : hedge.won ? "sent, and it won" : "sent, and it did not win");
    else if (hedge.refused) words.push(`not sent: ${hedge.refused}`);
    else if (isOver && hedge.delay_us !== null) words.push(hedge.shadow && hedge.would_fire ? "would have been sent" : "not needed");
    root.append(el("p", { class: "aside", text: words.join(", ") }));
  }
  const decided = decisionWords(record.decision);
  if (decided.length) root.append(el("p", { class: "aside", text: decided.join(". ") }));
  const phases = record.phases_us ?? {};
  const told = PHASES.filter((phase) => phases[phase]);
  if (told.length) {
    const track = el("div", { class: "track phases", "aria-hidden": "true" });
    let at = 0;
    for (const phase of told) {
      track.append(place(el("span", { class: `phase ${phase}` }), at, at + phases[phase]));
      at += phases[phase];
    }
    root.append(el("div", { class: "lane" }, el("p", { class: "lane-name", text: "the answer's way" }), track));
    root.append(el("dl", { class: "phase-list" }, ...told.map((phase) =>
      el("div", {}, el("dt", {}, el("span", { class: `swatch ${phase}`, "aria-hidden": "true" }), WORDS[phase]), el("dd", { text: us(phases[phase]) })))));
  }
  return root;
}
