// Warm connections: one row an origin.
import { el, empty, keyed, mark, name, say } from "./dom.js";

const COLUMNS = [["connections", "Open"], ["open_streams", "Streams"], ["waiting", "Waiting"], ["streams_aborted", "Reset"]];

function table() {
  const body = el("tbody");
  const node = el("div", { class: "panel scroll", tabindex: "0", role: "region", "aria-label": "Warm connections" },
    el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "Origin" }), ...COLUMNS.map(([, text]) => el("th", { scope: "col", class: "number", text })))), body));
  return { node, update: (rows) => keyed(body, rows, (one) => one.origin, row) };
}

function row(origin) {
  const cells = COLUMNS.map(() => el("td", { class: "number" }));
  const error = el("p", { class: "fault" });
  const node = el("tr", {}, el("th", { scope: "row" }, name(origin.origin), error), ...cells);
  return {
    node,
    update(now) {
      COLUMNS.forEach(([key], index) => say(cells[index], String(now[key])));
      mark(cells[0], "data-level", now.connections ? null : "bad");
      mark(cells[2], "data-level", now.waiting ? "warn" : null);
      say(error, now.last_error || "");
      error.hidden = !now.last_error;
    },
  };
}

export function showPools(root, picture) {
  if (!picture.origins.length) empty(root, "No provider is connected.");
  else keyed(root, [picture.origins], () => "table", table);
}
