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

"""How many releases does it take? Policies and models fitted on few of them, judged on others.

The file's groups are dealt out to folds. For each size, what is judged on a fold was fitted on so
many releases of the other folds, whole groups drawn at random, and calibrated by cross-fitting
within those. `--flip` turns that share of their labels around; what is judged keeps its labels.
Beside the policies stand logistic regression and gradient boosting on the first config's state,
asked at every step.

    python tests/benchmarks/learning_curves.py --episodes releases.parquet
    python tests/benchmarks/learning_curves.py --episodes releases.parquet --flip 0.1
    python tests/benchmarks/learning_curves.py --episodes F -c A.yaml -c B.yaml --sizes 20 40

Every figure has its 95 % interval from resampling groups.
"""

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from oumi_deploy.episodes.packed import Episodes, read_episodes
from oumi_deploy.episodes.schema import BAD, GOOD
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.baselines.catalogue import ONLINE
from oumi_deploy.evaluation.baselines.fitting import Context
from oumi_deploy.evaluation.evaluate import judge, policy_answers
from oumi_deploy.evaluation.folds import assign_folds
from oumi_deploy.evaluation.metrics import told
from oumi_deploy.plugin.cross_fitting import deal_folds
from oumi_deploy.plugin.crossval import order_of_file
from oumi_deploy.plugin.fit import fit
from oumi_deploy.plugin.runs import load_train_config, settings_of
from oumi_deploy.policy.answers import Answers
from oumi_deploy.problem.rewards import Rewards

MODELS = ("logistic regression", "gradient boosting")
DEFAULT = Path("configs/releases/train.yaml")

DRAWS = 100
"""Draws of groups until one has good and bad releases enough to calibrate on."""

Decide = Callable[[Episodes], Answers | np.ndarray]
"""Answers of a policy, or the actions of a model, at every decision."""


def main() -> None:
    """Prints F1 and mean reward with delay by what was fitted and on how many releases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", required=True, type=Path, metavar="FILE")
    parser.add_argument("-c", "--config", type=Path, action="append", metavar="CONFIG")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 40, 80, 1_000_000])
    parser.add_argument("--folds", type=int, default=5, help="folds to judge on (default 5)")
    parser.add_argument("--inner-folds", type=int, default=3, help="to calibrate on (default 3)")
    parser.add_argument("--flip", type=float, default=0.0, help="share of labels turned around")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with redirect_stdout(sys.stderr):  # Oumi logs to where a script reads the answer
        result = measure(read_episodes(args.episodes), args)
    if args.json:
        print(json.dumps(result))
        return
    print(f"{'fitted':40} {'releases':>8}  {'F1':24} {'reward with delay':22} held")
    for row in result:
        cells = [told(row[name], tell) for name, tell in (("f1", ".3f"), ("reward", ".1f"))]
        held = "-" if row["held"] is None else f"{row['held']:.1%}"
        print(f"{row['name']:40} {row['size']:8}  {cells[0]:24} {cells[1]:22} {held}")


def measure(episodes: Episodes, args: argparse.Namespace) -> list[dict]:
    """Returns a row for each of what is fitted and each size."""
    configs = {str(c): load_train_config(c) for c in args.config or [DEFAULT]}
    settings = settings_of(next(iter(configs.values())))
    folds = assign_folds(episodes.group_codes(), args.folds, args.seed)
    context = Context(settings.rewards, settings.state, args.seed)
    fits: dict[str, Callable[[Episodes], Decide]] = {
        **{name: _policy_of(config, args) for name, config in configs.items()},
        **{name: _model_of(name, context) for name in MODELS},
    }
    back = order_of_file(episodes, folds)
    rows = []
    for size in tqdm(args.sizes, desc="Sizes", unit="size"):
        found: dict[str, list] = {name: [] for name in fits}
        sizes = []
        for fold in np.unique(folds):
            random = np.random.default_rng([args.seed, size, int(fold)])
            train = flip(episodes.select(folds != fold), args.flip, random)
            few = draw(train, size, args.inner_folds, random)
            sizes.append(len(few))
            for name, make in fits.items():
                found[name].append(make(few)(episodes.select(folds == fold)))
        rows += [
            judged(episodes, parts, back, settings.rewards) | {"name": name, "size": min(sizes)}
            for name, parts in found.items()
        ]
    return sorted(rows, key=lambda row: [*fits].index(row["name"]))


def draw(episodes: Episodes, size: int, n_inner: int, random: np.random.Generator) -> Episodes:
    """Draws whole groups until there are so many releases, or all of them."""
    codes = episodes.group_codes()
    for _ in range(DRAWS):
        order = random.permutation(episodes.n_groups)
        counts = np.bincount(codes)[order].cumsum()
        chosen = order[: int(np.searchsorted(counts, size)) + 1]
        few = episodes.select(np.isin(codes, chosen))
        try:
            deal_folds(few, n_inner, 0, "--inner-folds")
        except DeployError:
            continue
        return few
    raise DeployError(f"--sizes {size}: too few to calibrate on in {DRAWS} draws")


def flip(episodes: Episodes, share: float, random: np.random.Generator) -> Episodes:
    """Returns the episodes with a share of the labels turned around."""
    turned = random.uniform(size=len(episodes)) < share
    other = np.where(episodes.labels == BAD, GOOD, BAD).astype(episodes.labels.dtype)
    return replace(episodes, labels=np.where(turned, other, episodes.labels))


def judged(episodes: Episodes, parts: list, back: np.ndarray, rewards: Rewards) -> dict:
    """Judges what was said of each fold, put back in the order of the file."""
    if isinstance(parts[0], Answers):
        names = [f.name for f in fields(Answers)]
        answers = Answers(*(np.concatenate([getattr(p, n) for p in parts])[back] for n in names))
        metrics = judge(episodes, answers.actions, rewards, answers=answers)["metrics"]
    else:
        metrics = judge(episodes, np.concatenate(parts)[back], rewards)["metrics"]
    reward, held = metrics["mean_reward_with_delay"], metrics["share_held"]["value"]
    return {"f1": metrics["f1"], "reward": reward, "held": held}


def _policy_of(config: object, args: argparse.Namespace) -> Callable[[Episodes], Decide]:
    return lambda few: partial(policy_answers, fit(config, few, args.inner_folds, seed=args.seed))


def _model_of(name: str, context: Context) -> Callable[[Episodes], Decide]:
    return lambda few: ONLINE[name](few, context)


if __name__ == "__main__":
    main()
