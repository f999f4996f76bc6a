// Small multiples: a card for each target, all on one scale of time and milliseconds.
import { el, empty, keyed, mark, name, say } from "./dom.js";
import { ms, percent, quantile, span } from "./format.js";

const SHARES = ["p50", "p95", "p99"];
const ORDER = ["bad", "warn", "well", "idle"]; // what needs somebody is seen first
const SERIES = new Map(); // target -> Map of slice -> [n, p50, p95, p99]
const CHARTS = new Set();
let axis = { from: 0, until: 0, low: 10, high: 1000 };

/** Take points of charts: `{target: [[at_s, n, p50, p95, p99], ...]}`. */
export function takePoints(points, isWhole) {
  if (isWhole) SERIES.clear();
  for (const [target, rows] of Object.entries(points)) {
    if (!SERIES.has(target)) SERIES.set(target, new Map());
    const held = SERIES.get(target);
    for (const [at, ...rest] of rows) held.set(at, rest);
  }
}

function settleAxis(picture) {
  const until = Math.floor(picture.at_ms / 1000 / picture.slice_s) * picture.slice_s;
  const from = until - picture.window_s;
  let low = Infinity;
  let high = 0;
  for (const [target, held] of SERIES) {
    for (const [at, row] of held) {
      if (at < from) held.delete(at);
      else {
        for (const value of row.slice(1)) {
          if (value === null) continue;
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
    }
    if (!held.size) SERIES.delete(target);
  }
  if (!high) [low, high] = [50, 1000];
  // Whole halves of a decade, so that the scale does not jump with every point.
  const step = (value, round) => 10 ** (round(Math.log10(value) * 2) / 2);
  axis = { from, until, low: step(low * 0.95, Math.floor), high: step(high * 1.05, Math.ceil), slice: picture.slice_s };
}

function dataOf(target) {
  const held = SERIES.get(target);
  const columns = [[], [], [], []];
  for (let at = axis.from; at <= axis.until; at += axis.slice) {
    const row = held?.get(at);
    columns[0].push(at);
    for (let index = 0; index < 3; index += 1) columns[index + 1].push(row ? row[index + 1] : null);
  }
  return columns;
}

const colour = (variable) => () => getComputedStyle(document.documentElement).getPropertyValue(variable).trim();

function chartFor(root, target) {
  const tick = (value) => (value >= 1000 ? `${+(value / 1000).toPrecision(2)} s` : `${+value.toPrecision(2)} ms`);
  const line = (share, width, fill) => ({
    stroke: colour(`--${share}`), width, fill,
    points: { show: true, size: width + 2, stroke: colour(`--${share}`), fill: colour(`--${share}`) },
  });
  const axes = { stroke: colour("--dim"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const chart = new uPlot({
    width: Math.max(200, root.clientWidth || 300), height: 120,
    legend: { show: false }, cursor: { show: false }, select: { show: false },
    padding: [6, 18, 0, 0], // half a time fits beside the last line
    scales: { x: { time: true, range: () => [axis.from, axis.until] }, y: { distr: 3, range: () => [axis.low, axis.high] } },
    series: [{}, line("p50", 2), line("p95", 1.5), line("p99", 1)],
    axes: [
      { ...axes, size: 22, space: 80, values: (_, splits) => splits.map((at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false })) },
      { ...axes, size: 50, space: 22, values: (_, splits) => splits.map((one) => (one === null ? null : tick(one))) },
    ],
  }, dataOf(target), root);
  const part = {
    draw: () => chart.setData(dataOf(target)),
    redraw: () => chart.redraw(),
    fit: () => { if (root.clientWidth) chart.setSize({ width: root.clientWidth, height: 120 }); },
    close() { watcher.disconnect(); CHARTS.delete(part); chart.destroy(); },
  };
  const watcher = new ResizeObserver(() => part.fit());
  watcher.observe(root);
  CHARTS.add(part);
  return part;
}

document.addEventListener("themechange", () => CHARTS.forEach((chart) => chart.redraw()));

/** How it is, as one word with a level. */
export function stateOf(target, row, findings) {
  if (row.breaker === "open") return ["bad", row.retry_in_s > 0 ? `left alone, ${span(row.retry_in_s)}` : "left alone"];
  if (row.breaker === "half_open") return ["bad", "being tried"];
  if (row.breaker === "ramp") return ["warn", `coming back, ${percent(row.share)}`];
  const mine = findings.find((one) => one.about === target);
  if (mine && / is slow|loses /.test(mine.words)) return ["warn", "slow"];
  if (mine && mine.level !== "note") return ["warn", "watch"];
  if (row.suspected) return ["warn", "others say it fails"];
  if (!row.minute.started) return ["idle", "not asked"];
  return ["well", "well"];
}

function card(target) {
  const chip = el("span", { class: "chip" });
  const figures = Object.fromEntries(SHARES.map((share) => [share, el("dd")]));
  const list = el("dl", { class: "figures" }, ...SHARES.flatMap((share) => [
    el("div", { class: share }, el("dt", { text: share }), figures[share]),
  ]));
  const chartRoot = el("div", { class: "chart", "aria-hidden": "true" });
  const said = el("p", { class: "aside" });
  const load = el("span", { class: "fill" });
  const loadText = el("span");
  const rampFill = el("span", { class: "fill ramp" });
  const ramp = el("p", { class: "bar-line", hidden: true }, el("span", { text: "its share of traffic" }), el("span", { class: "bar", "aria-hidden": "true" }, rampFill));
  const node = el(
    "article", { class: "card", "aria-label": target },
    el("div", { class: "card-top" }, el("h3", {}, name(target)), chip),
    list, chartRoot, said, ramp,
    el("p", { class: "bar-line" }, loadText, el("span", { class: "bar", "aria-hidden": "true" }, load)),
  );
  let chart = null;
  return {
    node,
    close: () => chart?.close(),
    update({ row, findings }) {
      const [level, word] = stateOf(target, row, findings);
      mark(node, "data-level", level);
      say(chip, word);
      const ttft = row.minute.ttft;
      for (const share of SHARES) say(figures[share], ttft.n ? quantile(ttft, share) : "–");
      const { started, failed, overloaded, lost } = row.minute;
      const parts = [`${started} asked in a minute`];
      if (lost) parts.push(`${lost} lost`);
      if (failed + overloaded) parts.push(`${failed + overloaded} failed`);
      if (!started) parts.splice(0, 1, row.usual_p50 ? `not asked in a minute; usually ${ms(row.usual_p50)}` : "not asked in a minute");
      if (row.minute.held_back) parts.push(`${row.minute.held_back} held back`);
      if (row.trips) parts.push(`breaker opened ${row.trips === 1 ? "once" : `${row.trips} times`}`);
      say(said, parts.join(", "));
      ramp.hidden = row.breaker !== "ramp";
      rampFill.style.width = percent(row.share).replace(" ", "");
      const share = row.limit ? row.in_flight / row.limit : 0;
      say(loadText, row.limit ? `${row.in_flight} of ${row.limit} in flight` : "nothing is kept of it");
      load.style.width = `${Math.min(100, share * 100)}%`;
      mark(load, "data-level", share >= 0.8 ? "warn" : null);
      if (!chart && chartRoot.isConnected) chart = chartFor(chartRoot, target);
      chart?.draw();
    },
  };
}

export function showTargets(root, picture) {
  settleAxis(picture);
  const rank = (one) => ORDER.indexOf(stateOf(one.target, one.row, one.findings)[0]);
  const rows = Object.entries(picture.targets).map(([target, row]) => ({ target, row, findings: picture.findings }));
  rows.sort((a, b) => rank(a) - rank(b) || a.target.localeCompare(b.target));
  if (!rows.length) {
    empty(root, "No target was asked yet. Ask one in the playground, or with the command relay chat.");
    return;
  }
  keyed(root, rows, (one) => one.target, (one) => card(one.target));
}
