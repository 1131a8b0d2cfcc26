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
// A rollout on a card.

import { advice, causeOf } from "./advice.js";
import { make, pairs, put } from "./elements.js";
import { amount, decisionBadge, labelled, nameOf, percent, spoken, statusBadge, time, valued } from "./words.js";

const SHOWN_FIRST = ["error_rate", "latency", "memory_usage", "cpu_usage", "health_score"];
const SHORT = { error_rate: "errors", memory_usage: "memory", cpu_usage: "CPU", health_score: "health" };
const METRICS_SHOWN = 4;
const NOTES_SHOWN = 2;

/** Draws a card; `stage` tells what is wanted on it. */
export function renderCard(item, rollout, stage) {
  const { latest, label } = rollout;
  // The link stays the same element, so that whoever has it in focus keeps it.
  const link = item.querySelector("h3 a") ?? make("a", { href: `#/rollouts/${rollout.id}` });
  put(link, nameOf(rollout));
  const heading = item.querySelector("h3") ?? make("h3", {}, link);
  const outcome = stage === "past" && make("span", { class: `label ${label ?? "unknown"}` }, labelled(label));
  // What it waits for is said in what to do.
  const isSaid = stage === "on_hold" && causeOf(rollout);
  const why = [!isSaid && latest.why, ...latest.notes.slice(0, NOTES_SHOWN)].filter(Boolean).join("; ");
  put(item, heading,
    make("p", { class: "card-top" }, statusBadge(rollout), outcome, time(latest.at)),
    make("p", { class: "card-decision" }, decisionBadge(latest.decision, latest.count),
      make("span", {}, `risk ${percent(latest.risk)}, confidence ${percent(latest.confidence)}`)),
    latest.shadow && make("p", { class: "faint" }, `shadow mode: answered ${latest.answered}`),
    why && make("p", { class: "why" }, why),
    metricsOf(rollout.metrics),
    stage === "on_hold" && make("p", { class: "advice" }, make("b", {}, "To do: "), advice(rollout)));
}

function metricsOf(metrics) {
  const names = valued(metrics);
  const first = SHOWN_FIRST.filter((name) => Object.hasOwn(metrics, name) || name === "error_rate");
  const shown = [...first, ...names.filter((name) => !first.includes(name))].slice(0, METRICS_SHOWN);
  const list = pairs(shown.map((name) => [SHORT[name] ?? spoken(name), valueOf(name, metrics)]));
  list.className = "metrics";
  return list;
}

function valueOf(name, metrics) {
  const old = metrics[`control_${name}`];
  return [amount(name, metrics[name]), typeof old === "number" && make("span", { class: "old" }, ` old ${amount(name, old)}`)];
}

/** Returns by cause those that wait for it, where several wait for the same. */
export function heldTogether(rollouts) {
  const groups = new Map();
  for (const rollout of rollouts) {
    const cause = causeOf(rollout);
    if (!cause) continue;
    if (!groups.has(cause.id)) groups.set(cause.id, { cause, waiting: [] });
    groups.get(cause.id).waiting.push(rollout);
  }
  return [...groups.values()].filter(({ waiting }) => waiting.length > 1);
}
