// What is wrong now, in words: the worst first.
import { el, keyed, mark, say } from "./dom.js";
import { count, quantile } from "./format.js";

const WORDS = { bad: "Also", warn: "Watch", note: "Note" };
const MOST = 6;

export function showHeadline(root, picture) {
  const findings = picture.findings;
  const worst = findings.length ? findings[0].level : "well";
  mark(root, "data-level", worst);
  const asked = picture.total.minute.generations;
  const isWell = worst === "well" || worst === "note";
  const first = !isWell
    ? findings[0].words
    : asked
      ? `All is well: ${count(asked, "generation")} in the last minute, first token p95 ${quantile(picture.total.minute.ttft, "p95")}`
      : "All is well, and nobody asks: no generation in the last minute";
  if (!root.firstParts) {
    root.replaceChildren();
    root.firstParts = el("p", { class: "first", role: "status" });
    root.list = el("ul", { class: "findings" });
    root.append(root.firstParts, root.list);
  }
  say(root.firstParts, first);
  const rest = isWell ? findings : findings.slice(1);
  const shown = rest.slice(0, MOST);
  const left = rest.length - shown.length;
  if (left > 0) shown.push({ level: "note", about: "", words: `and ${left} more of the kind` });
  root.list.hidden = !shown.length;
  keyed(root.list, shown, (one) => `${one.level} ${one.about} ${one.words.slice(0, 24)}`, (one) => {
    const words = el("span");
    const node = el("li", { data: { level: one.level } }, el("strong", { class: "level", text: WORDS[one.level] }), words);
    return { node, update: (now) => say(words, now.words) };
  });
}
