# Copyright 2026 - The oumi_deploy authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""`oumi-deploy decide`."""

import argparse
import json
import sys
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_policy
from oumi_deploy.errors import DeployError

_DESCRIPTION = """\
Ask a policy what to do now, given a rollout's observations so far. They come as JSON on standard
input, a list of objects, oldest first, with the column names of the episode format; an absent
name or null means missing. The answer is one JSON object:

  decision     CONTINUE (send more traffic), ROLLBACK, or PAUSE: hold the rollout as it is, and ask
               again with the next observation; a person must end one that is held_for_a_person
  confidence   probability that the decision is right; of a PAUSE that of the likelier outcome
  risk         probability that the release is bad, from what was seen so far
  calibrated   whether risk and confidence were fitted to releases that taught nothing else; if
               not, they are what the Q-values imply
  q_values     the reward that each action can expect
  q_margin     how far the action with the larger one is ahead
  reasons      why the answer is not simply that action, such as telemetry_missing
  pauses       observations running at which the decision was held back, and with pause_limit at
               which of them it is no longer
  guardrails   the team's own limits that ask for a PAUSE or ROLLBACK
  explanation  with --explain: how much each metric pushed the risk, beside its value, baseline and
               control; the nearest change that would turn the decision; and both in one sentence

It needs numpy alone.

  echo '[{"error_rate": 0.15, "memory_usage": 0.85, "cpu_usage": 0.75, "health_score": 0.6}]' \\
    | oumi-deploy decide --policy output/quickstart/deployment_policy_model.json
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "decide",
        _run,
        summary="ask a policy: CONTINUE, PAUSE or ROLLBACK?",
        description=_DESCRIPTION,
        extra=None,
    )
    add_policy(parser)
    parser.add_argument(
        "--last",
        action="store_true",
        help="no later observation will come: as many were planned as there are, whatever their "
        "`planned_steps` say. To CONTINUE is to promote then, and no PAUSE can wait: the rollout "
        "is decided, or held for a person",
    )
    parser.add_argument(
        "--asks-again",
        action="store_true",
        help="the tool asks again at its last look while the answer is PAUSE, so that one can wait "
        "there",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="say which metric pushed the decision, and what would turn it",
    )


def _run(args: argparse.Namespace) -> None:
    # Imported here: the other commands do not need the policy, and start without it.
    from oumi_deploy.policy.observation import as_last
    from oumi_deploy.policy.policy import DeploymentPolicy
    from oumi_deploy.policy.version_1 import WARNING

    policy = DeploymentPolicy.load(args.policy)
    if policy.version == 1:
        print(f"oumi-deploy decide: warning: {args.policy}: {WARNING}", file=sys.stderr)
    observations = _read_observations()
    if args.last and observations:
        policy.begin().observe_all(observations)  # Refuses what is no list of observations.
        observations = as_last(observations)
    ends = {"last": args.last, "asks_again": args.asks_again}
    answer = policy.decide(observations, **ends).as_dict()
    if args.explain:
        from oumi_deploy.policy.explain import explain

        answer["explanation"] = explain(policy, observations, **ends).as_dict()
    print(json.dumps(answer))


def _read_observations() -> Any:
    try:
        return json.load(sys.stdin)
    except ValueError as error:
        raise DeployError(f"standard input is not JSON: {error}") from error
