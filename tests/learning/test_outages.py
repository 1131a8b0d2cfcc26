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

"""Outages that are made from good releases."""

from dataclasses import replace

import numpy as np
import pytest

from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.episodes.schema import BAD, GOOD
from oumi_deploy.errors import DeployError
from oumi_deploy.learning.lookalikes import LOOKALIKES, lookalikes_of
from oumi_deploy.learning.outages import outages_of

METRICS = ["error_rate", "memory_usage", "cpu_usage", "health_score"]


@pytest.fixture(scope="module")
def episodes():
    return generate_sample(400, 5)


def test_outages_are_bad_and_the_same_for_the_same_seed(episodes):
    before = episodes.fingerprint()
    outages = outages_of(episodes, METRICS, 0.25, 1)
    assert len(outages) == 100
    assert (outages.labels == BAD).all()
    assert episodes.fingerprint() == before
    assert outages_of(episodes, METRICS, 0.25, 1).fingerprint() == outages.fingerprint()
    assert outages_of(episodes, METRICS, 0.25, 2).fingerprint() != outages.fingerprint()


@pytest.mark.parametrize("late", [False, True])
def test_one_thing_fails_and_stays_and_all_else_is_as_a_good_release_had_it(episodes, late):
    outages = outages_of(episodes, METRICS, 0.5, 3, late=late)
    good = {id_: i for i, id_ in enumerate(episodes.ids) if episodes.labels[i] == GOOD}
    usual = np.nanmedian(episodes.column("error_rate"))
    seen = set()
    for at in range(len(outages)):
        outage = outages.select(np.array([at]))
        original = episodes.select(np.array([good[outage.ids[0].split(" of ")[1]]]))
        failing, is_late, lost = [], False, set()
        for name, values in outage.numbers.items():
            had = original.numbers[name]
            if name.startswith("control_"):
                if (np.isnan(values) & ~np.isnan(had)).any():
                    lost.add(name.removeprefix("control_"))
                moved = (values != had) & ~np.isnan(values)
                # It fails as much as the new version, until it is gone.
                new = outage.numbers[name.removeprefix("control_")]
                assert (values[moved] == new[-1]).all()
                assert not moved.any() or (late and name == "control_error_rate")
                continue
            moved = ~((values == had) | np.isnan(values))
            if not moved.any():
                continue
            failing.append(name)
            begin = outage.baseline_lengths[0]
            onset = np.flatnonzero(moved)[0]
            assert onset >= begin
            is_late |= bool(onset > begin)
            assert len(np.unique(values[onset:])) == 1
            level = values[-1]
            assert {
                "error_rate": max(10 * usual, 0.05) <= level <= max(100 * usual, 0.5),
                "health_score": 0 <= level <= 0.4,
                "memory_usage": 0.97 <= level <= 1.1,
                "cpu_usage": 0.98 <= level <= 2,
            }[name], (name, level)
        gone = "part" if lost and lost <= set(failing) else "all" if lost else "none"
        seen.add((*sorted(failing), is_late, gone))
    both = ("error_rate", "health_score")
    at_once = {(*names, False, "none") for names in (*((m,) for m in METRICS), both)}
    if not late:
        assert seen == at_once
        return
    assert at_once <= seen
    assert ("error_rate", True, "none") in seen
    for gone in ("part", "all"):
        assert {(m, True, gone) for m in ("error_rate", "memory_usage", "cpu_usage")} <= seen
        assert (*both, True, gone) in seen


def test_without_health_errors_come_late_too_and_with_more_or_less_of_the_old_version(episodes):
    outages = outages_of(episodes, ["error_rate"], 0.6, 3)
    good = {id_: i for i, id_ in enumerate(episodes.ids) if episodes.labels[i] == GOOD}
    seen = [set() for _ in range(6)]
    for at in range(240):
        outage = outages.select(np.array([at]))
        original = episodes.select(np.array([good[outage.ids[0].split(" of ")[1]]]))
        errors, begin = outage.numbers["error_rate"], outage.baseline_lengths[0]
        moved = (errors != original.numbers["error_rate"]) & ~np.isnan(errors)
        onset = np.flatnonzero(moved)[0]
        # From there on it fails to the end, and nothing else changes but the old version.
        assert len(set(errors[onset:])) == 1
        assert onset >= begin
        old, had = outage.numbers["control_error_rate"], original.numbers["control_error_rate"]
        changed = np.flatnonzero(~((old == had) | (np.isnan(old) & np.isnan(had))))
        kind = "beside"
        if len(changed) and np.isnan(old[changed]).all():
            kind = "gone" if changed[0] >= onset > begin else "never"
            assert np.isnan(old[onset:]).all()
        elif len(changed):
            kind = "fails"
            assert (old[changed] <= errors[onset] / 2).all()
            assert changed[0] >= begin
        seen[at % 6].add((kind, bool(onset > begin)))
    # Here and there the release had no old version beside it, or fails from the first look on.
    wanted = [("beside", False), ("never", False), ("fails", False)]
    wanted += [("beside", True), ("gone", True), ("fails", True)]
    for number, (kind, late) in enumerate(wanted):
        assert (kind, late) in seen[number]
        assert seen[number] <= {(k, x) for k in ("beside", kind, "never") for x in (False, late)}


