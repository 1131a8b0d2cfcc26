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
// Why the policy decided as it did: which metric moved the risk, and what would turn the decision.

import { make } from "./elements.js";
import { amount, sentence, spoken } from "./words.js";

const HEADS = ["Metric", "moves the risk by", "now", "before the change", "old version now"];

/** Makes the explanation of a rollout's latest decision. */
export function explanation({ explanation: found, problem }) {
  if (!found) return make("p", { class: "empty" }, `Which metric moved the decision cannot be told: ${sentence(problem)}`);
  const moved = found.metrics.filter(({ contribution }) => points(contribution) !== 0);
  return [
    make("p", {}, "By itself, the policy says ", found.sentence),
    moved.length > 0 && make("div", { class: "box", tabindex: "0", role: "group", "aria-label": "What moved the risk" },
      make("table", {},
        make("thead", {}, make("tr", {}, HEADS.map((head) => make("th", { scope: "col" }, head)))),
        make("tbody", {}, moved.map(rowOf))))];
}

const points = (contribution) => Math.round(100 * contribution);

function rowOf({ metric, value, baseline, control, contribution }) {
  const n = points(contribution);
  const told = (x) => make("td", {}, x === null ? "–" : amount(metric, x));
  return make("tr", {}, make("th", { scope: "row" }, spoken(metric)),
    make("td", {}, make("b", {}, `${n > 0 ? "+" : "−"}${Math.abs(n)} points`)),
    make("td", {}, amount(metric, value)), told(baseline), told(control));
}
