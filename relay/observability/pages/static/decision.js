// What policies, caches and guardrails made of a generation, in words.

const CACHE = {
  hit: "Answered from the cache", semantic: "Answered from the cache: a request that means the same", shared: "Shared the answer of an equal request",
  miss: "Nothing kept", refresh: "A new answer was wanted",
};
const SIDES = { input: "in what was asked", output: "in the answer" };
const DONE = { block: "blocked", redact: "redacted", mask: "masked", flag: "flagged", error: "could not tell" };

/** @param label what a guardrail did and where, as rows have it: `redact (input)` */
export function verdictWords(label) {
  const [, action, side] = /^(\w+) \((\w+)\)$/.exec(label) ?? ["", label, ""];
  return `${DONE[action] ?? action} ${SIDES[side] ?? ""}`.trim();
}

/** The one thing of it that the list of generations has room for; "" for none. */
export function decisionWord(decision) {
  if (!decision) return "";
  if (["hit", "semantic", "shared"].includes(decision.cache)) return "from the cache";
  if (decision.composition) return (decision.outcome || "").replaceAll("_", " ");
  return (decision.guards ?? []).some((one) => one.action === "redact" || one.action === "mask") ? "redacted" : "";
}

/** The same of what changed who was asked, and not the answer. */
export function chosenWord(decision) {
  if (decision?.experiment) return `arm ${decision.arm}`;
  return decision?.asked ? "by a rule" : "";
}

/** Sentences without their full stops; none where nothing was decided. */
export function decisionWords(decision) {
  if (!decision) return [];
  const said = [];
  if (decision.rule) said.push(`Rule ${decision.rule}${decision.asked ? `, asked as ${decision.asked}` : ""}`);
  if (decision.experiment) said.push(`Experiment ${decision.experiment}: arm ${decision.arm}`);
  if (decision.composition) said.push(`${decision.composition === "panel" ? "Panel" : "Cascade"} ${decision.name}: ${(decision.outcome || "no answer").replaceAll("_", " ")}${decision.reason ? ` (${decision.reason.replaceAll("_", " ")})` : ""}`);
  if (decision.cache && decision.cache !== "bypass") { // most that no cache is for are that
    const more = [];
    if (decision.cache_age_s !== undefined) more.push(`${Math.round(decision.cache_age_s)} s old`);
    if (decision.similarity !== undefined) more.push(`similarity ${decision.similarity.toFixed(3)}`);
    if (decision.saved_micro) more.push(`saved $${(decision.saved_micro / 1e6).toFixed(6)}`);
    said.push((CACHE[decision.cache] ?? decision.cache) + (more.length ? ` (${more.join(", ")})` : ""));
  }
  for (const one of decision.guards ?? []) said.push(`Guardrail ${one.guardrail} ${DONE[one.action] ?? one.action} ${one.scanner} ${SIDES[one.side] ?? ""}${one.count > 1 ? `, ${one.count} times` : ""}`.trim());
  return said;
}
