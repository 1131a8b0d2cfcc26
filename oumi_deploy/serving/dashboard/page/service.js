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
// Talking to the service, with the token that this tab was given.

const PATIENCE = 10_000;
const KEPT_AS = "oumi_deploy.token";

/** A refusal by the service (its status), or no answer at all (status 0). */
export class Trouble extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEPT_AS),
  keep: (text) => sessionStorage.setItem(KEPT_AS, text),
  forget: () => sessionStorage.removeItem(KEPT_AS),
};

/** Returns what the service answers to a path, given what is sent there, if anything. */
export async function ask(path, sent) {
  const headers = {};
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  const options = { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) };
  if (sent !== undefined) {
    headers["content-type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(sent) });
  }
  let response;
  let answer;
  try {
    response = await fetch(path, options);
    answer = await response.json();
  } catch {
    const status = response && !response.ok ? response.status : 0;
    throw new Trouble(status, status ? `it answered with status ${status}` : "the service does not answer");
  }
  if (!response.ok) throw new Trouble(response.status, String(answer.error ?? response.status));
  return answer;
}
