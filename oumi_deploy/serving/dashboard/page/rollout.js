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
// One rollout: where it stands, its metrics, every decision on it, and what was said of it.

import { charts } from "./charts.js";
import { make, pairs, put } from "./elements.js";
import { outcomeForm } from "./outcome.js";
import { clock, decisionBadge, labelled, percent, retell, spoken, statusBadge, time, versionOf } from "./words.js";

const place = () => document.getElementById("rollout");
let shown = null;

/** Says that a rollout is being loaded, or why it cannot be shown. */
export function showInstead(text) {
  shown = null;
  put(place(), back(), make("h1", { tabindex: "-1" }, "Rollout"), make("p", { class: "empty" }, text));
}

/** Shows a rollout; the form stays as it is while somebody fills it in. */
export function showRollout(course, reload) {
  const { id } = course.rollout;
  if (shown?.id !== id) {
    shown = { id, top: make("div"), said: make("div") };
    put(place(), back(), shown.top, make("section", { "aria-labelledby": "outcome-title" },
      make("h2", { id: "outcome-title" }, "Outcome"), shown.said, outcomeForm(course.rollout, reload)));
  }
  const content = JSON.stringify(course);
  if (shown.content !== content) render(course);
  shown.content = content;
  retell(place());
}

function back() {
  return make("p", {}, make("a", { href: "#/" }, "← All releases"));
}

function render({ rollout, decisions, observations, outcomes }) {
  const heading = shown.top.querySelector("h1") ?? make("h1", { tabindex: "-1" });
  put(heading, rollout.service, versionOf(rollout) && make("span", { class: "version" }, ` ${versionOf(rollout)}`));
  if (!shown.top.contains(heading)) shown.top.append(heading, make("div"));
  put(shown.top.lastElementChild, standing(rollout),
    make("section", { "aria-labelledby": "course-title" },
      make("h2", { id: "course-title" }, "Metrics and decisions"), key(), charts(observations, decisions)),
    make("section", { "aria-labelledby": "decisions-title" },
      make("h2", { id: "decisions-title" }, "Decisions ", make("span", { class: "count" }, String(rollout.n_decisions))),
      decisions.length < rollout.n_decisions && make("p", { class: "empty" }, `The newest ${decisions.length} are shown.`),
      make("ol", { class: "decisions", reversed: true, start: rollout.n_decisions }, decisions.toReversed().map(decisionOf))));
  put(shown.said, outcomes.length
    ? make("ul", { class: "outcomes" }, outcomes.map(outcomeOf))
    : make("p", { class: "empty" }, "Nobody has said yet what became of this release."));
}

function standing(rollout) {
  const { latest } = rollout;
  const shadow = latest.shadow && `the caller was answered ${latest.answered}`;
  return [
    make("p", { class: "standing" }, statusBadge(rollout.status), decisionBadge(latest.decision),
      make("span", { class: `label ${rollout.label ?? "unknown"}` }, labelled(rollout.label))),
    make("p", { class: "message" }, latest.message),
    pairs([
      ["Confidence", percent(latest.confidence)],
      ["Risk", percent(latest.risk)],
      ["Reasons", latest.reasons.map(spoken).join(", ") || "none: it is what the policy prefers"],
      ["Shadow mode", shadow],
      ["Decided", time(latest.at)],
      ["First asked", time(rollout.began)],
      ["Asked through", latest.asked_by],
      ["Policy", make("code", {}, latest.policy_version)],
    ]),
    latest.suspects.length > 0 && make("section", { "aria-labelledby": "suspects-title" },
      make("h2", { id: "suspects-title" }, "Side by side, the likeliest cause first"),
      make("ol", { class: "suspects" }, latest.suspects.map(suspectOf)))];
}

function suspectOf(suspect) {
  const waited = suspect.waited_for && make("b", {}, " This rollout waits for it.");
  return make("li", {}, String(suspect.sentence), waited);
}

function key() {
  return make("p", { class: "legend" }, "At the newest observation that each decision rests on: ",
    ["CONTINUE", "PAUSE", "ROLLBACK"].map((word) => [decisionBadge(word), " "]),
    "Shaded: before the change. Dashed: the old version at the same time.");
}

function decisionOf(decision) {
  return make("li", {},
    make("time", { datetime: isoOf(decision.at), title: new Date(1000 * decision.at).toLocaleString() }, clock(decision.at)),
    decisionBadge(decision.decision),
    make("span", { class: "figures" }, `confidence ${percent(decision.confidence)}`),
    make("span", { class: "message" }, decision.message));
}

const isoOf = (seconds) => new Date(1000 * seconds).toJSON();

function outcomeOf(outcome) {
  return make("li", {}, make("span", { class: `label ${outcome.label ?? "unknown"}` }, labelled(outcome.label)),
    ` ${outcome.source}${outcome.by ? `, ${outcome.by}` : ""}, `, time(outcome.at),
    outcome.note && make("p", { class: "note" }, outcome.note));
}
