// Copyright 2026 - The oumi_deploy authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
// The page: asks the service again and again, and shows what it answers.

import { element, say } from "./elements.js";
import { showReleases, showTally } from "./overview.js";
import { showPolicy } from "./policy.js";
import { showInstead, showRollout } from "./rollout.js";
import { ask, token } from "./service.js";
import { isAskingForToken, nameProblem, tell } from "./state.js";

// Asked anew every time, rather than told over a line that stays open: that needs nothing from
// proxies in between, and a restart of the service costs one question.
const EVERY = 5000;
const STAGES = ["on_hold", "to_review", "going_on", "past"];
const MOST_LATE = 200;
const MOST_PAST = 500;
const STEP = 24;

let nPast = 12;
let timer;
let round = 0;
let left = null;
let isArriving = false;
let explained = null;

/** Asks for what the page shows now. An answer that another question has overtaken is dropped. */
async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  const isCurrent = () => mine === round;
  try {
    const parts = openRollout() ? rolloutParts(openRollout()) : overviewParts();
    const troubles = await Promise.all(parts.map((part) => bring(part, isCurrent)));
    if (!isCurrent()) return;
    tell(troubles.filter(Boolean), EVERY);
    arrive();
  } finally {
    if (isCurrent() && !document.hidden) timer = setTimeout(refresh, EVERY);
  }
}

/** Asks for a part and shows it; returns what went wrong, null if nothing did. */
async function bring({ what, load, show }, isCurrent) {
  try {
    const answer = await load();
    if (isCurrent()) show(answer);
    return null;
  } catch (trouble) {
    if (trouble.status === undefined) console.error(trouble);
    return { what, trouble };
  }
}

const policyPart = () => ({ what: "the policy", load: () => ask("/v1/policy"), show: showPolicy });

function overviewParts() {
  const service = element("service").value.trim();
  return [
    { what: "the releases", load: () => Promise.all(STAGES.map((stage) => askFor(stage, service))),
      show: (pages) => showReleases(Object.fromEntries(STAGES.map((stage, n) => [stage, pages[n]])), service, nPast >= MOST_PAST) },
    { what: "what was stopped and disturbed", load: askForTally, show: showTally },
    policyPart()];
}

function askFor(stage, service) {
  const limit = stage === "past" ? nPast : MOST_LATE;
  return ask(`/v1/rollouts?stage=${stage}&limit=${limit}${service ? `&service=${encodeURIComponent(service)}` : ""}`);
}

function askForTally() {
  const seconds = Number(element("window").value);
  // From the whole hour on, so that all who look ask the same for long, and it is counted once.
  const since = seconds ? Math.max(0, Math.floor(Date.now() / 3_600_000) * 3600 - seconds) : 0;
  return ask(`/v1/summary?since=${since}`);
}

function rolloutParts(id) {
  return [
    { what: "the rollout", load: () => askForRollout(id), show: ({ course, why }) => showRollout(course, why, refresh) },
    policyPart()];
}

/** Returns a rollout, and why it was decided on as it was; that is reckoned once a decision. */
async function askForRollout(id) {
  const course = await ask(`/v1/rollouts/${id}`).catch(nameUnknown);
  if (explained?.decision_id !== course.rollout.latest.id) {
    explained = await ask(`/v1/rollouts/${id}/explanation`).catch(({ message }) => ({ problem: message }));
  }
  return { course, why: explained };
}

function nameUnknown(trouble) {
  if (trouble.status === 404) showInstead(trouble.message);
  throw trouble;
}

const openRollout = () => /^#\/rollouts\/([0-9a-f]{32})$/.exec(location.hash)?.[1];

/** After a way through the page, puts the focus where reading goes on. */
function arrive() {
  if (!isArriving || isAskingForToken()) return;
  isArriving = false;
  const card = !openRollout() && document.querySelector(`[data-key="${left}"] a`);
  (card || document.querySelector(`#${openRollout() ? "rollout" : "overview"} h1`)).focus();
  left = openRollout();
}

function route(event) {
  const id = openRollout();
  isArriving = Boolean(event);
  if (!event) left = id;
  element("overview").hidden = Boolean(id);
  element("rollout").hidden = !id;
  document.title = id ? "Rollout - oumi_deploy" : "Releases - oumi_deploy";
  if (id) showInstead("Loading");
  scrollTo(0, 0);
  refresh();
}

element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = element("token").value.trim();
  element("token").value = "";
  if (!/^[\x21-\x7e]+$/.test(given)) {
    nameProblem("A token has no spaces, and only letters, digits and signs of ASCII.");
    return;
  }
  token.keep(given);
  refresh();
});
element("forget").addEventListener("click", () => {
  token.forget();
  location.reload();
});
element("more").addEventListener("click", () => {
  nPast = Math.min(nPast + STEP, MOST_PAST);
  refresh();
});
element("window").addEventListener("change", refresh);
element("service").addEventListener("change", refresh);
element("service").addEventListener("input", () => {
  if (!element("service").value) refresh();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
document.addEventListener("keydown", (event) => {
  // What somebody is writing is not left by one key.
  if (event.key === "Escape" && openRollout() && !event.target.closest("form")) location.hash = "#/";
});
document.querySelector(".skip").addEventListener("click", (event) => {
  // Followed, its address would lead away from a rollout.
  event.preventDefault();
  (isAskingForToken() ? element("token") : element("main")).focus();
});
addEventListener("hashchange", route);
say(element("zone"), `Times are those of ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`);
route();
