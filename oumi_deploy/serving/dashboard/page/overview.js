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
// All rollouts, and how they ended.

import { make, pairs, put, reconcile, say } from "./elements.js";
import { amount, decisionBadge, labelled, percent, retell, spoken, statusBadge, time, versionOf } from "./words.js";

const SHOWN_FIRST = ["error_rate", "latency", "memory_usage", "cpu_usage", "health_score"];
const NO_METRIC = new Set(["timestamp", "step", "phase", "planned_steps"]);
const SHORT = { error_rate: "errors", memory_usage: "memory", cpu_usage: "CPU", health_score: "health" };
const METRICS_SHOWN = 4;
const element = (id) => document.getElementById(id);

/**
 * Shows rollouts, those under way apart.
 * @param {object} asked Whether these are all (`isWhole`), whether the page takes no more
 *   (`isFull`), and of which service they are, empty for all.
 */
export function showRollouts(rollouts, { isWhole, isFull, service }) {
  const focused = document.activeElement?.closest("[data-key]")?.dataset.key;
  const isGoing = ({ status }) => status === "deploying" || status === "paused";
  const going = rollouts.filter(isGoing);
  const past = rollouts.filter((rollout) => !isGoing(rollout));
  reconcile(element("going"), going, renderCard);
  reconcile(element("past"), past, renderCard);
  say(element("going-count"), going.length ? String(going.length) : "");
  const none = rollouts.length === 0 && !service;
  const ofService = service ? ` of ${service}` : "";
  sayWhereEmpty("going-empty", going, none
    ? "No rollout was decided on yet. Have your rollout tool ask POST /v1/decide; it shows here within five seconds."
    : `No rollout${ofService} is under way.`);
  sayWhereEmpty("past-empty", past, `No rollout${ofService} has ended yet.`);
  element("more").hidden = isWhole || isFull;
  element("cut").hidden = isWhole || !isFull;
  nameServices(rollouts);
  retell(element("overview"));
  const link = focused && document.querySelector(`[data-key="${CSS.escape(focused)}"] a`);
  if (link && document.activeElement !== link) link.focus({ preventScroll: true });
}

function sayWhereEmpty(id, items, text) {
  element(id).hidden = items.length > 0;
  say(element(id), text);
}

function nameServices(rollouts) {
  const names = [...new Set(rollouts.map(({ service }) => service))].sort();
  const list = element("services");
  if (list.names === JSON.stringify(names)) return;
  list.names = JSON.stringify(names);
  put(list, names.map((name) => make("option", { value: name })));
}

function renderCard(item, rollout) {
  const { latest } = rollout;
  // The link stays the same element, so that whoever has it in focus keeps it.
  const link = item.querySelector("a") ?? make("a", { href: `#/rollouts/${rollout.id}` });
  put(link, rollout.service, versionOf(rollout) && make("span", { class: "version" }, ` ${versionOf(rollout)}`));
  const heading = item.querySelector("h3") ?? make("h3", {}, link);
  const isGoing = rollout.status === "deploying" || rollout.status === "paused";
  const label = !isGoing && make("span", { class: `label ${rollout.label ?? "unknown"}` }, labelled(rollout.label));
  const top = make("p", { class: "card-top" }, statusBadge(rollout.status), label, time(latest.at));
  put(item, heading, top,
    make("p", { class: "card-decision" }, decisionBadge(latest.decision),
      make("span", {}, `confidence ${percent(latest.confidence)}`)),
    make("p", { class: "message" }, latest.message),
    metricsOf(rollout.metrics));
}

function metricsOf(metrics) {
  const isMetric = (name) => typeof metrics[name] === "number" && !NO_METRIC.has(name) && !name.startsWith("control_");
  const names = Object.keys(metrics).filter(isMetric);
  const first = SHOWN_FIRST.filter((name) => Object.hasOwn(metrics, name) || name === "error_rate");
  const shown = [...first, ...names.filter((name) => !first.includes(name))].slice(0, METRICS_SHOWN);
  const list = pairs(shown.map((name) => [SHORT[name] ?? spoken(name), amount(name, metrics[name])]));
  list.className = "metrics";
  return list;
}

/** Shows how rollouts ended. */
export function showTally({ acted, shadow }) {
  const content = JSON.stringify([acted, shadow]);
  const place = element("tally");
  if (place.content === content) return;
  place.content = content;
  const total = (tally) => Object.values(tally).reduce((sum, n) => sum + n, 0);
  const parts = [];
  if (total(acted)) parts.push(figures(acted, "rolled back", "stopped"));
  if (total(shadow)) {
    parts.push(make("h3", {}, "In shadow mode: what would have been"));
    parts.push(figures(shadow, "to be rolled back", "to be stopped"));
  }
  put(place, parts.length ? parts : make("p", { class: "empty" }, "No rollout was decided on in this time."));
}

function figures(tally, rolledBack, stopped) {
  const nBad = tally.bad_stopped + tally.bad_missed;
  const nGood = tally.good_rolled_back + tally.good_paused + tally.good_undisturbed;
  const nUnknown = tally.unknown_rolled_back + tally.unknown_went_on;
  const figure = (value, what) => make("li", {}, make("b", {}, value), make("span", {}, what));
  const of = (n, all, kind) => (all ? `${n} of ${all}` : `no ${kind} yet`);
  return make("ul", { class: "key" },
    figure(of(tally.bad_stopped, nBad, "bad one"), `bad releases ${stopped}`),
    figure(of(tally.good_rolled_back, nGood, "good one"), `good releases ${rolledBack}`),
    figure(of(tally.good_paused, nGood, "good one"), "good releases held on the way"),
    figure(String(nUnknown), `outcome unknown, ${tally.unknown_rolled_back} of them ${rolledBack}`));
}
