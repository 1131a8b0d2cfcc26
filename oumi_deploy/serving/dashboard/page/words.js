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
// How numbers, times and states read.

import { make, say } from "./elements.js";

const STATUS = {
  deploying: "Deploying",
  paused: "Paused",
  healthy: "Healthy",
  rolled_back: "Rolled back",
  failed: "Went on, and was bad",
  undecided: "Undecided",
};
const SHARES = new Set(["error_rate", "health_score", "memory_usage", "cpu_usage", "canary_share"]);
const MARKS = { CONTINUE: "●", PAUSE: "◍", ROLLBACK: "◆" };

/** Returns a probability or a share as a percentage. */
export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`;

/** Returns the value of a metric with its unit; a missing one is not 0. */
export function amount(metric, value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "missing";
  if (SHARES.has(metric)) return percent(value, value !== 0 && value < 0.1 ? 1 : 0);
  if (metric === "latency") return value === 0 ? "0 s" : value < 1 ? `${(1000 * value).toPrecision(3)} ms` : `${value.toPrecision(3)} s`;
  return Number(value.toPrecision(4)).toLocaleString("en");
}

/** Returns a metric's name in words. */
export const spoken = (metric) => metric.replaceAll("_", " ");

/** Makes a time, told from now, and whole where one points at it. */
export function time(seconds) {
  const at = new Date(1000 * seconds);
  const isReal = !Number.isNaN(at.getTime());
  const known = isReal && { datetime: at.toISOString(), title: at.toLocaleString(), "data-at": seconds };
  return make("time", known || {}, isReal ? sinceNow(seconds) : "unknown time");
}

/** Tells all times within an element anew. */
export function retell(root) {
  for (const element of root.querySelectorAll("time[data-at]")) say(element, sinceNow(Number(element.dataset.at)));
}

function sinceNow(seconds) {
  const past = Date.now() / 1000 - seconds;
  if (past < 0 || past > 6 * 86400) {
    return new Date(1000 * seconds).toLocaleDateString(undefined, { dateStyle: "medium" });
  }
  if (past < 45) return "just now";
  if (past < 90 * 60) return `${Math.round(past / 60)} min ago`;
  if (past < 36 * 3600) return `${Math.round(past / 3600)} h ago`;
  return `${Math.round(past / 86400)} days ago`;
}

/** Returns the time of day, and of another day than today's the date. */
export function clock(seconds) {
  const at = new Date(1000 * seconds);
  const isToday = at.toDateString() === new Date().toDateString();
  const date = at.toLocaleDateString(undefined, { month: "short", day: "numeric" });
  const hour = at.toLocaleTimeString(undefined, { timeStyle: isToday ? "medium" : "short" });
  return isToday ? hour : `${date}, ${hour}`;
}

/** Makes the badge of a status. */
export const statusBadge = (status) => make("span", { class: `badge ${known(STATUS, status)}` }, STATUS[status] ?? status);

/** Makes the badge of a decision: shape, word and colour say the same. */
export function decisionBadge(decision) {
  const mark = make("span", { "aria-hidden": "true" }, MARKS[decision] ?? "");
  return make("span", { class: `decision ${known(MARKS, decision)}` }, mark, ` ${decision}`);
}

/** Returns a word of a list, to name a style by; any other word names none. */
export const known = (words, word) => (Object.hasOwn(words, word) ? word : "other");

/** Returns a rollout's name, its service apart. */
export const versionOf = (rollout) => [rollout.version, rollout.environment, rollout.rollout].filter(Boolean).join(" · ");

/** Returns what is known of a release, in words. */
export const labelled = (label) => (label ? `turned out ${label}` : "outcome unknown");