def test_fewer_outages_than_ways_to_fail_are_the_first_of_them(episodes):
    outages = outages_of(episodes, METRICS, 0.005, 3)
    assert len(outages) == 2
    one, two = (outages.select(np.array([at])) for at in (0, 1))
    assert one.numbers["error_rate"][-1] >= 0.05
    assert two.numbers["health_score"][-1] <= 0.4


def test_only_what_is_in_the_state_fails(episodes):
    copies = outages_of(episodes, ["cpu_usage", "latency"], 0.1, 0)
    assert len(copies) == 40
    assert (copies.numbers["cpu_usage"][copies.offsets[1:] - 1] >= 0.98).all()
    assert np.nanmax(copies.numbers["error_rate"]) < 0.5


@pytest.mark.parametrize(
    ("metrics", "share"), [(["latency"], 0.5), (METRICS, 0.0), (METRICS, 1e-4)]
)
def test_without_anything_to_fail_there_are_none(episodes, metrics, share: float):
    assert not len(outages_of(episodes, metrics, share, 0))
    assert not len(lookalikes_of(episodes, metrics, dict.fromkeys(list(LOOKALIKES), share), 0))


def lookalikes(episodes, kind, share=0.15, seed=1):
    """What is made, each with the good release that it is made from."""
    good = {id_: i for i, id_ in enumerate(episodes.ids) if episodes.labels[i] == GOOD}
    made = lookalikes_of(episodes, METRICS, {kind: share}, seed)
    pairs = []
    for at in range(len(made)):
        one = made.select(np.array([at]))
        original = one.ids[0].split(" of ")[1]
        pairs.append((one, episodes.select(np.array([good[original]]))))
    return pairs


def test_lookalikes_are_good_and_as_many_as_asked(episodes):
    before = episodes.fingerprint()
    shares = {"spike": 0.15, "unchanged_level": 0.1, "shared_failure": 0.05}
    made = lookalikes_of(episodes, METRICS, shares, 1)
    assert len(made) == 60 + 40 + 20
    assert (made.labels == GOOD).all()
    assert episodes.fingerprint() == before
    # The order in which a config names them changes nothing.
    again = lookalikes_of(episodes, METRICS, dict(reversed(shares.items())), 1)
    assert again.fingerprint() == made.fingerprint()
    assert lookalikes_of(episodes, METRICS, shares, 2).fingerprint() != made.fingerprint()


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"spikes": 0.1}, "lookalikes: unknown spikes: did you mean spike"),
        ({"spike": -0.1}, "lookalikes.spike: -0.1 is not 0 or more"),
        ({"spike": True}, "lookalikes.spike: True is not 0 or more"),
        ({"spike": float("inf")}, "lookalikes.spike: inf is not 0 or more"),
    ],
)
def test_a_kind_or_share_that_is_none_is_named(episodes, shares, message):
    with pytest.raises(DeployError, match=message):
        lookalikes_of(episodes, METRICS, shares, 0)


