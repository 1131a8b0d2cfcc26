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

"""The sequential test: its evidence by independent computation, and its level by simulation."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.baselines.evidence import (
    RATE_RATIOS,
    count_evidence,
    mean_evidence,
    running_sum,
)
from oumi_deploy.evaluation.baselines.fitting import Context
from oumi_deploy.evaluation.baselines.sequential import (
    Spread,
    fit_default_test,
    fit_test,
    sequential_test,
    spreads_of,
)
from oumi_deploy.problem.rewards import Rewards

NAN = float("nan")
ALPHA = 0.05
N_SEQUENCES, LENGTH = 2000, 200
# Two standard errors of a share of ALPHA among so many sequences.
SLACK = 2 * np.sqrt(ALPHA * (1 - ALPHA) / N_SEQUENCES)


def evidence(errors: Sequence[float], **columns: Sequence[float]) -> np.ndarray:
    """The log evidence of one release; a column that is not given is missing."""

    def column(name: str) -> np.ndarray:
        return np.array(columns.get(name, [NAN] * len(errors)), dtype=float)

    return count_evidence(
        np.array(errors, dtype=float),
        column("requests"),
        column("control_errors"),
        column("control_requests"),
        column("old_rate"),
        np.array([0]),
    )


def test_evidence_about_a_mean_is_the_integral_over_the_mixture():
    score, information, effect = 3.0, 4.0, 0.7

    def ratio(shift):
        prior = 2 * norm.pdf(shift, scale=effect)
        return prior * np.exp(score * shift - information * shift**2 / 2)

    found = mean_evidence(np.array([score]), np.array([information]), effect)
    assert np.exp(found[0]) == pytest.approx(quad(ratio, 0, 20)[0])


def test_evidence_from_counts_is_the_mean_of_binomial_likelihood_ratios():
    found = evidence(
        errors=[4, 2], requests=[100, 100], control_errors=[1, 1], control_requests=[300, 100]
    )
    # Of 5 errors 4 are the new version's, which has a quarter of the requests; then 2 of 3, a half.
    by_hand = []
    for ratio in RATE_RATIOS:
        share_1, share_2 = ratio / (ratio + 3), ratio / (ratio + 1)
        first = (share_1 / 0.25) ** 4 * ((1 - share_1) / 0.75)
        by_hand.append((first, first * (share_2 / 0.5) ** 2 * ((1 - share_2) / 0.5)))
    assert np.exp(found) == pytest.approx(np.mean(by_hand, axis=0))


def test_evidence_without_control_is_against_the_old_rate():
    found = evidence(errors=[6], requests=[100], old_rate=[0.02])
    by_hand = [ratio**6 * np.exp(-100 * 0.02 * (ratio - 1)) for ratio in RATE_RATIOS]
    assert np.exp(found[0]) == pytest.approx(np.mean(by_hand))


def test_a_missing_interval_adds_no_evidence():
    counted = {"requests": [9] * 3, "control_errors": [1] * 3, "control_requests": [9] * 3}
    full, gapped = (evidence(errors=e, **counted) for e in ([3, 3, 3], [3, NAN, 3]))
    assert gapped.tolist() == pytest.approx([full[0], full[0], full[1]])


def test_sums_start_again_with_each_release():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert running_sum(values, np.array([0, 3])).tolist() == [1, 3, 6, 4]


def ever_rolled_back(episodes, spreads) -> float:
    actions = sequential_test(episodes, spreads, ALPHA)
    return float(np.maximum.reduceat(actions, episodes.canary_offsets[:-1]).mean())


def sequences(n_baseline: int, **columns: np.ndarray) -> Episodes:
    """Episodes built from arrays of shape (N_SEQUENCES, n), far faster than from a table."""
    length = LENGTH + n_baseline
    return Episodes(
        ids=np.arange(N_SEQUENCES).astype(object),
        groups=np.full(N_SEQUENCES, None),
        labels=np.zeros(N_SEQUENCES, dtype=np.int8),
        rolled_back=np.zeros(N_SEQUENCES, dtype=bool),
        offsets=np.arange(N_SEQUENCES + 1) * length,
        baseline_lengths=np.full(N_SEQUENCES, n_baseline),
        numbers={name: v.ravel() for name, v in columns.items()},
    )


def test_equal_rates_that_drift_are_rolled_back_at_most_as_often_as_the_level_says():
    random = np.random.default_rng(1)
    shape = N_SEQUENCES, LENGTH
    rate = random.uniform(0.01, 0.3, shape)
    share = random.choice([0.1, 0.3, 0.5], shape)
    requests, others = np.full(shape, 100), np.rint(100 * (1 - share) / share).astype(int)
    columns = {
        "n_baseline": 0,
        "error_rate": random.binomial(requests, rate) / requests,
        "control_error_rate": random.binomial(others, rate) / others,
        "requests": requests.astype(float),
        "control_requests": others.astype(float),
    }
    spreads = {"error_rate": Spread(1.0, 1.0)}
    assert 0 < ever_rolled_back(sequences(**columns), spreads) <= ALPHA + SLACK


def test_a_rate_equal_to_the_baselines_is_rolled_back_at_most_as_often_as_the_level_says():
    random = np.random.default_rng(2)
    n_baseline = 8
    requests = np.full((N_SEQUENCES, LENGTH + n_baseline), 200)
    columns = {
        "n_baseline": n_baseline,
        "error_rate": random.poisson(requests * 0.02) / requests,
        "requests": requests.astype(float),
    }
    spreads = {"error_rate": Spread(1.0, 1.0)}
    assert ever_rolled_back(sequences(**columns), spreads) <= ALPHA + SLACK


@pytest.mark.parametrize("control_for", [0, LENGTH // 2, LENGTH])
def test_equal_means_are_rolled_back_at_most_as_often_as_the_level_says(control_for):
    """Against the baseline, the control, and the one after the other."""
    random = np.random.default_rng(3)
    n_baseline = 6
    shape = N_SEQUENCES, LENGTH + n_baseline
    control = random.normal(0.2, 0.05, shape)
    control[:, :n_baseline] = NAN
    control[:, n_baseline + control_for :] = NAN
    columns = {
        "n_baseline": n_baseline,
        "latency": random.normal(0.2, 0.05, shape),
        "control_latency": control,
    }
    # A difference of two independent values spreads more than one of them.
    spreads = {"latency": Spread(0.05 * np.sqrt(2), 0.05)}
    assert 0 < ever_rolled_back(sequences(**columns), spreads) <= ALPHA + SLACK


def test_worse_releases_are_rolled_back_and_better_ones_never(make_episodes):
    def of(level):
        phases = {"phase": ["baseline"] * 3 + ["canary"] * 20, "label": "bad"}
        return make_episodes({**phases, "latency": [0.1, 0.11, 0.09] + [level, level + 0.01] * 10})

    spreads = {"latency": Spread(0.02, 0.02)}
    assert sequential_test(of(0.2), spreads).max() == 1
    assert sequential_test(of(0.01), spreads).max() == 0
    health = {"health_score": Spread(0.02, 0.02)}
    low = make_episodes(
        {
            "phase": ["baseline"] * 3 + ["canary"] * 20,
            "health_score": [0.9, 0.91, 0.89] + [0.5, 0.51] * 10,
            "label": "bad",
        }
    )
    assert sequential_test(low, health).max() == 1


def test_a_release_that_reports_nothing_is_never_rolled_back(make_episodes):
    silent = make_episodes({"error_rate": [NAN] * 10, "requests": [NAN] * 10, "label": "bad"})
    assert sequential_test(silent, {"error_rate": Spread(0.1, 0.1)}).tolist() == [0] * 10


def test_spreads_are_those_of_good_releases(make_episodes):
    releases = make_episodes(
        {
            "phase": ["baseline", "baseline", "canary", "canary"],
            "error_rate": [0.1, 0.3, 0.5, 0.2],
            "control_error_rate": [NAN, NAN, 0.1, 0.5],
            "label": "good",
        },
        {"error_rate": [0.9, 0.9], "control_error_rate": [0.0, 0.0], "label": "bad"},
    )
    # Differences of 0.4 and -0.3 from the control; of 0.3 and 0 from the baseline's mean.
    spread = spreads_of(releases)["error_rate"]
    assert spread.control == pytest.approx(np.sqrt((0.16 + 0.09) / 2))
    assert spread.baseline == pytest.approx(np.sqrt(0.09 / 2))


def test_a_fitted_test_looks_at_what_tells(make_episodes):
    def one(bad):
        cpu = [0.2, 0.21] + [0.9 if bad else 0.2, 0.91 if bad else 0.21] * 4
        return {
            "phase": ["baseline"] * 2 + ["canary"] * 8,
            "error_rate": [0.01, 0.02] * 5,
            "cpu_usage": cpu,
            "label": "bad" if bad else "good",
        }

    releases = make_episodes(*(one(bad) for bad in (True, False) * 5))
    context = Context(Rewards(), ())
    assert fit_default_test(releases, context)(releases).max() == 0
    actions = fit_test(releases, context)(releases)
    ends = np.maximum.reduceat(actions, releases.canary_offsets[:-1])
    assert ends.tolist() == [1, 0] * 5
