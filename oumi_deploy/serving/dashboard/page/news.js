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
// Tells those who do not see the page what has changed on it, and nothing else.

import { element, say } from "./elements.js";
import { statusOf } from "./words.js";

const MOST = 3;
const before = new Map();
let newest = null;

/**
 * Notes how rollouts stand, and announces those that changed or are new. One that is only shown
 * for the first time, as of an older page, is older than what was seen before.
 */
export function announce(rollouts) {
  const news = [];
  const isFirst = newest === null;
  const seen = newest ?? 0;
  for (const rollout of rollouts) {
    const { id, latest } = rollout;
    const now = `${latest.decision} ${statusOf(rollout)}`;
    const isNews = before.has(id) ? before.get(id) !== now : latest.at > seen;
    if (isNews && !isFirst) news.push(rollout);
    before.set(id, now);
    newest = Math.max(newest ?? 0, latest.at);
  }
  newest ??= 0;
  news.sort((a, b) => b.latest.at - a.latest.at);
  if (news.length) say(element("news"), news.slice(0, MOST).map(sentence).join(". "));
}

function sentence(rollout) {
  const { service, version, latest } = rollout;
  return `${service} ${version}: ${statusOf(rollout)}, ${latest.message}`;
}