def test_a_spike_is_one_observation_between_the_first_and_the_last(episodes):
    usual = np.nanmedian(episodes.column("error_rate"))
    n_spikes, n_alone = 0, 0
    for one, original in lookalikes(episodes, "spike"):
        old = [name for name in one.numbers if name.startswith("control_")]
        canary = slice(one.baseline_lengths[0], None)
        alone = all(np.isnan(one.numbers[name][canary]).all() for name in old)
        n_alone += alone
        for name, values in one.numbers.items():
            if alone and name in old:
                continue
            moved = np.flatnonzero(
                ~((values == original.numbers[name]) | np.isnan(original.numbers[name]))
            )
            assert len(moved) <= (name == "error_rate")
            for row in moved:
                n_spikes += 1
                assert one.baseline_lengths[0] < row < len(values) - 1
                assert max(10 * usual, 0.05) <= values[row] <= 1
    assert n_spikes > 50  # not where the observation had no value
    assert 30 <= n_alone < 45  # every second one, and where nothing was known before


def test_what_both_versions_have_is_in_both_from_one_look_on(episodes):
    made = [*lookalikes(episodes, "shared_failure"), *lookalikes(episodes, "shared_silence")]
    for one, original in made:
        changed = set()
        for name, values in one.numbers.items():
            old = original.numbers[name]
            moved = ~((values == old) | (np.isnan(values) & np.isnan(old)))
            if not moved.any():
                continue
            changed.add(name)
            first = np.flatnonzero(moved)[0]
            assert one.baseline_lengths[0] <= first
            known = ~np.isnan(old[first:])
            assert moved[first:][known].all()
            # Missing values stay missing, and what fell silent stays silent.
            new = values[first:][known]
            assert np.isnan(new).all() if "silence" in one.ids[0] else (new > 0.02).all()
        assert changed == {"error_rate", "control_error_rate"}


def test_without_the_old_versions_errors_nothing_is_shared(episodes):
    alone = replace(
        episodes,
        numbers={k: v for k, v in episodes.numbers.items() if k != "control_error_rate"},
    )
    shares = {"spike": 0.1, "shared_failure": 0.1, "shared_silence": 0.1}
    made = lookalikes_of(alone, METRICS, shares, 1)
    assert len(made) == 40
    assert all(id_.startswith("spike") for id_ in made.ids)


def test_an_unchanged_level_is_bad_in_both_versions_and_from_before(episodes):
    seen = set()
    for one, original in lookalikes(episodes, "unchanged_level"):
        metric = one.ids[0].split(" ")[1]
        seen.add(metric)
        changed = {
            name
            for name, values in one.numbers.items()
            if not np.array_equal(values, original.numbers[name], equal_nan=True)
        }
        pair = [metric, f"control_{metric}"]
        assert changed <= set(pair)
        worst = np.nanmin if metric == "health_score" else np.nanmax
        level = worst([one.numbers[name] for name in pair])
        if not changed:  # it stood worse already
            continue
        if metric == "health_score":
            assert 0.5 <= level <= 0.95
            continue
        assert 0.5 <= level <= 0.95
        # All moved alike: what differed differs as before.
        moves = np.concatenate([one.numbers[name] - original.numbers[name] for name in pair])
        moves = moves[~np.isnan(moves)]
        np.testing.assert_allclose(moves, moves[0])
    assert seen == {"memory_usage", "cpu_usage", "health_score"}


def test_a_warm_up_comes_from_below_to_the_old_versions_memory(episodes):
    for one, original in lookalikes(episodes, "warm_up"):
        changed = {
            name
            for name, values in one.numbers.items()
            if not np.array_equal(values, original.numbers[name], equal_nan=True)
        }
        assert changed == {"memory_usage"}
        share = one.numbers["memory_usage"] / one.numbers["control_memory_usage"]
        old = original.numbers["memory_usage"]
        moved = (one.numbers["memory_usage"] != old) & ~np.isnan(old) & ~np.isnan(share)
        share = share[moved]
        assert (np.diff(share) > 0).all()
        assert 0.2 <= share[0] < share[-1] < 1
        assert np.flatnonzero(moved)[0] >= one.baseline_lengths[0]


def test_a_promotion_takes_the_old_version_away_and_nothing_else(episodes):
    lost = set()
    for one, original in lookalikes(episodes, "promotion"):
        gone = set()
        for name, values in one.numbers.items():
            had = original.numbers[name]
            changed = ~((values == had) | (np.isnan(values) & np.isnan(had)))
            assert np.isnan(values[changed]).all()
            if changed.any():
                assert name.startswith("control_")
                first = np.flatnonzero(changed)[0]
                assert np.isnan(values[first:]).all()
                gone.add(name)
        lost.add(len(gone))
    # All of it, or as where it has no traffic left its errors alone.
    assert {1, max(lost)} <= lost
    assert max(lost) > 3
