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

"""Do the 95 % intervals of off-policy evaluation cover the truth in 95 % of logs?

A pool of generated releases, whose whole course is known, is the population: the target policy's
true mean reward on it is exact. Each draw takes groups of releases from the pool, lets a behaviour
policy (a soft error-rate rule that explores) decide on them, and estimates the target policy from
what that log shows. The target rolls back once a risk, fitted to other releases, passes what the
rewards ask for. Estimators from seen rewards get the labels of rolled-back releases, those from
completed releases do not.

    python tests/benchmarks/offpolicy_coverage.py --draws 1000
"""

import argparse
import contextlib
import dataclasses
import json

import numpy as np
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.offpolicy import log_decisions, soft_error_rule, value_features
from oumi_deploy.evaluation.offpolicy.estimate import (
    Estimates,
    estimates_from_completed,
    estimates_from_seen_rewards,
)
from oumi_deploy.evaluation.offpolicy.log import METRICS, read_log
from oumi_deploy.evaluation.scoring import score
from oumi_deploy.problem.encoder import StateEncoder, encode_episodes, fit_encoder
from oumi_deploy.problem.rewards import Rewards

STATE = ("error_rate", "error_rate.max", "error_rate.mean", "memory_usage", "cpu_usage", "steps")
REWARDS = Rewards()
CAUGHT_LATER = 60.0


def main() -> None:
    """Prints coverage, bias and width of each estimator."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=1000, help="logs (default 1000)")
    parser.add_argument("--releases", type=int, default=400, help="about so many a log")
    parser.add_argument("--pool", type=int, default=20_000, help="releases of the population")
    parser.add_argument("--seed", type=int, default=0, help="seed of all that is drawn")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result = measure(args.draws, args.releases, args.pool, args.seed)
    if args.json:
        print(json.dumps(result))
        return
    head = ("logs", "covered", "bias", "sd", "width", "bound", "eff. n")
    print(f"{'':52}" + "".join(f"{word:>10}" for word in head))
    for name, row in result.items():
        print(
            f"{name:52}{row['draws']:>8}{row['covered']:>10.1%}{row['bias']:>10.2f}{row['sd']:>10.2f}"
            f"{row['width']:>10.2f}{row['bound_holds']:>10.1%}{row['effective_n']:>10.0f}"
        )


def measure(draws: int, releases: int, pool_size: int, seed: int) -> dict[str, dict[str, float]]:
    """Returns how the estimates of each estimator and metric lie around the truth."""
    pool = with_target(generate_sample(pool_size, seed + 1), seed)
    groups = pool.group_codes()
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    truth = true_values(pool)
    n_drawn = round(releases * len(members) / pool_size)
    random = np.random.default_rng(seed)
    found: dict[str, list[tuple[float, ...]]] = {}
    for _ in tqdm(range(draws), unit="log"):
        drawn = random.integers(0, len(members), n_drawn)
        chosen = [members[g] for g in drawn]
        sample = pool.select(np.concatenate(chosen))
        # A group drawn twice is two groups of the population.
        names = np.repeat(np.arange(n_drawn).astype(str), [len(c) for c in chosen])
        sample = dataclasses.replace(sample, groups=names.astype(object))
        for family, estimates in estimated(sample, int(random.integers(2**31))).items():
            for metric in METRICS:
                for e in estimates[metric]:
                    row = (e.value, e.low, e.high, e.lower_bound, e.effective_n)
                    found.setdefault(f"{family} {e.name} {metric}", []).append(
                        tuple(np.nan if x is None else x for x in row)
                    )
    return {
        name: summary(np.array(rows), truth[name.rsplit(" ", 1)[1]]) for name, rows in found.items()
    }


def with_target(pool: Episodes, seed: int) -> Episodes:
    """Writes the target policy's Q-values into the pool, so that a cut log keeps them."""
    others = generate_sample(4000, seed + 1_000_003)
    encoder = fit_encoder(STATE, others)
    bad = np.repeat(others.labels == 1, others.canary_lengths)
    model = LogisticRegression(max_iter=1000).fit(inputs(encoder, others), bad)
    risk = np.full(pool.n_rows, np.nan)
    risk[pool.canary_rows] = model.predict_proba(inputs(encoder, pool))[:, 1]
    numbers = {
        name: pool.column(name) for name in ("error_rate", "canary_share", "planned_steps")
    } | {"risk": risk}
    return dataclasses.replace(pool, numbers=numbers, texts={})


def inputs(encoder: StateEncoder, episodes: Episodes) -> np.ndarray:
    return encoder.standardise(encode_episodes(encoder.state, episodes))


def target_q_values(episodes: Episodes) -> np.ndarray:
    """Q-values of a policy that trusts the risk, and that a bad release will be caught later.

    With the whole plan left, going on with a bad release is worth CAUGHT_LATER; at the end of it,
    what a missed rollback pays.
    """
    rows = episodes.canary_rows
    lengths = episodes.canary_lengths
    step = np.arange(len(rows)) - np.repeat(episodes.canary_offsets[:-1], lengths) + 1
    left = 1 - step / episodes.column("planned_steps")[rows]
    risk = episodes.column("risk")[rows]
    good, bad = REWARDS.table()
    missed = bad[0] + left * (CAUGHT_LATER - bad[0])
    go_on = (1 - risk) * good[0] + risk * missed
    return np.stack([go_on, (1 - risk) * good[1] + risk * bad[1]], axis=1)


def true_values(pool: Episodes) -> dict[str, float]:
    scores = score(pool, target_q_values(pool).argmax(axis=1), REWARDS)
    means = (scores.reward.mean(), scores.reward_with_delay.mean())
    return dict(zip(METRICS, map(float, means), strict=True))


def estimated(sample: Episodes, seed: int) -> dict[str, Estimates]:
    """Logs the behaviour policy's decisions once, and estimates with and without their labels."""
    chances = soft_error_rule(sample)
    found = {}
    for family, estimate, hidden in (
        ("seen rewards:", estimates_from_seen_rewards, False),
        ("completed:", estimates_from_completed, True),
    ):
        logged = log_decisions(sample, chances, seed, hide_labels=hidden)
        q_values = target_q_values(logged)
        log = read_log(logged, q_values.argmax(axis=1), REWARDS)
        # A log too thin to act on is refused; the table counts what was answered.
        with contextlib.suppress(DeployError):
            _, found[family] = estimate(log, value_features(q_values, logged), seed)
    return found


def summary(rows: np.ndarray, truth: float) -> dict[str, float]:
    value, low, high, bound, effective_n = rows.T
    return {
        "draws": len(rows),
        "truth": truth,
        "covered": float(((low <= truth) & (truth <= high)).mean()),
        "bias": float(value.mean() - truth),
        "sd": float(value.std()),
        "width": float((high - low).mean()),
        "bound_holds": float((bound <= truth).mean()),
        "effective_n": float(np.median(effective_n)),
    }


if __name__ == "__main__":
    main()
