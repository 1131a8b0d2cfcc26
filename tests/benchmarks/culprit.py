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

"""Which of the services released together is at fault, and what looking at them together changes.

Each group of an episode file is replayed by the clock, once with each rollout judged by itself and
once together (oumi_deploy/policy/together.py). The policies are trained and calibrated over folds,
so that none judges a group, or with --by service a service, that it has seen.

    oumi train -c configs/releases/pretrain.yaml
    python tests/benchmarks/culprit.py --episodes releases.parquet
    python tests/benchmarks/culprit.py --episodes releases.parquet --by service --folds 0
    python tests/benchmarks/culprit.py --episodes releases.parquet -c configs/releases/train.yaml
    python tests/benchmarks/culprit.py --episodes releases.parquet --hasty 0.02

A recording goes on as it was after the culprit has gone back: who is dragged down stays down. So
false rollbacks are counted twice: over the whole recording, and up to HOLD_LIMIT minutes after the
culprit was told to go back, beyond which the recording is not what would have been. `two at once`
lays each group over the next one, so that two releases are at fault: what waiting costs then.
Every figure has its 95 % interval from resampling groups.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from oumi_deploy.episodes.packed import Episodes, read_episodes
from oumi_deploy.episodes.schema import BAD, CONTROL, GOOD
from oumi_deploy.evaluation.folds import assign_folds, codes_by
from oumi_deploy.evaluation.metrics import Metric, summarise, told
from oumi_deploy.evaluation.scoring import Scores, end_of_rollouts, score
from oumi_deploy.evaluation.together import (
    ERRORS,
    describe_naming,
    kept_share,
    look_together,
    ratio,
)
from oumi_deploy.policy.answers import Answers
from oumi_deploy.policy.together import HOLD_LIMIT
from oumi_deploy.problem.rewards import Action, Rewards

FIGURES = ("recall", "false_rollback_rate", "mean_reward_with_delay", "median_delay_minutes")
NAMINGS = ("named_when_first_wanted", "named_at_the_end", "named_by_risk_alone")


def main() -> None:
    """Prints the figures of the policy alone, and of its answers looked at together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", required=True, type=Path, metavar="FILE")
    parser.add_argument("-c", "--config", type=Path, default="configs/releases/finetune.yaml")
    parser.add_argument("--by", default="group", help="leave out by group (default) or service")
    parser.add_argument("--folds", type=int, default=10, help="0 leaves one out (default 10)")
    parser.add_argument(
        "--hasty", type=float, metavar="RATE", help="roll back above this error rate instead"
    )
    parser.add_argument("--calls", type=Path, help="JSON of which services each service calls")
    parser.add_argument("--hold", type=int, default=HOLD_LIMIT, help="observations to wait at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    episodes = read_episodes(args.episodes)
    answers = hasty(episodes, args.hasty) if args.hasty else learnt(episodes, args)
    calls = json.loads(args.calls.read_text(encoding="utf-8")) if args.calls else None
    both, twice = two_at_once(episodes, answers)
    result = {
        "one_culprit": measure(episodes, answers, calls, args),
        "two_at_once": measure(both, twice, calls, args),
    }
    print(json.dumps(result) if args.json else describe(result))


def learnt(episodes: Episodes, args: argparse.Namespace) -> Answers:
    """Returns what policies answer to folds that they were not trained or calibrated on."""
    from oumi_deploy.plugin.crossval import held_out_answers
    from oumi_deploy.plugin.runs import load_train_config

    folds = assign_folds(codes_by(episodes, args.by), args.folds, args.seed)
    config = load_train_config(args.config)
    return held_out_answers(config, episodes, folds, seed=args.seed, n_inner=5)


def hasty(episodes: Episodes, rate: float) -> Answers:
    """Returns the answers of a rule that rolls back at the first error rate above `rate`."""
    errors = episodes.column("error_rate")[episodes.canary_rows]
    back = (errors > rate).astype(int)
    nothing = np.zeros(len(back), dtype=int)
    return Answers(back, np.where(back == 1, 0.9, 0.1), nothing, nothing > 0, nothing > 0)


def two_at_once(episodes: Episodes, answers: Answers) -> tuple[Episodes, Answers]:
    """Lays each group over the next one, by the clock, and the last over the first."""
    codes, n = episodes.group_codes(), episodes.n_groups
    members = [np.flatnonzero(codes == code) for code in range(n)]
    pairs = [np.concatenate([members[code], members[(code + 1) % n]]) for code in range(n)]
    which = np.concatenate(pairs)
    chosen = episodes.select(which)
    times, canary = chosen.column("timestamp").copy(), chosen.canary_rows
    pair = np.repeat(np.arange(n), [len(p) for p in pairs])
    for number in range(n):
        for code in (number, (number + 1) % n):
            mine = (pair == number) & (codes[which] == code)
            first = times[canary][np.repeat(mine, chosen.canary_lengths)].min()
            times[np.repeat(mine, chosen.lengths)] += number * 1e6 - first
    decisions = [np.arange(*episodes.canary_offsets[[i, i + 1]]) for i in which]
    rows = np.concatenate(decisions)
    same = Answers(*(getattr(answers, f)[rows] for f in Answers.__dataclass_fields__))
    laid = replace(
        chosen,
        groups=pair.astype(str).astype(object),
        numbers={**chosen.numbers, "timestamp": times},
    )
    return laid, same


def measure(
    episodes: Episodes, answers: Answers, calls: Any, args: argparse.Namespace
) -> dict[str, Any]:
    """Returns the figures with and without looking at the rollouts of a group together."""
    together = look_together(episodes, answers, calls, args.hold)
    arms = {"alone": answers, "together": together.answers}
    scores = {
        name: score(episodes, said.actions, Rewards(), answers=said) for name, said in arms.items()
    }
    early = {
        name: score(episodes, until_it_parts(episodes, said), Rewards())
        for name, said in arms.items()
    }
    figures: dict[str, Any] = {
        "groups": episodes.n_groups,
        "good": int((episodes.labels == GOOD).sum()),
        "named_when_first_wanted": describe_naming(together.named, episodes, args.seed),
        "named_at_the_end": describe_naming(together.named_at_end, episodes, args.seed),
        "named_by_risk_alone": describe_naming(by_risk(episodes, answers), episodes, args.seed),
    }
    for name, scored in scores.items():
        figures[name] = {
            "false_rollbacks": n_false(scored, episodes, args.seed),
            "false_rollbacks_before_it_parts": n_false(early[name], episodes, args.seed),
            **{f: summarise(scored, episodes, args.seed)[f] for f in FIGURES},
            "mean_delay_minutes": mean_delay(scored, episodes, args.seed),
        }
    for name, pair in (("kept", scores), ("kept_before_it_parts", early)):
        figures[name] = kept_share(pair["alone"], pair["together"], episodes, args.seed)
    return figures


def by_risk(episodes: Episodes, answers: Answers) -> list[list[int]]:
    """Returns each group ranked by the risk alone, when a rollback is first wanted."""
    untold = {n: values for n, values in episodes.numbers.items() if n != CONTROL + ERRORS}
    return look_together(replace(episodes, numbers=untold), answers).named


def n_false(scores: Scores, episodes: Episodes, seed: int) -> Metric:
    """Returns how many good releases were rolled back."""
    false = per_group(scores, episodes, scores.rolled_back & ~scores.bad)
    return ratio(false, np.full(len(false), 1.0 / len(false)), "no groups", seed)


def mean_delay(scores: Scores, episodes: Episodes, seed: int) -> Metric:
    """Returns the mean minutes until a bad release that is rolled back is."""
    caught = scores.bad & scores.rolled_back
    minutes = per_group(scores, episodes, np.where(caught, scores.delay_minutes, 0.0))
    return ratio(minutes, per_group(scores, episodes, caught), "no bad one is rolled back", seed)


def per_group(scores: Scores, episodes: Episodes, values: np.ndarray) -> np.ndarray:
    """Returns the sum over each group."""
    codes = episodes.group_codes()[scores.episode]
    return np.bincount(codes, values.astype(float), minlength=episodes.n_groups)


def until_it_parts(episodes: Episodes, answers: Answers) -> np.ndarray:
    """Returns the actions, with none after the recording has parted from what would have been."""
    actions, codes = answers.actions.copy(), episodes.group_codes()
    times = episodes.column("timestamp")[episodes.canary_rows]
    ends = end_of_rollouts(actions, episodes)
    gone = (episodes.labels == BAD) & (actions[ends] == Action.ROLLBACK)
    parts = np.full(episodes.n_groups, np.inf)
    np.minimum.at(parts, codes[gone], times[ends[gone]] + 60.0 * HOLD_LIMIT)
    actions[times >= np.repeat(parts[codes], episodes.canary_lengths)] = Action.CONTINUE
    return actions


def describe(result: Mapping[str, Any]) -> str:
    """Returns the figures as text."""
    lines = []
    for name, figures in result.items():
        lines.append(f"{name}: {figures['groups']} windows, {figures['good']} good releases")
        for part in (*NAMINGS, "alone", "together"):
            lines.append(f"  {part}")
            lines += [f"    {figure}: {told(value)}" for figure, value in figures[part].items()]
        for part in ("kept", "kept_before_it_parts"):
            lines.append(f"  share of false rollbacks {part}: {told(figures[part])}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
