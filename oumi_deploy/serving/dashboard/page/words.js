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
  for_a_person: "Waits for a person",
  healthy: "Healthy",
  rolled_back: "Rolled back",
  failed: "Went on, and was bad",
  held: "Held, and was bad",
  undecided: "Undecided",
};
const SHARES = new Set(["error_rate", "health_score", "memory_usage", "cpu_usage", "canary_share"]);
const MARKS = { CONTINUE: "●", PAUSE: "◍", ROLLBACK: "◆" };
const SKEW = 120;

/** Returns a probability or a share as a percentage; what is not quite certain does not read as if. */
export function percent(share, digits = 0) {
  const text = (100 * share).toFixed(digits);
  if (digits === 0 && share < 1 && text === "100") return "over 99%";
  if (digits === 0 && share > 0 && text === "0") return "under 1%";
  return `${text}%`;
}

/** Returns the value of a metric with its unit; a missing one is not 0. */
export function amount(metric, value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "missing";
  if (SHARES.has(metric)) return `${(100 * value).toFixed(value !== 0 && value < 0.1 ? 1 : 0)}%`;
  if (metric === "latency") return value === 0 ? "0 s" : value < 1 ? `${(1000 * value).toPrecision(3)} ms` : `${value.toPrecision(3)} s`;
  return Number(value.toPrecision(4)).toLocaleString("en");
}

/** Returns what somebody said, with an end. */
export const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

/** Returns a metric's name in words. */
export const spoken = (metric) => metric.replaceAll("_", " ");

/** Makes a time, told from now, and whole where one points at it. */
export function time(seconds) {
  return timeElement(seconds, sinceNow, { "data-at": seconds });
}

/** Makes a time of day, with its date where that is not today's. */
export function moment(seconds) {
  return timeElement(seconds, clock);
}

function timeElement(seconds, told, more) {
  const at = new Date(1000 * seconds);
  if (Number.isNaN(at.getTime())) return make("time", {}, "unknown time");
  const whole = at.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
  return make("time", { datetime: at.toISOString(), title: whole, ...more }, told(seconds));
}

/** Tells all times within an element anew. */
export function retell(root) {
  for (const element of root.querySelectorAll("time[data-at]")) say(element, sinceNow(Number(element.dataset.at)));
}

function sinceNow(seconds) {
  const past = Date.now() / 1000 - seconds;
  // The clock of the service may be ahead of this one.
  if (past < -SKEW) return clock(seconds);
  if (past < 45) return "just now";
  if (past < 90 * 60) return `${Math.round(past / 60)} min ago`;
  if (past < 36 * 3600) return `${Math.round(past / 3600)} h ago`;
  if (past < 6 * 86400) return `${Math.round(past / 86400)} days ago`;
  return new Date(1000 * seconds).toLocaleDateString(undefined, { dateStyle: "medium" });
}

/** Returns the time of day, of another day than today's with its date, of another year with that. */
export function clock(seconds) {
  const at = new Date(1000 * seconds);
  const now = new Date();
  if (at.toDateString() === now.toDateString()) return at.toLocaleTimeString(undefined, { timeStyle: "medium" });
  const year = at.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
  const date = at.toLocaleDateString(undefined, { month: "short", day: "numeric", ...year });
  return `${date}, ${at.toLocaleTimeString(undefined, { timeStyle: "short" })}`;
}

const NO_METRIC = new Set(["timestamp", "step", "phase", "planned_steps"]);

/** Returns the metrics of an observation that have a value, other than those of the old version. */
export function valued(observation) {
  return Object.keys(observation).filter((name) => typeof observation[name] === "number" && !NO_METRIC.has(name) && !name.startsWith("control_"));
}

/** Returns whether a rollout was told to hold, and nobody asks about it any more. */
export const isLeftOnHold = ({ status, latest }) => status === "undecided" && latest.answered === "PAUSE";

/** Returns where a rollout stands, in words. */
export const statusOf = (rollout) => (isLeftOnHold(rollout) ? "Left on hold" : STATUS[rollout.status] ?? rollout.status);

/** Makes the badge of where a rollout stands. */
export function statusBadge(rollout) {
  const kind = isLeftOnHold(rollout) ? "paused" : known(STATUS, rollout.status);
  return make("span", { class: `badge ${kind}` }, statusOf(rollout));
}

/** Makes the badge of a decision: shape, word and colour say the same; `count` is which PAUSE it is, if any. */
export function decisionBadge(decision, count = "") {
  const mark = make("span", { "aria-hidden": "true" }, MARKS[decision] ?? "");
  return make("span", { class: `decision ${known(MARKS, decision)}` }, mark, ` ${decision}`, count && ` ${count}`);
}

/** Returns a word of a list, to name a style by; any other word names none. */
export const known = (words, word) => (Object.hasOwn(words, word) ? word : "other");

/** Makes a rollout's name: its service, and fainter what tells it from others. */
export function nameOf(rollout) {
  const rest = [rollout.version, rollout.environment, rollout.rollout].filter(Boolean);
  return [make("bdi", {}, rollout.service),
    rest.length > 0 && make("span", { class: "version" }, " ", rest.map((part, n) => [n > 0 && " · ", make("bdi", {}, part)]))];
}

/** Returns what is known of a release, in words. */
export const labelled = (label) => (label ? `turned out ${label}` : "outcome unknown");
