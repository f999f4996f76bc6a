// Spend against budgets: those nearest to their ends first.
import { el, empty, keyed, mark, name, say } from "./dom.js";
import { count, dollars, percent, span } from "./format.js";

function budget(given) {
  const words = el("span", { class: "amount" });
  const spent = el("span", { class: "fill" });
  const reserved = el("span", { class: "fill reserved" });
  const bar = el("span", { class: "bar tall", role: "img" }, spent, reserved);
  const said = el("p", { class: "aside" });
  const node = el("li", { class: "budget" }, el("p", { class: "budget-top" }, name(given.name), words), bar, said);
  return {
    node,
    update(now) {
      const limit = Math.max(1, now.limit_micro);
      const share = now.settled_micro / limit;
      const held = now.reserved_micro / limit;
      const isAtEnd = share + held >= 0.995 || now.refused > 0;
      say(words, `${dollars(now.settled_micro)} of ${dollars(now.limit_micro)}`);
      spent.style.width = `${Math.min(100, share * 100)}%`;
      reserved.style.width = `${Math.max(0, Math.min(100 - share * 100, held * 100))}%`;
      mark(node, "data-level", isAtEnd ? (now.is_hard ? "bad" : "warn") : share + held >= 0.8 ? "warn" : null);
      mark(bar, "aria-label", `${percent(share)} spent`);
      const parts = [`${percent(share)} of a ${now.period === "total" ? "total" : now.period}`, now.is_hard ? "refuses what would go over it" : "tells only"];
      if (now.refused) parts.unshift(`${count(now.refused, "request")} refused in the last minute`);
      if (now.reserved_micro) parts.push(`${dollars(now.reserved_micro)} reserved by what runs`);
      if (now.period_end_s) parts.push(`begins anew in ${span(now.period_end_s - Date.now() / 1000)}`);
      say(said, parts.join(", "));
    },
  };
}

function list() {
  const node = el("ul", { class: "panel budgets" });
  return { node, update: (rows) => keyed(node, rows, (one) => one.id, budget) };
}

export function showBudgets(root, picture) {
  const rows = picture.budgets;
  if (rows === undefined) empty(root, "No accounts are kept here: without auth and store in the configuration there are no budgets.");
  else if (picture.budgets_why && !rows) empty(root, `Budgets cannot be told now: ${picture.budgets_why}`);
  else if (!rows) empty(root, "Asking the store…");
  else if (!rows.length) empty(root, "No budgets are set.");
  else {
    const refused = {};
    for (const alias of Object.values(picture.aliases)) for (const [id, n] of Object.entries(alias.minute.budgets)) refused[id] = (refused[id] ?? 0) + n;
    const shown = rows.map((row) => ({ ...row, refused: refused[row.id] ?? 0 })).sort((a, b) => b.refused - a.refused);
    keyed(root, [shown], () => "list", list);
  }
}
