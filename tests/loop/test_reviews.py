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
"""What the labelled releases stand for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.schema import UNKNOWN
from oumi_deploy.loop.night import learn
from oumi_deploy.loop.releases import gather
from oumi_deploy.loop.reviews import (
    are_enough,
    review_shares,
    review_weights,
    standing_for_all,
    waiting_for_review,
)
from oumi_deploy.loop.settings import read_settings

KINDS = ("rolled back", "rolled back, reviewed", "went on", "went on, reviewed", "incident")


def new_releases(make_episodes, kinds) -> tuple[Episodes, set[str]]:
    """Returns releases of these kinds, and those that an incident told of."""
    rows = [
        {
            "error_rate": 0.5,
            "action": "ROLLBACK" if kind.startswith("rolled back") else None,
            "label": "bad" if "reviewed" in kind or kind == "incident" else None,
        }
        for kind in kinds
    ]
    return make_episodes(*rows), {f"e{i}" for i, kind in enumerate(kinds) if kind == "incident"}


@given(st.lists(st.sampled_from(KINDS), min_size=1))
def test_reviewed_releases_stand_for_all_of_their_kind_and_incidents_for_themselves(
    make_episodes, kinds
):
    new, incidents = new_releases(make_episodes, kinds)
    weights = review_weights(new, incidents)
    kinds = np.array(kinds)
    assert (weights[kinds == "incident"] == 1).all()
    repeated = standing_for_all(new, incidents).ids.tolist()
    for kind in ("rolled back", "went on"):
        unknown, reviewed = kinds == kind, kinds == f"{kind}, reviewed"
        assert (weights[unknown] == 0).all()
        if reviewed.any():
            n = (unknown | reviewed).sum()
            assert weights[reviewed].sum() == pytest.approx(n)
            # To calibrate on, they are as many as they stand for, and none twice before all once.
            times = [repeated.count(id) for id in new.ids[reviewed]]
            assert sum(times) == n
            assert max(times) - min(times) <= 1
    assert sorted(id for id in repeated if id in incidents) == sorted(incidents)


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_the_weighted_mean_is_that_of_all_releases_whoever_is_drawn_for_review(
    make_episodes, share
):
    """Incidents tell of half of what failed after it went on, whether or not it is reviewed."""
    random = np.random.default_rng(7)
    n, n_draws = 400, 2000
    bad, stopped = random.random(n) < 0.3, random.random(n) < 0.25
    incident = bad & ~stopped & (random.random(n) < 0.5)
    earned = np.where(bad, -200.0, 50.0) + random.normal(0, 20, n)
    actions = np.where(stopped, "ROLLBACK", "CONTINUE")
    all_of_them = make_episodes(*({"error_rate": 0.5, "action": action} for action in actions))
    incidents = set(all_of_them.ids[incident])

    means = np.empty(n_draws)
    for draw in range(n_draws):
        known = (random.random(n) < share) | incident
        labels = np.where(known, bad, UNKNOWN).astype(np.int8)
        weights = review_weights(replace(all_of_them, labels=labels), incidents)
        assert weights.sum() == pytest.approx(n)
        means[draw] = weights @ earned / weights.sum()
    # Four standard errors of the mean of the draws.
    within = 4 * means.std() / np.sqrt(n_draws)
    assert means.mean() == pytest.approx(earned.mean(), abs=within)


def test_incidents_do_not_make_up_for_reviews(make_episodes):
    kinds = ["incident"] * 30 + ["went on"] * 19 + ["went on, reviewed"]
    shares = review_shares(*new_releases(make_episodes, kinds))
    assert shares["completed"] == {"n_releases": 20, "n_labelled": 1, "share": 0.05}
    assert not are_enough(shares, 0.2)
    assert are_enough(shares, 0.05)
    # Where an incident told of all that went on, nothing is left to be reviewed.
    assert are_enough(review_shares(*new_releases(make_episodes, ["incident"] * 3)), 0.2)


def test_what_waits_for_a_review_is_listed(make_episodes):
    waiting = waiting_for_review(new_releases(make_episodes, KINDS)[0])
    assert waiting == {"rolled_back": ["e0"], "completed": ["e2"]}


def test_an_incident_is_told_by_its_source(loop, make_log, make_release, tmp_path):
    """Only by a listed one, only where it labels, and also where a review labels as well."""
    settings_file = loop.path / "loop.toml"
    plain = settings_file.read_text().replace('"pipeline"', '"pipeline", "cdevents"')

    def told_of(sources: str) -> set[str]:
        settings_file.write_text(plain + sources)
        (work := tmp_path / f"work {sources}").mkdir()
        return set(gather(read_settings(loop.path), log, 0.0, work).incidents)

    entries = []
    for number, labels in enumerate(
        [
            ["cdevents bad"],
            ["cdevents bad", "review good"],
            ["pipeline bad"],
            ["incident bad"],
            ["review bad"],
        ]
    ):
        entries += make_release(number, True, label=labels[0])
        entries += make_release(number, True, label=labels[-1])[1:] if labels[1:] else []
    entries += make_release(9, True, stops=True, label="cdevents bad")
    log = make_log(entries)
    names = {number: f"pay/production/group-{number // 3}/{number}" for number in range(10)}
    assert told_of("") == {names[0], names[1]}
    assert told_of('incident_sources = ["pipeline"]') == {names[2]}


def test_incidents_and_no_reviews_do_not_promote(
    loop, make_log, make_release, trains, policy_on, side
):
    """Of what went on incidents alone tell: all of it bad, and caught by the challenger."""
    settings_file = loop.path / "loop.toml"
    settings_file.write_text(settings_file.read_text().replace("pipeline", "incident"))
    trains(policy_on("memory_usage"))
    entries = []
    for number in range(240):
        bad = number % 3 == 0
        is_told = side(number) != "judge" or bad
        source = "incident" if bad else "review"
        label = f"{source} {'bad' if bad else 'good'}" if is_told else ""
        entries += make_release(number, bad, label=label)
    report = learn(loop, make_log(entries))
    assert report["outcome"] == "kept"
    assert "0 are labelled" in report["reason"]
    assert report["waiting_for_review"]["completed"]
