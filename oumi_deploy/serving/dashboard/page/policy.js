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
// The policy in use: what it is, how far it is held back, and how it came to be.

import { element, make, pairs, put, renderChanged } from "./elements.js";
import { percent, sentence, spoken, time } from "./words.js";

const FIGURES = { calibration_error: "Calibration error", brier: "Brier score" };
const TIMES = ["at", "time", "timestamp"];

/** Shows the policy. */
export function showPolicy(policy) {
  renderChanged(element("notices"), [policy.shadow, policy.log_error, policy.log_spooled, policy.refused], () => {
    put(element("notices"), notices(policy).map((text) => make("p", { class: "notice loud" }, text)));
  });
  renderChanged(element("policy"), policy, () => put(element("policy"), facts(policy),
    make("h3", {}, "Calibration"), calibration(policy),
    make("h3", {}, "History of promotions"), history(policy)));
}

function notices(policy) {
  const { log_error: away, log_spools: isKept, log_spooled: n } = policy;
  const meanwhile = isKept ? `Decisions go on, and ${n === 1 ? "1 entry waits" : `${n} entries wait`} in a file` : "Until it is back, every question is answered PAUSE";
  return [
    policy.shadow && "Shadow mode: callers are answered their own default. Decisions here are what would have been answered.",
    away && `The log takes no entries: ${sentence(away)} ${meanwhile}.`,
    policy.refused && `A newer policy file was refused, and ${policy.version} goes on: ${sentence(policy.refused)}`,
  ].filter(Boolean);
}

function facts(policy) {
  const { n_episodes, n_groups, n_good, n_bad, fingerprint } = policy.trained_on;
  const releases = n_episodes == null ? null : `${counted(n_episodes)} releases (${counted(n_good)} good, ${counted(n_bad)} bad) in ${counted(n_groups)} groups`;
  return pairs([
    ["Version", make("code", {}, policy.version)],
    ["File", policy.file],
    ["Reads", policy.metrics.map(spoken).join(", ")],
    ["Trained on", releases],
    ["Training data", fingerprint && make("code", {}, String(fingerprint).slice(0, 12))],
    ["Vet", vetted(policy.vet)],
    ["Your latest releases", policy.likeness && sentence(policy.likeness.problem ?? policy.likeness.line)],
    ["Exploration", policy.explore ? `a ROLLBACK becomes PAUSE in ${percent(policy.explore, 1)} of the cases` : null],
  ]);
}

function vetted({ passes, failed }) {
  return passes ? "passes: it answers as it should where everybody knows the answer" : `FAILS where everybody knows the answer: ${(failed ?? []).join(", ")}`;
}

function calibration(policy) {
  const { alpha, rollback_from, fitted_on } = policy.calibration;
  const { how, n_good, n_bad, n_groups } = fitted_on;
  const judged = how === "cross-fitted" ? ", each by policies like it that never saw the group" : " it was not trained on";
  return pairs([
    ["Fitted on", n_good == null ? null : `${counted(n_good)} good and ${counted(n_bad)} bad releases in ${counted(n_groups)} groups${judged}`],
    ...Object.entries(FIGURES).map(([key, name]) => [name, interval(fitted_on[key])]),
    ["False alarms", alpha == null ? "no bound" : `at most ${percent(alpha, 1)} of good releases rolled back, expected: no ROLLBACK below a risk of ${percent(rollback_from)}`],
    ...pausing(policy),
  ]);
}

function pausing({ format_version: version, break_even: most, calibration: { pauses } }) {
  const doubt = pauses.max_doubt == null ? "" : `, or where it is wrong with more than ${percent(pauses.max_doubt)}`;
  const end = pauses.pause_fallback === "PAUSE" ? "is for a person to decide" : `becomes ${pauses.pause_fallback}`;
  const last = `number ${pauses.pause_limit} running ${end}`;
  if (version === 1) return [["Pauses", `below ${pauses.min_requests} requests, outside of what it was trained on${doubt}; ${last}`]];
  return [
    ["Goes on", `up to a risk of ${percent(most)}, where something was seen that carries it`],
    ["Pauses", `below ${pauses.min_requests} requests, where nothing is reported, beyond the worst that it was trained on${doubt}; ${last}`],
    ["Watches", `above a risk of ${percent(most)}, where another look is worth more than an end; number ${pauses.watch_limit} running is rolled back, or for a person to decide`],
    ["Surely bad", pauses.certain_risk < 1 ? `rolled back from a risk of ${percent(pauses.certain_risk)} on` : null],
  ];
}

const counted = (n) => (typeof n === "number" ? n.toLocaleString("en") : "an unknown number of");

function interval(figure) {
  if (typeof figure?.value !== "number") return null;
  const [value, low, high] = [figure.value, figure.low, figure.high].map((x) => (typeof x === "number" ? x.toFixed(3) : "unknown"));
  return `${value} (95 % interval ${low} to ${high})`;
}

function history({ history: entries, history_problem: problem }) {
  const trouble = problem && make("p", { class: "problem" }, problem);
  if (!entries.length) {
    const none = "No learning loop keeps this policy file: there is no history.jsonl beside it.";
    return trouble || make("p", { class: "empty" }, none);
  }
  return [trouble, make("ol", { class: "history" }, entries.map(entryOf))];
}

function entryOf(entry) {
  const { event, reason, ...others } = entry;
  const when = TIMES.find((name) => Object.hasOwn(others, name));
  const at = when && moment(others[when]);
  delete others[when];
  const told = Object.entries(others).map(([name, value]) => `${spoken(name)} ${plain(value)}`);
  return make("li", {}, make("p", {}, make("b", {}, plain(event)), " ", at),
    reason && make("p", {}, plain(reason)), make("p", { class: "legend" }, told.join(" · ")));
}

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");

function moment(value) {
  const seconds = typeof value === "number" ? value : Date.parse(value) / 1000;
  return Number.isFinite(seconds) ? time(seconds) : String(value);
}
