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

"""Kayenta's judge: its verdicts, cases of its unit tests, and what a rollout makes of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from oumi_deploy.evaluation.baselines import mann_whitney
from oumi_deploy.evaluation.baselines.canary_judge import (
    JudgeSettings,
    fit_default_judge,
    fit_judge,
    kayenta_judge,
)
from oumi_deploy.evaluation.baselines.fitting import Context
from oumi_deploy.evaluation.baselines.kayenta import (
    Effect,
    Verdict,
    classify,
    compare,
    score,
    without_outliers,
)
from oumi_deploy.problem.rewards import Rewards

NAN = float("nan")
CASES = Path(__file__).parent / "kayenta_judge" / "verdicts.jsonl"


def verdict(experiment, control, direction="either", effect=None, remove_outliers=False) -> str:
    found = compare(
        np.array([experiment], dtype=float),
        np.array([control], dtype=float),
        increase=direction != "decrease",
        decrease=direction != "increase",
        remove_outliers=remove_outliers,
    )
    return Verdict(classify(found, effect or Effect())[0]).name


def test_every_verdict_is_that_of_kayentas_own_code():
    cases = [json.loads(line) for line in CASES.read_text().splitlines()]
    assert len(cases) == 200
    differ = []
    for number, case in enumerate(cases):
        ours = verdict(
            [NAN if v is None else v for v in case["experiment"]],
            [NAN if v is None else v for v in case["control"]],
            case["direction"],
            Effect(case["measure"], case["allowed_increase"], case["allowed_decrease"]),
            case["remove_outliers"],
        )
        if ours != case["verdict"].upper():
            differ.append((number, ours, case["verdict"]))
    assert not differ


def test_the_interval_is_that_of_r_and_of_kayentas_unit_test():
    # MannWhitneySuite, "returns expected values": wilcox.test gives 6 to 39 around 22.5 at 95 %.
    pairs = mann_whitney.pair_up(np.array([[10.0, 20, 30, 40]]), np.array([[1.0, 2, 3, 4]]))
    quantile = float(norm.ppf(0.975))
    shifts = [mann_whitney.find_shift(pairs, q)[0] for q in (quantile, 0.0, -quantile)]
    assert shifts == pytest.approx([6.0, 22.5, 39.0])


@pytest.mark.parametrize(
    ("experiment", "control", "expected"),
    [
        # ClassifierSuite: tied observations, identical populations, leading zero, missing data,
        # majority tied, tied ranks, tied ranks with zeros.
        ([1, 1, 1], [1, 1], "PASS"),
        ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], "PASS"),
        ([0, 1, 1, 1, 1], [1, 1, 1, 1, 1], "PASS"),
        ([], [1, 2, 3, 4, 5], "NODATA"),
        ([1, 1, 1, 1, 10], [1, 1, 1, 1, 1], "PASS"),
        ([10, 10, 10, 10, 10], [1, 1, 1, 1, 1], "HIGH"),
        ([10, 10, 10, 10, 10], [0, 0, 0, 0, 0], "HIGH"),
        # Issue 780: the mean is 70 times higher.
        ([100] * 7 + [1] * 3, [1] * 10, "PASS"),
        ([NAN, NAN], [1, 2, 3], "NODATA"),
        ([7], [3], "ERROR"),
    ],
)
def test_known_cases(experiment, control, expected):
    assert verdict(experiment, control) == expected


def test_the_direction_says_which_side_fails():
    low, high = [1.0, 1.1, 1.2, 1.3, 1.4], [5.0, 5.1, 5.2, 5.3, 5.4]
    assert [verdict(high, low, d) for d in ("increase", "decrease")] == ["HIGH", "PASS"]
    assert [verdict(low, high, d) for d in ("increase", "decrease")] == ["PASS", "LOW"]


def test_an_effect_that_is_too_small_passes():
    old, new = [10.0, 10.1, 10.2, 10.3, 10.4], [11.0, 11.1, 11.2, 11.3, 11.4]
    assert verdict(new, old) == "HIGH"
    # The means are 11.2 and 10.2: 1.098 times as high. Every value is higher.
    assert verdict(new, old, effect=Effect("meanRatio", 1.09, 1)) == "HIGH"
    assert verdict(new, old, effect=Effect("meanRatio", 1.1, 1)) == "PASS"
    assert verdict(new, old, effect=Effect("cles", 1.0, 0)) == "HIGH"


def test_an_outlier_lies_beyond_the_fences_and_the_outer_percentiles():
    # Eleven values, ten of them 1: both quartiles are 1, the 99th percentile 1 + 0.9 * 19 = 18.1.
    kept = without_outliers(np.array([[1.0] * 10 + [20.0], [1.0] * 10 + [NAN], [NAN] * 11]))
    assert np.isnan(kept[0]).sum() == 1
    assert np.isnan(kept[0, -1])
    assert np.isnan(kept[1:]).sum() == 12


values = st.lists(st.integers(0, 30).map(float), min_size=1, max_size=12)
varied = values.filter(lambda sample: len(set(sample)) > 1)


@given(varied, varied, st.integers(-3, 3))
def test_the_test_is_that_of_scipy(experiment, control, shift):
    pairs = mann_whitney.pair_up(np.array([experiment]), np.array([control]))
    z = mann_whitney.statistic(pairs, np.array([float(shift)]))[0]
    theirs = mannwhitneyu(np.array(experiment) - shift, control, method="asymptotic")
    assert 2 * norm.sf(abs(z)) == pytest.approx(theirs.pvalue)


@given(values, values, st.integers(0, 5))
def test_a_missing_value_is_no_value(experiment, control, gaps):
    padded = [NAN] * gaps + experiment + [NAN]
    assert verdict(padded, [*control, NAN]) == verdict(experiment, control)


def test_the_score_is_the_share_that_passes_of_what_was_judged():
    p, h, low, n, e = Verdict.PASS, Verdict.HIGH, Verdict.LOW, Verdict.NODATA, Verdict.ERROR
    verdicts = np.array([[p, h, low], [p, p, n], [p, n, n], [p, e, h], [e, e, e], [n, n, n]])
    # Two of three without data is half or more; errors are neither judged nor without data.
    assert score(verdicts).tolist() == [33.33, 100, 0, 50, 100, 0]


@pytest.fixture
def release(make_episodes):
    """Errors rise at the third canary row; the control reports from the second one on."""
    return make_episodes(
        {
            "phase": ["baseline"] * 4 + ["canary"] * 6,
            "error_rate": [0.3, 0.31, 0.32, 0.33, 0.31, 0.32, 0.9, 0.91, 0.92, 0.93],
            "control_error_rate": [NAN] * 5 + [0.31, 0.32, 0.33, 0.34, 0.32],
            "label": "bad",
        }
    )


def test_the_judge_compares_with_the_control_so_far_or_else_with_the_baseline(release):
    settings = JudgeSettings(("error_rate",))
    actions = kayenta_judge(release, settings)
    seen, old = [0.31, 0.32, 0.9, 0.91, 0.92, 0.93], [0.31, 0.32, 0.33, 0.34, 0.32]
    controls = [[0.3, 0.31, 0.32, 0.33], *(old[:n] for n in range(1, 6))]
    expected = [verdict(seen[: t + 1], controls[t], "increase") == "HIGH" for t in range(6)]
    assert actions.tolist() == [int(high) for high in expected]
    assert kayenta_judge(release, JudgeSettings(("error_rate",), warm_up=5)).tolist()[:5] == [0] * 5


def test_a_metric_without_data_on_either_side_is_a_score_of_zero(make_episodes):
    silent = make_episodes({"error_rate": [NAN, NAN, 0.1], "label": "bad"})
    assert kayenta_judge(silent, JudgeSettings(("error_rate",))).tolist() == [1, 1, 1]
    assert kayenta_judge(silent, JudgeSettings(())).tolist() == [0, 0, 0]


def test_low_health_fails_and_high_health_does_not(make_episodes):
    def of(health):
        row = {"phase": ["baseline"] * 6 + ["canary"] * 6, "label": "bad"}
        return make_episodes({**row, "health_score": [0.9, 0.91, 0.92] * 2 + health})

    rule = fit_default_judge(of([0.9] * 6), Context(Rewards(), ()))
    assert rule(of([0.1, 0.11, 0.12] * 2))[-1] == 1
    assert rule(of([0.99, 0.98, 0.97] * 2))[-1] == 0


def test_a_fitted_judge_keeps_good_releases_that_differ_a_little(make_episodes):
    """The defaults roll back every release with 5 % more memory; only errors tell here."""
    random = np.random.default_rng(0)

    def one(bad):
        memory = np.r_[random.normal(0.5, 0.001, 10), random.normal(0.525, 0.001, 10)]
        errors = np.r_[random.normal(0.1, 0.01, 10), random.normal(0.3 if bad else 0.1, 0.01, 10)]
        return {
            "phase": ["baseline"] * 10 + ["canary"] * 10,
            "memory_usage": memory.tolist(),
            "error_rate": errors.clip(0, 1).tolist(),
            "label": "bad" if bad else "good",
        }

    releases = make_episodes(*(one(bad) for bad in (True, False) * 10))
    context = Context(Rewards(), ())
    ends = [
        np.maximum.reduceat(fit(releases, context)(releases), releases.canary_offsets[:-1])
        for fit in (fit_default_judge, fit_judge)
    ]
    assert ends[1].tolist() == [1, 0] * 10
    assert ends[0].sum() > ends[1].sum()
