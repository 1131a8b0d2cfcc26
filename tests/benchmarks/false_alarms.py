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

"""Does the bound on false alarms hold? The share of healthy releases rolled back, over many draws.

Each draw calibrates the policy anew, on fresh generated releases with a bound of alpha, and lets it
decide on the same 10,000 healthy ones of 5 to 60 observations, looked at in every step. The mean
over the draws must be at most alpha plus two standard errors. Pauses fall back to CONTINUE: the
generator's low traffic and lost telemetry alone would pass an alpha of 0.01.

    oumi train -c configs/neural/train.yaml
    python tests/benchmarks/false_alarms.py --policy output/neural/deployment_policy_model.json

With --episodes it splits these groups instead, at random, into a part to calibrate on and a part to
judge on; the policy must not have been trained on them.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import trange

from oumi_deploy import DeploymentPolicy
from oumi_deploy.episodes.packed import Episodes, read_episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.episodes.schema import GOOD
from oumi_deploy.evaluation.calibrate import calibrate
from oumi_deploy.evaluation.evaluate import policy_answers, policy_evidence
from oumi_deploy.evaluation.scoring import end_of_rollouts
from oumi_deploy.policy.answers import ANSWERS
from oumi_deploy.policy.pauses import PauseRules

PARAMETERS = {"canary_steps": [5, 60]}
PAUSES = PauseRules(pause_fallback="CONTINUE")

Judge = Callable[[DeploymentPolicy], float]


def main() -> None:
    """Prints the mean share over the draws for each alpha."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", required=True, type=Path, metavar="FILE")
    parser.add_argument("--episodes", type=Path, metavar="FILE", help="releases to split instead")
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.01, 0.05])
    parser.add_argument("--draws", type=int, default=100, help="draws an alpha (default 100)")
    parser.add_argument("--releases", type=int, default=1_000, help="in each draw (default 1,000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    policy = DeploymentPolicy.load(args.policy)
    draw = split(args.episodes) if args.episodes else generated(policy, args.releases)
    results = [measure(policy, alpha, args.draws, draw) for alpha in args.alpha]
    if args.json:
        print(json.dumps(results))
        return
    for r in results:
        print(
            f"alpha {r['alpha']:g}: {r['mean']:.4f} of the healthy releases rolled back, standard "
            f"error {r['standard_error']:.4f}, {r['draws']} draws; recall of bad ones "
            f"{r['recall']:.3f}"
        )


def measure(
    policy: DeploymentPolicy,
    alpha: float,
    n_draws: int,
    draw: Callable[[int], tuple[Episodes, Callable[[DeploymentPolicy], tuple[float, float]]]],
) -> dict[str, float]:
    """Returns mean and standard error of the share over draws, and the recall beside it."""
    shares = []
    for number in trange(n_draws, desc=f"alpha {alpha:g}"):
        held_out, judge = draw(number)
        shares.append(judge(calibrate(policy, held_out, pauses=PAUSES, alpha=alpha, seed=number)))
    false, caught = np.array(shares).T
    error = false.std(ddof=1) / np.sqrt(n_draws)
    return {
        "alpha": alpha,
        "mean": float(false.mean()),
        "standard_error": float(error),
        "recall": float(np.nanmean(caught)),
        "draws": n_draws,
    }


def generated(policy: DeploymentPolicy, n_releases: int) -> Callable:
    """Returns draws of fresh generated releases, judged on the same 10,000 healthy ones."""
    tested = generate_sample(13_500, 900_000, PARAMETERS)
    healthy = np.flatnonzero(tested.labels == GOOD)[:10_000]
    assert len(healthy) == 10_000
    bad = np.flatnonzero(tested.labels != GOOD)
    tested = tested.select(np.sort(np.concatenate([healthy, bad])))
    evidence = policy_evidence(policy, tested)

    def judge(calibrated: DeploymentPolicy) -> tuple[float, float]:
        return shares_rolled_back(calibrated, tested, evidence)

    def draw(number: int) -> tuple[Episodes, Callable]:
        return generate_sample(n_releases, 1_000_000 + number, PARAMETERS), judge

    return draw


def split(path: Path) -> Callable:
    """Returns draws of half of a file's groups, judged on the other half."""
    episodes = read_episodes(path)
    codes = episodes.group_codes()

    def draw(number: int) -> tuple[Episodes, Callable]:
        half = np.random.default_rng(number).permutation(codes.max() + 1)[codes] % 2 == 0
        other = episodes.select(~half)
        return episodes.select(half), lambda calibrated: shares_rolled_back(calibrated, other)

    return draw


def shares_rolled_back(policy: DeploymentPolicy, episodes: Episodes, evidence=None):
    """Returns the mean over groups of their healthy releases' share, and the recall of bad ones."""
    answers = policy_answers(policy, episodes, evidence=evidence)
    ends = end_of_rollouts(answers.actions, episodes)
    back = answers.actions[ends] == ANSWERS.index("ROLLBACK")
    good = episodes.labels == GOOD
    _, groups = np.unique(episodes.group_codes()[good], return_inverse=True)
    by_group = np.bincount(groups, back[good]) / np.bincount(groups)
    recall = back[~good].mean() if (~good).any() else np.nan
    return float(by_group.mean()), float(recall)


if __name__ == "__main__":
    main()
