import { enter, Refused } from "./access.js";
import { showBudgets } from "./budgets.js";
import { mark, say } from "./dom.js";
import { follow } from "./feed.js";
import { clock } from "./format.js";
import { showHeadline } from "./headline.js";
import { showPolicies } from "./policies.js";
import { showPools } from "./pools.js";
import { showRaces } from "./race.js";
import { nameKeys, startRecent, takeRecent } from "./recent.js";
import { showTargets, takePoints } from "./targets.js";
import { showTiles } from "./tiles.js";

const at = (id) => document.getElementById(id);
const main = at("main");
let last = null;

function notice(text) {
  say(at("notice"), text);
  at("notice").hidden = !text;
}

function show(picture) {
  last = picture;
  nameKeys(picture.keys, picture.budgets);
  showHeadline(at("headline"), picture);
  showTiles(at("tiles"), picture);
  showTargets(at("targets"), picture);
  showRaces(at("race"), picture);
  showPolicies(at("policies"), picture);
  showBudgets(at("budgets"), picture);
  showPools(at("pools"), picture);
  document.title = `${picture.findings.some((one) => one.level === "bad") ? "(!) " : ""}Dashboard - relay`;
}

let isFresh = true;
function take(kind, data) {
  if (kind === "picture") {
    takePoints(data.points, isFresh);
    isFresh = false;
    show(data);
  } else if (kind === "recent") takeRecent(data, true);
  else if (kind === "ends") takeRecent(data, false);
}

function tell(state, more) {
  const link = at("link");
  mark(link, "data-state", state);
  mark(main, "data-state", state);
  if (state === "live") {
    say(link, "live");
    notice("");
  } else if (state === "lost") {
    isFresh = true;
    say(link, "no connection");
    notice(`The relay does not answer. ${last ? `What is below is of ${clock(last.at_ms)}. ` : ""}Trying again in ${more} s.`);
  } else if (state === "refused") {
    say(link, "not allowed");
    notice(`This token may not see the dashboard: ${more}. An owner, admin, auditor or viewer of the whole relay may.`);
    if (!last) {
      mark(at("headline"), "data-level", "wait");
      at("headline").replaceChildren();
    }
  }
}

async function start() {
  startRecent(at("recent"));
  for (let wait = 1; ; wait = Math.min(10, wait * 2)) {
    try {
      const access = await enter();
      if (!access.may_look) return tell("refused", `its role is ${access.role}`);
      return await follow(take, tell);
    } catch (error) {
      if (error instanceof Refused) return tell("refused", error.message);
      tell("lost", wait);
      await new Promise((resolve) => setTimeout(resolve, wait * 1000));
    }
  }
}

start();
