// At a glance: six figures of the last minute.
import { el, keyed, mark, say } from "./dom.js";
import { count, dollars, percent, quantile } from "./format.js";

function tiles(picture) {
  const { minute, quarter } = picture.total;
  const bad = minute.fates.failed || 0;
  const limited = minute.fates.limited || 0;
  const answered = minute.fates.ok || 0;
  const there = picture.workers.filter((one) => !one.why && one.status !== "gone");
  return [
    {
      title: "First token for clients",
      value: minute.ttft.n ? quantile(minute.ttft, "p50") : "–",
      more: minute.ttft.n ? `p95 ${quantile(minute.ttft, "p95")}, p99 ${quantile(minute.ttft, "p99")}` : "nothing in the last minute",
    },
    {
      title: "Generations a minute",
      value: String(minute.generations),
      more: `${count(picture.generations, "runs", "run")} now, ${quarter.generations} in 15 min`,
    },
    {
      title: "Not answered",
      value: minute.generations ? percent((bad + limited) / minute.generations) : "–",
      more: bad || limited ? `${bad} failed, ${limited} over a limit` : minute.generations ? `${answered} answered` : "nothing asked",
      level: bad ? "bad" : limited ? "warn" : null,
    },
    {
      title: "Hedges that won",
      value: minute.fired ? `${minute.hedge_won} of ${minute.fired}` : "none sent",
      more: quarter.fired ? `${quarter.hedge_won} of ${quarter.fired} in 15 min` : "none in 15 min",
    },
    {
      title: "Cost, last 15 minutes",
      value: quarter.cost || !quarter.fates.ok ? dollars(quarter.cost) : "no price",
      more: quarter.cost
        ? `${dollars(quarter.cost * 4)} an hour; hedges added ${dollars(quarter.added_cost)} (${percent(quarter.added_cost / quarter.cost)})`
        : quarter.fates.ok ? "no price is known of these models" : "nothing spent",
    },
    {
      title: "Workers",
      value: `${there.length} of ${picture.workers.length}`,
      more: picture.workers.map((one) => `${one.number}: ${one.why || one.status === "gone" ? "missing" : one.status}${one.restarts ? `, ${count(one.restarts, "restart")}` : ""}`).join("; "),
      level: there.length < picture.workers.length ? "warn" : null,
    },
  ];
}

export function showTiles(root, picture) {
  keyed(root, tiles(picture), (one) => one.title, (one) => {
    const value = el("p", { class: "value" });
    const more = el("p", { class: "aside" });
    const node = el("div", { class: "tile" }, el("h2", { text: one.title }), value, more);
    return {
      node,
      update(now) {
        say(value, now.value);
        say(more, now.more);
        mark(node, "data-level", now.level ?? null);
      },
    };
  });
}
