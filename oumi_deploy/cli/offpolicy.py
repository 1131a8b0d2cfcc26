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

"""`oumi-deploy offpolicy`."""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_episodes, add_policy, add_seed

_DESCRIPTION = """\
Estimate what a policy would earn, from releases that something else decided.

The log is an episode file whose canary rows have a `propensity`: the probability with which the
logged action was chosen there. Without exploration (every propensity 1) a log shows only what was
done, and other policies cannot be judged from it. In a row that went on, the propensity must be
that of going on: of CONTINUE and PAUSE together, where there were pauses. A release that the policy
would hold for a person is paid as held. Judge on releases that the policy was not trained on.

There are two families of estimates, and a log may carry one of them or both:

  from seen rewards       every rolled-back release has a label all the same, such as from a post
                          mortem. Importance sampling (IS), plain, weighted and per-decision;
                          doubly robust; fitted Q evaluation; replay of the policy on every log
                          that goes on for as long as it does.
  from completed releases a rollback hides whether the release was bad. Releases that went on to
                          their end count by the inverse probability of having done so (IPW),
                          plain, weighted and doubly robust.

Where there is a choice, read `doubly robust`, else `doubly robust IPW`. The 95 % intervals and the
lower bound (which the truth lies above 95 times in 100) come from resampling groups; act on the
lower bound. `effective n` is what the releases are worth once weighted: where it is a small part
of n, the log says little about this policy, and the upper ends of IS and per-decision IS are
somewhat low. Fitted Q has no weights and a model's bias: alone it is no evidence.

  oumi-deploy offpolicy --policy deployment_policy_model.json --episodes logged.parquet
  oumi-deploy offpolicy --policy P --episodes F --json | jq .families.completed.mean_reward
"""

_FAMILIES = {"seen_rewards": "from seen rewards", "completed": "from completed releases"}
_METRICS = {"mean_reward": "mean reward", "mean_reward_with_delay": "mean reward with delay"}

_USABLE = {
    "seen_rewards": "were decided as the policy would have throughout",
    "completed": "went on to their end and are labelled",
}

_HEAD = (
    f"{{:24}}{'value':>10}{'95 % interval':>22}{'lower bound':>13}{'effective n':>13}"
    f"{'largest weight':>16}"
)


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "offpolicy",
        _run,
        summary="estimate a policy's reward from logged decisions",
        description=_DESCRIPTION,
        extra="data",
    )
    add_policy(parser)
    add_episodes(parser, "the log")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_seed(parser, "seed of folds and resampling")


def _run(args: argparse.Namespace) -> None:
    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.evaluation.evaluate import (
        policy_answers,
        policy_evidence,
        warn_of_unreported,
    )
    from oumi_deploy.evaluation.offpolicy import estimate_policy, value_features
    from oumi_deploy.policy.policy import DeploymentPolicy

    policy = DeploymentPolicy.load(args.policy)
    episodes = read_episodes(args.episodes)
    warn_of_unreported(policy, episodes)
    evidence = policy_evidence(policy, episodes)
    answers = policy_answers(policy, episodes, evidence=evidence)
    result = estimate_policy(
        episodes,
        answers.actions,
        policy.rewards,
        value_features(evidence.q_values, episodes),
        answers=answers,
        seed=args.seed,
    )
    print(json.dumps(result, allow_nan=False) if args.json else describe(result))


def describe(result: Mapping[str, Any]) -> str:
    """Returns the estimates as a table to read."""
    lines = [
        f"{result['n_releases']} logged releases in {result['n_groups']} groups: "
        f"{result['n_completed']} completed ({result['n_completed_unlabelled']} unlabelled), "
        f"{result['n_rolled_back']} rolled back ({result['n_rolled_back_unlabelled']} unlabelled)"
    ]
    for family, title in _FAMILIES.items():
        answer = result["families"][family]
        if "refused" in answer:
            lines += ["", f"{title}: not estimated: {answer['refused']}"]
            continue
        lines += [
            "",
            f"{title}: {answer['overlap']['usable_share']:.1%} of the releases {_USABLE[family]}",
        ]
        for metric, name in _METRICS.items():
            lines.append(_HEAD.format(name))
            lines += [_line(estimate) for estimate in answer[metric]]
    return "\n".join(lines)


def _line(estimate: Mapping[str, Any]) -> str:
    interval = f"{estimate['low']:.2f} to {estimate['high']:.2f}"
    return (
        f"  {estimate['name']:22}{estimate['value']:>10.2f}{interval:>22}"
        f"{estimate['lower_bound']:>13.2f}{estimate['effective_n']:>13.1f}{estimate['largest_weight']:>16.1f}"
    )
