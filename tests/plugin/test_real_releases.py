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

"""The policy that `fit` makes of the real releases, asked what anybody on call could answer."""

from pathlib import Path
from typing import Any

import pytest

from oumi_deploy.episodes.packed import read_episodes
from oumi_deploy.evaluation.vet.cases import PASSES
from oumi_deploy.evaluation.vet.vet import vet
from oumi_deploy.policy.policy import DeploymentPolicy

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data" / "changerca" / "episodes.parquet"


@pytest.fixture(scope="module")
def policy(oumi) -> DeploymentPolicy:
    from oumi_deploy.plugin.fit import fit
    from oumi_deploy.plugin.runs import load_train_config

    if not REAL.exists():
        pytest.skip("the real releases are not here")
    return fit(load_train_config(ROOT / "configs/releases/train.yaml"), read_episodes(REAL))


def well(**changes: Any) -> dict[str, Any]:
    """A healthy observation, with the old version beside it."""
    usual = {"error_rate": 0.004, "memory_usage": 0.5, "cpu_usage": 0.35}
    old = {f"control_{name}": value for name, value in usual.items()}
    return {**usual, **old, **changes}


BEFORE = [{"phase": "baseline", "error_rate": 0.004, "memory_usage": 0.5, "cpu_usage": 0.35}] * 8
ALONE = {"control_error_rate": None, "control_memory_usage": None, "control_cpu_usage": None}
NOTHING = dict.fromkeys(("error_rate", "memory_usage", "cpu_usage"))


def answers(policy: DeploymentPolicy, rows: list[dict[str, Any]]) -> list[str]:
    """The answers to each observation behind a healthy baseline."""
    rollout = policy.begin()
    for row in BEFORE:
        rollout.observe(row)
    said = []
    for row in rows:
        rollout.observe(row)
        said.append(rollout.decide().decision)
    return said


def test_it_passes_its_vet(policy):
    found = vet(policy)
    assert found.failed == ()
    assert sum(f.result == PASSES for f in found.findings) >= 9


@pytest.mark.parametrize("old", [{}, ALONE], ids=["beside the old version", "alone"])
def test_errors_that_stay_are_rolled_back(policy, old):
    assert "ROLLBACK" in answers(policy, [well(error_rate=1.0, **old)] * 2)
    assert "ROLLBACK" in answers(policy, [well(error_rate=0.2, **old)] * 3)


@pytest.mark.parametrize("early", [{}, ALONE], ids=["beside the old version", "alone"])
@pytest.mark.parametrize("late", [{}, ALONE], ids=["which stays", "which is gone"])
def test_errors_that_begin_late_are_rolled_back_and_stay_so(policy, early, late):
    """Gone is how the old version is once the new one has all the traffic."""
    old = {**early, **late}
    for rate in (0.2, 1.0):
        said = answers(policy, [well(**early)] * 9 + [well(error_rate=rate, **old)] * 6)
        assert said[:9] == ["CONTINUE"] * 9
        assert said[9] != "CONTINUE"
        assert said[11:] == ["ROLLBACK"] * 4


def test_more_errors_than_the_old_version_has_are_the_releases_doing(policy):
    for old, new in ((0.02, 0.3), (0.2, 0.6), (0.2, 1.0)):
        both = [well(error_rate=old, control_error_rate=old)] * 3
        more = [well(error_rate=new, control_error_rate=old)] * 3
        assert "CONTINUE" not in answers(policy, [*both, *more])[3:]
        assert "ROLLBACK" in answers(policy, more)
    # The old one heals, and the new one does not.
    healed = [well(error_rate=0.5, control_error_rate=0.5)] * 2 + [well(error_rate=0.5)] * 4
    assert "ROLLBACK" in answers(policy, healed)


def test_what_the_old_version_has_as_well_is_not_the_releases_doing(policy):
    both = [well(error_rate=0.4, control_error_rate=0.4)] * 8
    assert "ROLLBACK" not in answers(policy, both)
    silent = [well(error_rate=None, control_error_rate=None)] * 8
    assert "ROLLBACK" not in answers(policy, [well(), *silent])


def test_that_it_alone_reports_nothing_is(policy):
    assert "ROLLBACK" in answers(policy, [well(**NOTHING)] * 5)
    # Of which of the two nobody hears, nobody can say.
    assert set(answers(policy, [{**NOTHING, **ALONE}] * 8)) == {"PAUSE"}


def test_one_bad_observation_among_good_ones_is_waited_out(policy):
    said = answers(policy, [*[well()] * 5, well(error_rate=0.1), *[well()] * 5])
    assert "ROLLBACK" not in said
    assert said[-1] == "CONTINUE"
