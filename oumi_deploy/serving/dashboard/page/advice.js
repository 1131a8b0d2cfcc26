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
// What a person can do about a rollout.

import { make } from "./elements.js";
import { isLeftOnHold, valued } from "./words.js";

const TOOL = "in your rollout tool";
const PAUSED = [
  ["telemetry_unavailable", "Nothing can be collected: mend the telemetry. Until then every release is held."],
  ["telemetry_missing", "See whether the new version runs and reports its metrics. It is judged again once they come in."],
  ["guardrail", `A limit of your own holds it: look at that metric, and promote or abort it ${TOOL}.`],
  ["out_of_range", `The policy has not seen the like: look at the metrics, and promote or abort it ${TOOL}.`],
  ["doubt", `The next observations may settle it. If not, promote or abort it ${TOOL}.`],
  ["few_requests", `It needs traffic. If none comes, promote or abort it ${TOOL}.`],
  ["watching", `It looks riskier than a promotion may be, and no worse than that: it is asked about again at the same traffic. You can abort it ${TOOL}.`],
  ["explored", `It would have been rolled back, and was held to learn what follows: abort it ${TOOL} if you can.`],
  ["false_alarm_bound", `The policy leans to a rollback and may not order one: look at it, and promote or abort it ${TOOL}.`],
];
const LIKELY_BAD = 0.9;
const UNSETTLED = new Set(["doubt", "out_of_range", "few_requests", "false_alarm_bound"]);
const LOOK_NOW = `Look now, it is likely bad: abort it ${TOOL}, unless you know why it looks so.`;
const DECIDE = `Promote or abort it ${TOOL}: the policy cannot decide it, and it never goes on by itself.`;
const LATE = "See whether the new version runs and reports its metrics, and whether the caller sends what is newest, by a clock that agrees with the service's.";
const OF_ROLLOUT = new Set(["requests", "canary_share", "n_pods"]);
const ENDED = {
  deploying: `Nothing: it goes on. Abort it ${TOOL} if you know better.`,
  healthy: "Nothing, unless you know better: then enter the outcome.",
  failed: `It went on, and was bad: take it back ${TOOL} if it still runs.`,
  held: `It was held, and was bad: abort it ${TOOL} if it still waits.`,
  undecided: "Nobody asks about it any more. If you know what became of it, enter the outcome.",
};
const REVIEW = "It was told to go back: see that it did. Then enter what it was; only a person's review labels it.";

/** Returns what to do, as text and links. */
export function advice(rollout) {
  const { status, latest, label } = rollout;
  if (status === "rolled_back") return label ? "Nothing: it went back, and was reviewed." : REVIEW;
  if (isLeftOnHold(rollout)) {
    return `It was told to hold, and nobody asks about it any more: see whether it still waits, and promote or abort it ${TOOL}.`;
  }
  if (status === "for_a_person") return forAPerson(rollout);
  if (status !== "paused") return ENDED[status] ?? "";
  const cause = causeOf(rollout);
  if (cause) return ["Look first at ", linkTo(cause), ", the likelier cause. This one is judged by itself once that has gone back, or after a while."];
  if (isLate(rollout)) return LATE;
  if (latest.risk >= LIKELY_BAD && latest.reasons.some((reason) => UNSETTLED.has(reason))) return LOOK_NOW;
  const found = PAUSED.find(([reason]) => latest.reasons.includes(reason));
  return found ? found[1] : `It is asked about again with the next observation. You can promote or abort it ${TOOL}.`;
}

/** Returns what to do about one that a person must decide: where it cannot be seen, look at that first. */
function forAPerson(rollout) {
  const { latest } = rollout;
  if (latest.risk >= LIKELY_BAD && !latest.reasons.includes("explored")) return LOOK_NOW;
  const unseen = ["telemetry_unavailable", "telemetry_missing"].find((reason) => latest.reasons.includes(reason));
  if (!unseen) return DECIDE;
  return `${isLate(rollout) ? LATE : PAUSED.find(([reason]) => reason === unseen)[1]} Or promote or abort it ${TOOL}.`;
}

/** Returns whether telemetry is missing although the newest observation has values: it is too old, or the policy does not read them. */
function isLate({ latest, metrics }) {
  return latest.reasons.includes("telemetry_missing") && valued(metrics).some((name) => !OF_ROLLOUT.has(name));
}

/** Returns the rollout that one waits for, if any. */
export const causeOf = ({ latest }) => latest.suspects.find((suspect) => suspect.waited_for);

/** Makes a link to a rollout that another one names. */
export function linkTo({ id, service, version }) {
  return make("a", { href: `#/rollouts/${id}`, id: `to-${id}` }, make("bdi", {}, service), version && [" ", make("bdi", {}, version)]);
}
