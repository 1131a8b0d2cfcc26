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

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from oumi_deploy import DeploymentPolicy
from oumi_deploy.cli.main import main
from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.report.contents import report_contents
from oumi_deploy.evaluation.report.page import render
from oumi_deploy.evaluation.seen_groups import group_digests
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.encoder import fit_encoder
from oumi_deploy.problem.rewards import Rewards

HOSTILE = "<script>alert('pay & co')</script>"


@pytest.fixture
def releases(make_episodes) -> Episodes:
    """A bad release caught at its second observation, one missed, a good one, one disturbed."""
    return make_episodes(
        {"error_rate": [0.0, 0.5, 0.5], "label": "bad", "group": "a", "fault_type": "spike"},
        {"error_rate": [0.0, 0.1, 0.0], "label": "bad", "group": "b", "fault_type": "leak"},
        {"error_rate": [0.0, 0.1, 0.0], "label": "good", "group": "c", "service": HOSTILE},
        {"error_rate": [0.6, 0.1, 0.0], "label": "good", "group": "d", "service": HOSTILE},
    )


@pytest.fixture
def policy(releases) -> DeploymentPolicy:
    """Rolls back from an error rate of 0.4 on."""
    table = np.array([[20.0, -30.0], [-150.0, 80.0], [20.0, -30.0]])
    return DeploymentPolicy(
        fit_encoder(["error_rate"], releases),
        TableQ([np.array([0.4])], table, np.ones((3, 2))),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data={"fingerprint": "of others", "n_groups": 7},
        metrics={},
        calibration=Calibration(0.0, 1.0),
    )


def contents_of(policy: DeploymentPolicy, episodes: Episodes, **options) -> dict:
    return report_contents(policy, episodes, baselines=False, **options)


def test_the_contents_are_worked_by_hand(policy, releases):
    said = contents_of(policy, releases)
    assert said["judged_on"] == {
        **{"n_episodes": 4, "n_groups": 4, "n_good": 2, "n_bad": 2, "n_unlabelled": 0},
        **{"n_trained_on": 0, "all_seen": False},
    }
    assert said["false_alarms"]["share"]["value"] == 0.5
    assert said["false_alarms"]["smallest_alpha"] == 1 / 3
    assert (said["delay"]["unit"], said["delay"]["delays"]) == ("steps", [1.0])
    assert said["delay"]["share"] == [0.5]
    caught = {row["name"]: (row["caught"], row["n_bad"]) for row in said["by"]["fault_type"]}
    assert caught == {"spike": (1, 1), "leak": (0, 1)}
    # Missed: 100 against -200 less two waits of 2; disturbed: 50 against -50; late by one wait.
    assert [(w["episode_id"], w["loss"]) for w in said["worst"]] == [
        ("e1", 304.0),
        ("e3", 100.0),
        ("e0", 2.0),
    ]
    assert said["worst"][1]["answers"] == ["ROLLBACK"]
    assert "error_rate" in said["worst"][1]["explanation"]
    assert len(contents_of(policy, releases, n_worst=1)["worst"]) == 1
    json.dumps(said, allow_nan=False)


def test_groups_of_the_training_split_are_left_out_unless_there_are_no_others(policy, releases):
    some = group_digests(releases.select(np.array([0, 3])))
    said = contents_of(replace(policy, training_data={"group_digests": some}), releases)
    assert (said["judged_on"]["n_trained_on"], said["judged_on"]["n_episodes"]) == (2, 2)
    all_of_them = {"group_digests": group_digests(releases)}
    said = contents_of(replace(policy, training_data=all_of_them), releases)
    assert said["judged_on"]["n_episodes"] == 4
    assert any("trained on: flattering" in warning for warning in said["warnings"])


def test_it_warns_of_what_it_cannot_know(policy, releases):
    warnings = " ".join(contents_of(replace(policy, calibration=None), releases)["warnings"])
    assert "not calibrated" in warnings
    assert "4 groups" in warnings
    assert "fault_type leak: 1 bad releases are too few to say" in warnings


def test_without_labels_there_is_nothing_to_report(policy, releases):
    with pytest.raises(DeployError, match="nothing to report on"):
        contents_of(policy, replace(releases, labels=np.full(4, -1, dtype=np.int8)))


class Page(HTMLParser):
    """Notes the tags, and fails where one is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [str(v) for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "path", "circle", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("calibrated", [True, False])
def test_the_page_is_whole_needs_nothing_and_escapes_what_it_shows(policy, releases, calibrated):
    told = policy if calibrated else replace(policy, calibration=None)
    text = render(contents_of(told, releases))
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.seen
    assert page.links == []
    assert "&lt;script&gt;" in text
    assert {"svg", "table", "h2", "details"} <= page.seen


def test_the_command_writes_both_and_replaces_nothing(tmp_path, capsys, policy):
    episodes, file = tmp_path / "e.parquet", tmp_path / "p.json"
    assert main(["generate", "--count", "60", "--seed", "1", "--out", str(episodes)]) == 0
    policy.save(file)
    page, plain = tmp_path / "r.html", tmp_path / "r.json"
    arguments = ["report", "--policy", str(file), "--episodes", str(episodes), "--no-baselines"]
    arguments += ["--out", str(page), "--json", str(plain)]
    assert main(arguments) == 0
    assert json.loads(plain.read_text())["judged_on"]["n_episodes"] == 60
    assert page.read_text().startswith("<!doctype html>")
    assert main(arguments) == 2
    assert "r.html" in capsys.readouterr().err
