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
// Whether the page is live, and what keeps it from being.

import { element, say } from "./elements.js";
import { token } from "./service.js";
import { clock, sentence } from "./words.js";

let lived = null;

/**
 * Says how the last round went.
 * @param {object[]} troubles What went wrong with which part: a refusal or silence of the service,
 *   or, without a status, an error of this page.
 * @param {number} every Milliseconds between rounds.
 */
export function tell(troubles, every) {
  const refused = troubles.find(({ trouble: { status } }) => status === 401 || status === 403);
  if (refused) {
    askForToken(refused.trouble);
    return;
  }
  element("token-form").hidden = true;
  element("main").hidden = false;
  element("forget").hidden = !token.get();
  const again = `It is tried again every ${every / 1000} seconds`;
  // An unknown rollout is said in its place.
  const silent = troubles.find(({ trouble: { status } }) => status !== undefined && status !== 404);
  const broken = troubles.filter(({ trouble: { status } }) => status === undefined);
  if (silent) {
    show(false, lived ? `Not live since ${clock(lived)}` : "Not live");
    complain(`What is shown ${lived ? "is old" : "is not all"}: ${sentence(silent.trouble.message)} ${again}.`);
    nothingCame();
    return;
  }
  lived = Date.now() / 1000;
  if (broken.length) {
    const names = new Intl.ListFormat("en").format(broken.map(({ what }) => what));
    show(false, "Live in part");
    complain(`This page cannot show ${names} as it should (${broken[0].trouble}). ${again}; if it lasts, reload the page.`);
    return;
  }
  show(true, "Live");
  complain("");
}

/** Says why a token that was typed cannot be one. */
export function nameProblem(text) {
  say(element("token-problem"), text);
}

export const isAskingForToken = () => !element("token-form").hidden;

function show(isLive, text) {
  element("pulse").className = isLive ? "pulse on" : "pulse";
  say(element("live"), text);
}

function complain(text) {
  element("trouble").hidden = !text;
  say(element("trouble"), text);
}

function nothingCame() {
  for (const empty of document.querySelectorAll(".empty")) {
    if (empty.textContent === "Loading") say(empty, "Nothing could be loaded yet.");
  }
}

function askForToken({ status, message }) {
  show(false, "Waiting for a token");
  complain("");
  element("main").hidden = true;
  element("forget").hidden = true;
  const isNew = !isAskingForToken();
  element("token-form").hidden = false;
  const refusal = status === 403 ? `The service refused: ${message}.` : "The service does not know this token, or not any more.";
  if (token.get()) nameProblem(refusal);
  token.forget();
  if (isNew) element("token").focus();
}
