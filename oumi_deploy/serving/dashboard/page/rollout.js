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
// One rollout: where it stands, why, what to do, its metrics, every decision, and its outcome.

import { advice } from "./advice.js";
import { charts } from "./charts.js";
import { element, make, pairs, put, renderChanged, say, straight } from "./elements.js";
import { outcomeForm } from "./outcome.js";
import { decisionBadge, labelled, moment, nameOf, percent, retell, statusBadge, time } from "./words.js";
import { explanation } from "./why.js";

const FIRST = 50;
let shown = null;
let instead = null;

/** Says that a rollout is being loaded, or why it cannot be shown. */
export function showInstead(text) {
  shown = null;
  if (instead?.isConnected) {
    say(instead, text);
    return;
  }
  instead = make("p", { class: "empty" }, text);
  put(element("rollout"), back(), make("h1", { tabindex: "-1" }, "Rollout"), instead);
}

/**
 * Shows a rollout; the form stays as it is while somebody fills it in.
 * @param {object} course All that is known of it.
 * @param {object} why What explains the latest decision on it.
 * @param {function} reload Called once an outcome was entered.
 */
export function showRollout(course, why, reload) {
  const { id } = course.rollout;
  if (shown?.id !== id) begin(course.rollout, reload);
  const focused = document.activeElement?.id;
  renderChanged(shown.top, [course, why], () => render(course, why));
  if (focused && document.activeElement === document.body) element(focused)?.focus({ preventScroll: true });
  document.title = straight(`${course.rollout.service} ${course.rollout.version} - oumi_deploy`);
  retell(element("rollout"));
}

function begin(rollout, reload) {
  // The heading stays the same element: whoever came here has it in focus.
  const heading = element("rollout").querySelector("h1");
  shown = { id: rollout.id, heading, top: make("div"), said: make("div"), isWhole: false };
  instead.remove();
  element("rollout").append(shown.top, make("section", { "aria-labelledby": "outcome-title" },
    make("h2", { id: "outcome-title" }, "Outcome"), shown.said, outcomeForm(rollout, reload)));
}

function back() {
  return make("p", { class: "back" }, make("a", { href: "#/" }, "← All releases"));
}

function render(course, why) {
  const { rollout, outcomes } = course;
  put(shown.heading, nameOf(rollout));
  put(shown.top, standing(rollout), because(rollout, why), together(rollout),
    make("section", { "aria-labelledby": "course-title" },
      make("h2", { id: "course-title" }, "Metrics and decisions"), key(), charts(course.observations, course.decisions)),
    decisionList(course));
  put(shown.said, outcomes.length
    ? make("ul", { class: "outcomes" }, outcomes.map(outcomeOf))
    : make("p", { class: "empty" }, "Nobody has said yet what became of this release."));
}

function standing(rollout) {
  const { latest } = rollout;
  return [
    make("p", { class: "standing" }, statusBadge(rollout), decisionBadge(latest.decision, latest.count),
      make("span", {}, `risk ${percent(latest.risk)}, confidence ${percent(latest.confidence)}`),
      make("span", { class: `label ${rollout.label ?? "unknown"}` }, labelled(rollout.label)), time(latest.at)),
    latest.shadow && make("p", { class: "notice" }, `Shadow mode: the caller was answered ${latest.answered}. ${latest.decision} is what would have been.`),
    make("p", { class: "advice" }, make("b", {}, "To do: "), advice(rollout), rollout.status === "rolled_back" && !rollout.label && [" ", toForm()])];
}

function toForm() {
  const button = make("button", { type: "button", class: "link", id: "to-form" }, "Enter it");
  // The form is far below, and an address within this page would lead away from the rollout.
  button.addEventListener("click", () => element("rollout").querySelector("form input").focus());
  return button;
}

function because({ latest, began }, why) {
  return make("section", { "aria-labelledby": "why-title" },
    make("h2", { id: "why-title" }, "Why"),
    latest.why && make("p", {}, `${latest.decision}: ${latest.why}.`),
    latest.notes.length > 0 && [make("p", {}, "What the telemetry lacks:"),
      make("ul", { class: "notes" }, latest.notes.map((note) => make("li", {}, note)))],
    explanation(why),
    pairs([
      ["Risk", `${percent(latest.risk)}: how likely the release is bad, by what was seen so far`],
      ["Confidence", `${percent(latest.confidence)}: how likely ${latest.decision === "PAUSE" ? "the likelier outcome" : "the decision"} is right`],
      ["Decided", [moment(latest.at), `, through ${latest.asked_by}, by policy `, make("code", {}, latest.policy_version)]],
      ["First asked", moment(began)],
    ]));
}

function together({ latest }) {
  return latest.suspects.length > 0 && make("section", { "aria-labelledby": "suspects-title" },
    make("h2", { id: "suspects-title" }, "Side by side, the likeliest cause first"),
    make("ol", { class: "suspects" }, latest.suspects.map(suspectOf)));
}

function suspectOf(suspect) {
  const sentence = String(suspect.sentence);
  const isOther = suspect.id !== shown.id;
  const name = [make("bdi", {}, suspect.service), " ", make("bdi", {}, suspect.version)];
  return make("li", {},
    isOther ? make("a", { href: `#/rollouts/${suspect.id}`, id: `beside-${suspect.id}` }, name) : make("b", {}, name, " (this one)"),
    sentence.startsWith(suspect.service) ? sentence.slice(suspect.service.length) : `: ${sentence}`,
    suspect.waited_for && make("b", {}, " This rollout waits for it."));
}

function key() {
  return make("p", { class: "legend" }, "At the newest observation that each decision rests on: ",
    ["CONTINUE", "PAUSE", "ROLLBACK"].map((word) => [decisionBadge(word), " "]),
    "Shaded: before the change. Dashed: the old version at the same time.");
}

function decisionList({ rollout, decisions }) {
  const newestFirst = decisions.toReversed();
  const list = make("ol", { class: "decisions", reversed: true, start: rollout.n_decisions },
    newestFirst.slice(0, shown.isWhole ? Infinity : FIRST).map(decisionOf));
  const left = decisions.length < rollout.n_decisions && make("p", { class: "empty" }, `The newest ${decisions.length} are kept in view.`);
  return make("section", { "aria-labelledby": "decisions-title" },
    make("h2", { id: "decisions-title" }, "Decisions ", make("span", { class: "count" }, String(rollout.n_decisions))),
    list, list.children.length < decisions.length && opener(list, newestFirst), left);
}

function opener(list, decisions) {
  const button = make("button", { type: "button", id: "all-decisions" }, `Show all ${decisions.length}`);
  button.addEventListener("click", () => {
    shown.isWhole = true;
    list.append(...decisions.slice(FIRST).map(decisionOf));
    button.replaceWith();
    list.children[FIRST].setAttribute("tabindex", "-1");
    list.children[FIRST].focus();
  });
  return make("p", {}, button);
}

function decisionOf(decision) {
  const why = [decision.why, decision.shadow && `shadow mode: answered ${decision.answered}`].filter(Boolean).join("; ");
  return make("li", {}, moment(decision.at), decisionBadge(decision.decision, decision.count),
    make("span", { class: "figures" }, `risk ${percent(decision.risk)}`),
    make("span", { class: "message" }, why));
}

function outcomeOf(outcome) {
  return make("li", {}, make("span", { class: `label ${outcome.label ?? "unknown"}` }, labelled(outcome.label)),
    ` ${outcome.source}${outcome.by ? `, ${outcome.by}` : ""}, `, moment(outcome.at),
    outcome.note && make("p", { class: "note" }, outcome.note));
}
