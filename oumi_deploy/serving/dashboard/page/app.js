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

import { say } from "./elements.js";
import { showRollouts, showTally } from "./overview.js";
import { showPolicy } from "./policy.js";
import { showInstead, showRollout } from "./rollout.js";
import { ask, token } from "./service.js";

// Asked anew every time, rather than told over a line that stays open: that needs nothing from
// proxies in between, and a restart of the service costs one question.
const EVERY = 5000;
const STEP = 50;
const MOST = 500;
const NEWS = 3;

const element = (id) => document.getElementById(id);
const before = new Map();
let limit = STEP;
let timer;
let round = 0;
let left = null;
let isArriving = false;

/** Asks for what the page shows now. An answer that another question has overtaken is dropped. */
async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  try {
    const show = await load();
    if (mine !== round) return;
    show();
    lived();
    arrive();
  } catch (trouble) {
    if (mine !== round) return;
    if (trouble.status === undefined) throw trouble;
    failed(trouble);
  } finally {
    if (mine === round && !document.hidden) timer = setTimeout(refresh, EVERY);
  }
}

async function load() {
  const id = openRollout();
  const policy = ask("/v1/policy");
  if (id) {
    const [course, state] = await Promise.all([ask(`/v1/rollouts/${id}`), policy]);
    return () => {
      showPolicy(state);
      showRollout(course, refresh);
    };
  }
  const service = element("service").value.trim();
  const chosen = service ? `&service=${encodeURIComponent(service)}` : "";
  const seconds = Number(element("window").value);
  // From the whole minute on, so that all who look ask the same, and it is counted once.
  const since = seconds ? Math.max(0, Math.floor(Date.now() / 60_000) * 60 - seconds) : 0;
  const [page, state, summary] = await Promise.all([
    ask(`/v1/rollouts?limit=${limit}${chosen}`), policy, ask(`/v1/summary?since=${since}`)]);
  return () => {
    showRollouts(page.rollouts, { isWhole: page.next === null, isFull: limit >= MOST, service });
    announce(page.rollouts);
    showTally(summary);
    showPolicy(state);
  };
}

const openRollout = () => /^#\/rollouts\/([0-9a-f]{32})$/.exec(location.hash)?.[1];

function lived() {
  element("pulse").className = "pulse on";
  say(element("live"), "Live");
  element("trouble").hidden = true;
  element("token-form").hidden = true;
  element("main").hidden = false;
  element("forget").hidden = !token.get();
}

function failed({ status, message }) {
  element("pulse").className = "pulse";
  if (status === 401 || status === 403) {
    askForToken(status, message);
    return;
  }
  if (status === 404 && openRollout()) {
    showInstead(message);
    lived();
    return;
  }
  say(element("live"), "Not live");
  element("trouble").hidden = false;
  say(element("trouble"), `What is shown may be old: ${message}. It is asked again every ${EVERY / 1000} seconds.`);
  for (const empty of document.querySelectorAll(".empty")) {
    if (empty.textContent === "Loading") say(empty, "Nothing could be loaded yet.");
  }
}

function askForToken(status, message) {
  say(element("live"), "Waiting for a token");
  element("trouble").hidden = true;
  element("main").hidden = true;
  element("forget").hidden = true;
  const isNew = element("token-form").hidden;
  element("token-form").hidden = false;
  const refused = status === 403 ? `The service refused: ${message}.` : "The service does not know this token.";
  say(element("token-problem"), token.get() ? refused : "");
  token.forget();
  if (isNew) element("token").focus();
}

/** Tells those who do not see the page of decisions that change what happens. */
function announce(rollouts) {
  const news = [];
  for (const { id, service, version, latest, status } of rollouts) {
    const now = `${latest.decision} ${status}`;
    if (before.size && before.get(id) !== now) news.push(`${service} ${version}: ${latest.message}`);
    before.set(id, now);
  }
  if (news.length) say(element("news"), news.slice(0, NEWS).join(". "));
}

/** After a way through the page, puts the focus where reading goes on. */
function arrive() {
  if (!isArriving) return;
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
    say(element("token-problem"), "A token has no spaces, and only letters, digits and signs of ASCII.");
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
  limit = Math.min(limit + STEP, MOST);
  refresh();
});
element("window").addEventListener("change", refresh);
element("service").addEventListener("change", () => {
  before.clear();
  refresh();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  // Followed, its address would lead away from a rollout.
  event.preventDefault();
  element("main").focus();
});
addEventListener("hashchange", route);
route();
