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
// A person says what became of a release.

import { make, say } from "./elements.js";
import { ask } from "./service.js";

/** Makes the form. After an outcome was taken, `reload` is called. */
export function outcomeForm(rollout, reload) {
  const choice = (value, text) => make("label", { class: "choice" }, make("input", { type: "radio", name: "label", value, required: true }), ` ${text}`);
  const told = make("p", { role: "status" });
  const button = make("button", { type: "submit" }, "Enter outcome");
  const form = make("form", { class: "outcome" },
    make("fieldset", {}, make("legend", {}, "Your review: the release was"), choice("good", "good"), choice("bad", "bad")),
    make("label", {}, "Your name ", make("input", { name: "by", maxlength: 200, autocomplete: "name" })),
    make("label", {}, "What you saw ", make("textarea", { name: "note", maxlength: 2000, rows: 3 })),
    make("p", { class: "row" }, button, told));
  let id = newId();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    told.className = "";
    say(told, "Sending");
    try {
      await ask("/v1/outcomes", { ...reviewIn(form, rollout), id });
      // Sent again after a broken line, a review has the same id and counts once.
      id = newId();
      form.reset();
      say(told, "Entered. A review outweighs what tools report.");
      reload();
    } catch (trouble) {
      told.className = "problem";
      say(told, refusal(trouble));
    }
    button.disabled = false;
  });
  form.addEventListener("input", () => say(told, ""));
  return form;
}

function reviewIn(form, { service, environment, version, rollout }) {
  const { label, by, note } = Object.fromEntries(new FormData(form));
  return { service, environment, version, rollout, source: "review", label, by: by.trim(), note };
}

function refusal({ status, message }) {
  if (status === 401) return "Not entered: the service does not know this token.";
  if (status === 403) return "Not entered: this token carries no right to report. Forget it, and give one that may ask and report.";
  return `Not entered: ${message}. What you wrote is still here; send it again.`;
}

function newId() {
  // crypto.randomUUID is there on HTTPS alone.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
