import { ask, enter, expired, Refused } from "./access.js";
import { el, mark, name, say } from "./dom.js";
import { us } from "./format.js";
import { readEvents } from "./sse.js";
import { waterfall } from "./waterfall.js";

const at = (id) => document.getElementById(id);
const form = at("form");
const main = at("main");
let running = null;
let models = { aliases: {}, direct: [] };

function link(state, text) {
  mark(at("link"), "data-state", state);
  mark(main, "data-state", state);
  say(at("link"), text);
}

function notice(text) {
  say(at("notice"), text);
  at("notice").hidden = !text;
}

function usable(isUsable) {
  for (const field of form.elements) field.disabled = !isUsable;
  at("stop").disabled = !running;
}

function showModels(told) {
  models = told;
  const group = (label, names) => el("optgroup", { label }, ...names.map((one) => el("option", { value: one, text: one })));
  const aliases = Object.keys(told.aliases);
  at("model").replaceChildren(
    ...(aliases.length ? [group("Aliases", aliases)] : []),
    ...(told.direct.length ? [group("Models of providers", told.direct)] : []),
  );
  at("key-field").hidden = told.keys === null;
  at("key").replaceChildren(...(told.keys ?? []).map((one) => el("option", { value: one.id, text: one.name })));
  showRoute();
  if (!aliases.length && !told.direct.length) notice("The configuration names no model that could be asked.");
  if (told.keys && !told.keys.length) notice("Generations need a key that pays, and there is none: make one with `relay keys create`.");
}

function showRoute() {
  const targets = models.aliases[at("model").value];
  at("route").replaceChildren(
    ...(targets ? ["May go to ", ...targets.flatMap((one, index) => (index ? [", ", name(one)] : [name(one)]))] : []),
  );
}

async function play(order) {
  const stop = new AbortController();
  running = { stop, text: at("answer"), firstUs: null, pieces: 0, lastUs: 0, shown: null };
  usable(false);
  at("stop").disabled = false;
  at("answer").replaceChildren();
  at("race").replaceChildren();
  say(at("status"), "Asking…");
  try {
    const response = await ask("/dashboard/api/play", {
      method: "POST", body: JSON.stringify(order), signal: stop.signal, headers: { "content-type": "application/json" },
    });
    link("live", "connected");
    await readEvents(response, take);
    if (running && !running.isOver) say(at("status"), "The connection broke before the end.");
  } catch (error) {
    if (error.name === "AbortError") stopped();
    else if (error instanceof Refused && error.status === 401) expired();
    else if (error instanceof Refused) fail(error.message);
    else {
      link("lost", "no connection");
      fail("The relay does not answer.");
    }
  } finally {
    running = null;
    usable(true);
    at("prompt").focus();
  }
}

/** The page asks no more, so what it has seen last is how it ended. */
function stopped() {
  say(at("status"), `Stopped after ${running.pieces} pieces; the provider was told at once.`);
  const shown = running.shown;
  if (!shown) return;
  const attempts = shown.attempts.map((one) => (one.outcome === "running" ? { ...one, outcome: "ignored" } : one));
  draw({ ...shown, attempts, wall_us: shown.now_us, now_us: 0 });
}

function fail(text) {
  say(at("status"), running?.pieces ? "The answer was cut short." : "Not answered.");
  at("answer").append(el("p", { class: "fault", role: "alert", text }));
}

function take(kind, data) {
  if (kind === "begin") {
    running.id = data.id;
    return;
  }
  if (kind === "lost") {
    running.isOver = true;
    fail(`The generation was lost: ${data.why}.`);
    return;
  }
  for (const [whenUs, sort, text] of data.pieces) {
    running.firstUs ??= whenUs;
    running.lastUs = whenUs;
    running.pieces += 1;
    append(sort, text);
  }
  const end = data.end;
  running.shown = { ...(end ?? {}), attempts: end?.attempts?.length ? end.attempts : data.attempts, hedge: data.hedge, now_us: end ? 0 : data.now_us };
  draw(running.shown);
  if (!end) {
    say(at("status"), data.committed ? `${winner(data.attempts)} answers, first token after ${us(running.firstUs)}` : `Racing: ${data.attempts.length} asked`);
    return;
  }
  running.isOver = true;
  if (end.status !== "OK") return fail(`${end.reason}: ${data.error}`);
  const seconds = (running.lastUs - running.firstUs) / 1e6;
  const rate = seconds > 0 ? `, ${Math.round((running.pieces - 1) / seconds)} pieces a second` : "";
  say(at("status"), `${end.winner} answered: first token after ${us(end.ttft_us ?? running.firstUs)}, ${end.completion_tokens ?? "?"} tokens in ${us(end.wall_us)}${rate}`);
}

const winner = (attempts) => attempts.find((one) => one.outcome === "won")?.target ?? "somebody";

function append(sort, text) {
  const root = at("answer");
  const lastPart = root.lastElementChild;
  if (lastPart?.dataset.sort === sort) lastPart.firstChild.appendData(text);
  else root.append(el("p", { data: { sort }, class: `said-${sort}` }, document.createTextNode(text)));
  root.scrollTop = root.scrollHeight;
}

function draw(record) {
  at("race").replaceChildren(waterfall(record));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return;
  const tokens = at("tokens").valueAsNumber;
  play({
    model: at("model").value, prompt: at("prompt").value, system: at("system").value, hedge: at("hedge").value,
    max_tokens: Number.isInteger(tokens) ? tokens : null, key_id: at("key-field").hidden ? "" : at("key").value,
  });
});
at("tokens").addEventListener("invalid", () => { at("tokens").closest("details").open = true; }); // a message needs a field that is seen
at("stop").addEventListener("click", () => running?.stop.abort());
at("model").addEventListener("change", showRoute);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.stop.abort();
  else if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !running) form.requestSubmit();
});

async function start() {
  usable(false);
  for (let wait = 1; ; wait = Math.min(10, wait * 2)) {
    try {
      const access = await enter();
      if (!access.may_spend) {
        link("refused", "not allowed");
        notice(`You may not ask here: ${access.why_not}. An owner or admin of the whole relay may.`);
        return;
      }
      showModels(await (await ask("/dashboard/api/models")).json());
      link("live", "connected");
      notice("");
      usable(true);
      at("stop").disabled = true;
      return;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return expired();
      if (error instanceof Refused && error.status === 403) {
        link("refused", "not allowed");
        notice(error.message);
        return;
      }
      link("lost", "no connection");
      notice(`The relay does not answer. Trying again in ${wait} s.`);
      await new Promise((resolve) => setTimeout(resolve, wait * 1000));
    }
  }
}

start();
