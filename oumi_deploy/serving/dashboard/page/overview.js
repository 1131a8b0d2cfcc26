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
// All rollouts, those that need a person first, and how rollouts ended.

import { causeOf, linkTo } from "./advice.js";
import { heldTogether, renderCard } from "./cards.js";
import { element, make, put, reconcile, renderChanged, say } from "./elements.js";
import { announce } from "./news.js";
import { decisionBadge, percent, retell } from "./words.js";

const NAMED = 4;
const FIRST = { on_hold: 12, to_review: 6, going_on: 12, past: Infinity };
const isOpened = new Set();
// In coarse steps: a card shall not move away from under a finger with every observation.
const riskOf = ({ latest }) => Math.round(10 * latest.risk);
const byRisk = (a, b) => riskOf(b) - riskOf(a) || a.began - b.began;
// Those that a person must decide come first, and those that wait for another last: they are settled with it.
const needOf = (rollout) => (rollout.status === "for_a_person" ? 0 : causeOf(rollout) ? 2 : 1);
const byNeed = (a, b) => needOf(a) - needOf(b) || byRisk(a, b);
const sorted = (page, order) => ({ ...page, rollouts: page.rollouts.toSorted(order) });

/**
 * Shows rollouts by their stage.
 * @param {object} pages A page of each stage.
 * @param {string} service The service that they are of, empty for all.
 * @param {boolean} isFull Whether no more of the past are asked for.
 */
export function showReleases(pages, service, isFull) {
  const focused = document.activeElement?.closest("[data-key]")?.dataset.key;
  const everything = Object.values(pages).flatMap(({ rollouts }) => rollouts);
  const none = everything.length === 0 && !service;
  const of = service ? ` of ${service}` : "";
  const onHold = sorted(pages.on_hold, byNeed);
  showStage("on_hold", onHold, `No rollout${of} is on hold.`);
  showStage("to_review", pages.to_review, "");
  showStage("going_on", sorted(pages.going_on, byRisk), none
    ? "No rollout was decided on yet. Have your rollout tool ask POST /v1/decide; it shows here within five seconds."
    : `No rollout${of} is going on.`);
  showStage("past", pages.past, `No${none ? "" : " other"} rollout${of} has ended yet.`);
  element("to_review-section").hidden = pages.to_review.rollouts.length === 0;
  element("more").hidden = pages.past.next === null || isFull;
  element("cut").hidden = pages.past.next === null || !isFull;
  showTogether(onHold.rollouts, everything);
  nameServices(everything);
  retell(element("overview"));
  const waiting = pages.on_hold.total;
  document.title = `${waiting ? `(${waiting} on hold) ` : ""}Releases - oumi_deploy`;
  const link = focused && document.querySelector(`[data-key="${CSS.escape(focused)}"] h3 a`);
  if (link && !link.closest("li").contains(document.activeElement)) link.focus({ preventScroll: true });
  announce(everything);
}

function showStage(stage, { rollouts, total }, empty) {
  const first = isOpened.has(stage) ? Infinity : FIRST[stage];
  reconcile(element(stage), rollouts.slice(0, first), (item, rollout) => renderCard(item, rollout, stage));
  if (stage !== "past") say(element(`${stage}-count`), total ? String(total) : "");
  element(`${stage}-empty`).hidden = rollouts.length > 0;
  say(element(`${stage}-empty`), empty);
  const rest = element(`${stage}-rest`);
  if (!rest) return;
  const isCut = rollouts.length < total;
  rest.hidden = rollouts.length <= first && !isCut;
  renderChanged(rest, [rollouts.length, total, first], () => put(rest, rollouts.length > first
    ? opener(stage, rollouts)
    : `The ${rollouts.length} that were decided on last are shown. Name a service to see its others.`));
}

function opener(stage, rollouts) {
  const button = make("button", { type: "button" }, `Show all ${rollouts.length}`);
  button.addEventListener("click", () => {
    isOpened.add(stage);
    const place = FIRST[stage];
    reconcile(element(stage), rollouts, (item, rollout) => renderCard(item, rollout, stage));
    element(`${stage}-rest`).hidden = true;
    element(stage).children[place]?.querySelector("h3 a").focus();
  });
  return button;
}

function showTogether(onHold, everything) {
  const groups = heldTogether(onHold).map((group) => ({ ...group, now: everything.find(({ id }) => id === group.cause.id) }));
  renderChanged(element("together"), groups, () => put(element("together"), groups.map(({ cause, waiting, now }) => make("p", { class: "notice" },
    listed(waiting.map(({ service }) => make("bdi", {}, service))), " are in trouble together and wait for ", linkTo(cause),
    ", the likeliest cause", now && [" (", decisionBadge(now.latest.decision), `, risk ${percent(now.latest.risk)})`], ": look at that first."))));
}

function listed(names) {
  const more = names.length > NAMED + 1 ? names.length - NAMED : 0;
  const told = more ? [...names.slice(0, NAMED), `${more} more`] : names;
  return told.map((name, n) => [n > 0 && (n === told.length - 1 ? " and " : ", "), name]);
}

function nameServices(rollouts) {
  const names = [...new Set(rollouts.map(({ service }) => service))].sort();
  renderChanged(element("services"), names, () => put(element("services"), names.map((name) => {
    const option = make("option");
    option.value = name;
    return option;
  })));
}

/** Shows how rollouts ended. */
export function showTally({ acted, shadow }) {
  const place = element("tally");
  renderChanged(place, [acted, shadow], () => {
    const total = (tally) => Object.values(tally).reduce((sum, n) => sum + n, 0);
    const parts = [];
    if (total(acted)) parts.push(figures(acted, "rolled back", "stopped"));
    if (total(shadow)) {
      parts.push(make("h3", {}, "In shadow mode: what would have been"));
      parts.push(figures(shadow, "to be rolled back", "to be stopped"));
    }
    put(place, parts.length ? parts : make("p", { class: "empty" }, "No rollout was decided on in this time."));
  });
}

function figures(tally, rolledBack, stopped) {
  const nBad = tally.bad_stopped + tally.bad_held + tally.bad_missed;
  const nGood = tally.good_rolled_back + tally.good_paused + tally.good_undisturbed;
  const nUnknown = tally.unknown_rolled_back + tally.unknown_went_on;
  const figure = (value, what) => make("li", {}, make("b", {}, value), make("span", {}, what));
  const of = (n, all, kind) => (all ? `${n} of ${all}` : `no ${kind} yet`);
  return make("ul", { class: "key" },
    figure(of(tally.bad_stopped, nBad, "bad one"), `bad releases ${stopped}`),
    figure(of(tally.bad_held, nBad, "bad one"), "bad releases held at the end"),
    figure(of(tally.good_rolled_back, nGood, "good one"), `good releases ${rolledBack}`),
    figure(of(tally.good_paused, nGood, "good one"), "good releases held at some time"),
    figure(String(nUnknown), `outcome unknown, ${tally.unknown_rolled_back} of them ${rolledBack}`));
}
