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


"""How much of what can be achieved on generated releases does a policy achieve?

The scale is the mean reward with delay: 0 % is the better of always continuing and always rolling
back, 100 % is optimal stopping on the full prefix, by backward induction over a risk fitted on
other groups. The policy answers as it is asked, what it holds for a person is paid `rewards.held`.
Beside it stand gradient boosting on the same state, asked at every step and fitted on as many other
releases as `--fitted-on` says, and the best error-rate threshold, picked in hindsight.

    oumi train -c configs/neural/train.yaml
    python tests/benchmarks/policy_quality.py --policy output/neural/deployment_policy_model.json
"""

import argparse
import json
from pathlib import Path

import numpy as np

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.evaluation.baselines.catalogue import ONLINE
from oumi_deploy.evaluation.baselines.fitting import Context
from oumi_deploy.evaluation.baselines.rules import always, best_threshold, error_threshold
from oumi_deploy.evaluation.evaluate import judge, policy_answers
from oumi_deploy.evaluation.reference import ReferenceValue, best_achievable_value
from oumi_deploy.problem.encoder import encode_episodes
from oumi_deploy.problem.rewards import Action, step_costs


def main() -> None:
    """Prints the figures of the policy, the rules and the reference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", required=True, type=Path, metavar="FILE")
    parser.add_argument("--count", type=int, default=10_000, help="releases (default 10,000)")
    parser.add_argument("--seed", type=int, default=11, help="their seed (default 11)")
    parser.add_argument(
        "--fitted-on", type=int, default=15_000, help="releases to fit boosting on (default 15,000)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result = measure(
        DeploymentPolicy.load(args.policy),
        generate_sample(args.count, args.seed),
        generate_sample(args.fitted_on, args.seed + 1),
    )
    if args.json:
        print(json.dumps(result))
        return
    print(f"{'':26} {'reward':>8} {'95 % interval':>20} {'achieved':>8} {'F1':>6}")
    for name, row in result.items():
        line = f"{name:26} {row['reward']:8.2f} {row['interval']:>20} {row['achieved']:8.1%}"
        print(line, "     -" if row["f1"] is None else f"{row['f1']:6.3f}")


def measure(policy: DeploymentPolicy, episodes: Episodes, others: Episodes) -> dict[str, dict]:
    """Returns mean reward with delay, its interval, the share achieved and F1, by name.

    Args:
        policy: The policy.
        episodes: What is judged on.
        others: What gradient boosting is fitted on.
    """
    rewards = policy.rewards
    threshold = best_threshold(episodes, rewards)
    answers = policy_answers(policy, episodes)
    state = tuple(feature.name for feature in policy.encoder.state)
    boosting = ONLINE["gradient boosting"](others, Context(rewards, state, seed=0))
    actions = {
        "always continue": always(episodes, Action.CONTINUE),
        "always roll back": always(episodes, Action.ROLLBACK),
        "best error-rate threshold": error_threshold(episodes, threshold),
        "policy": answers.actions,
        "gradient boosting": boosting(episodes),
        "best achievable": reference(policy, episodes).roll_back.astype(int),
    }
    judged = {
        name: judge(episodes, taken, rewards, answers=answers if name == "policy" else None)[
            "metrics"
        ]
        for name, taken in actions.items()
    }
    earned = {name: metrics["mean_reward_with_delay"] for name, metrics in judged.items()}
    floor = max(earned["always continue"]["value"], earned["always roll back"]["value"])
    ceiling = earned["best achievable"]["value"]
    return {
        name: {
            "reward": metric["value"],
            "interval": f"{metric['low']:.2f} to {metric['high']:.2f}",
            "achieved": (metric["value"] - floor) / (ceiling - floor),
            "f1": judged[name]["f1"]["value"],
        }
        for name, metric in earned.items()
    }


def reference(policy: DeploymentPolicy, episodes: Episodes) -> ReferenceValue:
    """Fits optimal stopping to what the policy's state shows."""
    share = episodes.column("canary_share")[episodes.canary_rows]
    return best_achievable_value(
        encode_episodes(policy.encoder.state, episodes),
        episodes.canary_offsets,
        episodes.labels.astype(np.int64),
        episodes.group_codes(),
        step_costs(policy.rewards, share),
        policy.rewards.table(),
        seed=0,
    )


if __name__ == "__main__":
    main()
