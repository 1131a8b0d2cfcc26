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
from oumi_deploy.evaluation.report.charts import chart
from oumi_deploy.evaluation.report.contents import report_contents
from oumi_deploy.evaluation.report.page import render
from oumi_deploy.evaluation.seen_groups import group_digests
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import PauseRules
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
        training_data={"fingerprint": "of others", "n_groups": 7, "group_digests": []},
        metrics={},
        calibration=Calibration(0.0, 1.0),
    )


def contents_of(policy: DeploymentPolicy, episodes: Episodes, **options) -> dict:
    return report_contents(policy, episodes, baselines=False, **options)


def test_the_contents_are_worked_by_hand(policy, releases):
    said = contents_of(policy, releases)
    assert said["judged_on"] == {
        **{"n_episodes": 4, "n_groups": 4, "n_good": 2, "n_bad": 2, "n_held": 0},
        **{"n_unlabelled": 0, "n_censored": 0, "n_in_file": 4, "n_trained_on": 0},
        **{"all_seen": False, "knows_groups": True, "calibrated_on_them": False},
    }
    delay = {"unit": "steps", "delays": [1.0], "n": [1], "share": [0.5], "median": 1.0}
    assert said["delay"] == {**delay, "n_bad": 2, "n_caught": 1, "n_held": 0}
    assert said["watches"] == {"n_scored": 4, "n_share_rose": 0}
    assert said["coverage"]["own"] == {"share": 1.0, "error": 0.5}
    # Q(ROLLBACK) of -30 and 80, on a scale of -50 to 100: a belief of 2/15, and of 13/15.
    assert said["comparison"]["rows"][0]["metrics"]["recall"]["value"] == 0.5
    counts = said["reliability"]["histogram"]
    assert [i for i, n in enumerate(counts["good"]) if n] == [2, 17]
    assert [i for i, n in enumerate(counts["bad"]) if n] == [2, 17]
    json.dumps(said, allow_nan=False)


def test_results_are_told_apart_by_fault_type(policy, releases):
    rows = {row["name"]: row for row in contents_of(policy, releases)["by"]["fault_type"]}
    spike = {"n": 1, "n_bad": 1, "caught": 1, "n_good": 0, "disturbed": 0, "median_delay": 1.0}
    spike |= {"bad_held": 0, "good_held": 0}
    assert rows["spike"] == {
        **{"name": "spike", "mean_reward": 100.0, "mean_reward_with_delay": 98.0},
        **spike,
    }
    assert (rows["leak"]["caught"], rows["leak"]["median_delay"]) == (0, None)
    assert (rows[None]["n_good"], rows[None]["disturbed"]) == (2, 1)
    assert rows[None]["mean_reward"] == (50.0 - 50.0) / 2


def test_the_worst_decisions_come_by_kind_and_then_by_loss(policy, releases):
    worst = contents_of(policy, releases)["worst"]
    # Missed: 100 against -200 less two waits of 2; disturbed: 50 against -50; late by one wait.
    assert [(w["episode_id"], w["kind"], w["loss"]) for w in worst] == [
        ("e1", "missed", 304.0),
        ("e3", "needless", 100.0),
        ("e0", "late", 2.0),
    ]
    assert [w["at"] for w in worst] == [2, 0, 1]
    assert worst[2]["answers"] == ["CONTINUE", "ROLLBACK"]
    assert worst[2]["q_difference"] == [-50.0, 230.0]
    assert worst[2]["risk"] == pytest.approx([2 / 15, 13 / 15], abs=1e-3)
    assert all(w["explanation"].startswith(w["answers"][-1] + ":") for w in worst)
    assert len(contents_of(policy, releases, n_worst=1)["worst"]) == 1
    with pytest.raises(DeployError, match="worst"):
        contents_of(policy, releases, n_worst=-1)


def test_a_timeline_has_the_baseline_and_the_old_version_in_minutes(policy, make_episodes):
    releases = make_episodes(
        {
            "error_rate": [0.0, 0.1, None, 0.2],
            "control_error_rate": [None, 0.05, 0.06, 0.07],
            "timestamp": [0, 60, 120, 240],
            "phase": ["baseline", "canary", "canary", "canary"],
            "label": "bad",
        }
    )
    (case,) = contents_of(policy, releases)["worst"]
    assert (case["unit"], case["n_baseline"], case["at"]) == ("minutes", 1, 2)
    assert case["times"] == [-1.0, 0.0, 1.0, 3.0]
    assert case["metrics"] == {"error_rate": [0.0, 0.1, None, 0.2]}
    assert case["old_version"] == {"error_rate": [None, 0.05, 0.06, 0.07]}


def test_false_alarms_are_told_by_group_and_by_release(policy, make_episodes):
    bad = {"error_rate": [0.5], "label": "bad", "group": "z"}
    good = {"error_rate": [0.1], "label": "good", "group": "a"}
    disturbed = {"error_rate": [0.6], "label": "good", "group": "b"}
    said = contents_of(policy, make_episodes(bad, good, good, good, disturbed))["false_alarms"]
    assert (said["alpha"], said["n_groups"]) == (None, 2)
    assert said["share"]["value"] == 0.5
    assert said["share_of_releases"]["value"] == 0.25
    assert said["share_by_fallback"]["value"] == 0.0
    # n groups support 1/(n + 1): 0.05 takes 19.
    assert {s["alpha"]: s["n_groups"] for s in said["supported"]}[0.05] == 19
    assert not any(s["enough"] for s in said["supported"])


def test_false_alarms_by_the_fallback_are_told(policy, make_episodes):
    rules = PauseRules(min_requests=50.0, pause_fallback="ROLLBACK")
    pausing = replace(policy, calibration=Calibration(0.0, 1.0, rules))
    quiet = {"error_rate": [0.1, 0.1], "requests": [10, 10], "label": "good"}
    busy = {"error_rate": [0.1, 0.1], "requests": [90, 90], "label": "good"}
    said = contents_of(pausing, make_episodes(quiet, busy))
    assert said["false_alarms"]["share_by_fallback"]["value"] == 0.5
    assert said["worst"][0]["fell_back"]
    assert said["worst"][0]["answers"] == ["PAUSE", "ROLLBACK"]
    assert said["observations"]["few_requests"] == 0.5
    assert "by the fallback of a pause" in render(said)


def test_groups_of_the_training_split_are_left_out_unless_there_are_no_others(policy, releases):
    some = group_digests(releases.select(np.array([0, 3])))
    said = contents_of(replace(policy, training_data={"group_digests": some}), releases)
    assert (said["judged_on"]["n_trained_on"], said["judged_on"]["n_episodes"]) == (2, 2)
    assert {w["episode_id"] for w in said["worst"]} == {"e1"}
    assert "2 of the 4 episodes are of groups that this policy was trained on" in render(said)
    all_of_them = {"group_digests": group_digests(releases)}
    said = contents_of(replace(policy, training_data=all_of_them), releases)
    assert said["judged_on"]["n_episodes"] == 4
    assert any("a group that the policy was trained on" in w for w in said["warnings"])
    assert "All 4 episodes" in render(said)


def test_it_says_where_it_cannot_know_the_training_groups(policy, releases):
    untold = replace(policy, training_data={"fingerprint": "of others"})
    assert any("cannot be checked" in w for w in contents_of(untold, releases)["warnings"])
    assert not any("cannot be checked" in w for w in contents_of(policy, releases)["warnings"])


def test_it_warns_where_the_policy_was_calibrated_on_these_releases(policy, releases):
    about = {"fingerprint": releases.fingerprint(), "group_digests": group_digests(releases)}
    fitted = Calibration(0.0, 1.0, fitted_on=about)
    said = contents_of(replace(policy, calibration=fitted), releases)
    assert any("calibrated on these very releases" in warning for warning in said["warnings"])
    assert said["policy"]["calibration"]["fitted_on"] == {"fingerprint": about["fingerprint"]}


def test_a_broken_bound_on_false_alarms_is_told(policy, make_episodes):
    bounded = replace(policy, calibration=Calibration(0.0, 1.0, alpha=0.1))
    disturbed = [{"error_rate": [0.5], "label": "good", "group": f"g{i}"} for i in range(8)]
    said = contents_of(bounded, make_episodes(*disturbed))
    assert said["false_alarms"]["alpha"] == 0.1
    assert any("than its bound of 0.1 allows" in warning for warning in said["warnings"])
    assert "bound is alpha = 10.0%" in render(said)


def test_it_warns_of_what_it_cannot_know(policy, releases):
    said = contents_of(replace(policy, calibration=None), releases)
    warnings = " ".join(said["warnings"])
    assert "not calibrated" in warnings
    assert "4 groups" in warnings
    assert "too few to say, by fault type: leak, spike." in warnings
    # What its Q-values imply is shown, and called that.
    assert said["reliability"]["brier"]["value"] is not None
    assert "its risk is what its Q-values imply" in render(said)
    assert "oumi-deploy calibrate --policy" in render(said)


def test_an_old_policy_that_is_not_calibrated_states_no_risk(policy, releases):
    encoder = replace(policy.encoder, directions=None)
    old = replace(policy, calibration=None, version=1, encoder=encoder)
    said = contents_of(old, releases)
    assert said["reliability"] is said["coverage"] is None
    assert any("states no risk" in warning for warning in said["warnings"])
    assert "so it states no risk" in render(said)


def test_it_warns_of_faults_mostly_missed_and_of_what_is_mostly_disturbed(policy, make_episodes):
    missed = {"error_rate": [0.1], "label": "bad", "fault_type": "leak"}
    caught = {"error_rate": [0.5], "label": "bad", "fault_type": "leak"}
    disturbed = {"error_rate": [0.5], "label": "good", "fault_type": "warm_up"}
    said = contents_of(policy, make_episodes(*[missed] * 4, *[caught] * 2, *[disturbed] * 5))
    warnings = " ".join(said["warnings"])
    assert "caught that it decided, by fault type: leak (2 of 6)." in warnings
    assert "releases rolled back, by fault type: warm_up (5 of 5)." in warnings


def test_a_feature_that_training_never_had_is_named(policy, releases):
    encoder = replace(policy.encoder, low=np.array([np.nan]), high=np.array([np.nan]))
    said = contents_of(replace(policy, encoder=encoder), releases)
    assert any("never reported: error_rate." in warning for warning in said["warnings"])


def test_what_it_is_no_better_than_is_named(policy, make_episodes):
    # Whatever is fitted can do what the policy does on these, so that it is better than nothing.
    bad = [{"error_rate": [0.5, 0.5], "label": "bad", "group": f"b{i}"} for i in range(12)]
    good = [{"error_rate": [0.1, 0.1], "label": "good", "group": f"g{i}"} for i in range(12)]
    said = report_contents(policy, make_episodes(*bad, *good), n_folds=2)
    by_name = {row["name"]: row for row in said["comparison"]["rows"]}
    assert by_name["policy"]["gains"] is None
    # Always CONTINUE: 100 against -200 less one wait of 2 on the bad half, and nothing on the good.
    gain = by_name["always continue"]["gains"]["mean_reward_with_delay"]
    assert gain["value"] == (100 - -202) / 2
    (unclear,) = [w for w in said["warnings"] if "not shown to be better than" in w]
    assert "error-rate threshold" in unclear
    assert "always continue" not in unclear
    page = render(said)
    assert page.index("error-rate threshold") < page.index("In hindsight: no rule")
    assert page.index("In hindsight: no rule") < page.index("extra trees, whole canary phase")


def test_what_pauses_cost_is_told(policy, make_episodes):
    # Nobody reports in a third of the good releases: a person is asked about what would have stood.
    bad = [{"error_rate": [0.5, 0.5], "label": "bad", "group": f"b{i}"} for i in range(12)]
    good = [{"error_rate": [0.1, 0.1], "label": "good", "group": f"g{i}"} for i in range(12)]
    lost = [{"error_rate": [np.nan] * 2, "label": "good", "group": f"l{i}"} for i in range(12)]
    said = report_contents(policy, make_episodes(*bad, *good, *lost), n_folds=2)
    bare = said["comparison"]["rows"][1]
    assert bare["metrics"]["precision"]["value"] == 1.0
    assert bare["name"] == "its Q-values alone"
    # 50 for each that went on, -10 for each that is held.
    assert bare["gains"]["mean_reward_with_delay"]["value"] == pytest.approx(-60 / 3)
    assert bare["gains"]["mean_reward_with_delay_of_decided"]["value"] == 0
    (warning,) = [w for w in said["warnings"] if "pauses" in w]
    assert "cost 20.0 of the mean reward" in warning
    assert not any("earns less" in w and "Q-values" in w for w in said["warnings"])
    page = render(said)
    assert "33.3% (" in page
    assert "were held in the end, for a person to decide" in page
    assert "gain of decided" in page
    assert "pay one that was held for a person -10" in page


def test_releases_that_are_held_are_told_apart_everywhere(policy, make_episodes):
    lost = {"error_rate": [0.1, np.nan, np.nan], "fault_type": "lost"}
    releases = make_episodes(
        {**lost, "label": "bad"},
        {**lost, "label": "good"},
        *[{"error_rate": [0.1, 0.1, 0.1], "label": "good", "fault_type": "none"}] * 3,
    )
    said = contents_of(policy, releases)
    assert said["judged_on"]["n_held"] == 2
    assert said["comparison"]["rows"][0]["metrics"]["share_held"]["value"] == 0.4
    assert said["coverage"]["own"] == {"share": 0.6, "error": 0.0}
    by = {row["name"]: row for row in said["by"]["fault_type"]}
    assert (by["lost"]["bad_held"], by["lost"]["good_held"], by["lost"]["caught"]) == (1, 1, 0)
    assert said["delay"]["n_held"] == 1
    # 100 against -10 less two waits; 50 against -10.
    assert [(w["kind"], w["decision"], w["loss"]) for w in said["worst"]] == [
        ("held", "PAUSE", 114.0),
        ("held", "PAUSE", 60.0),
    ]
    assert said["worst"][0]["explanation"].startswith("PAUSE: a person must decide, as no ")
    page = render(said)
    assert "held for a person to decide" in page
    assert "rolled back</text>" not in page


def test_a_watch_while_the_recording_raised_the_traffic_is_counted(policy, make_episodes):
    # From 0.4 on the risk is 0.4, and another look is worth more than a ROLLBACK.
    table = np.array([[20.0, -30.0], [30.0, 10.0], [20.0, -30.0]])
    watching = replace(policy, q_function=TableQ([np.array([0.4])], table, np.ones((3, 2))))
    watched = {"error_rate": [0.5, 0.5, 0.5], "canary_share": [0.1, 0.2, 0.3], "label": "bad"}
    quiet = {"error_rate": [0.1, 0.1, 0.1], "canary_share": [0.1, 0.2, 0.3], "label": "good"}
    steady = {**watched, "canary_share": 0.1}
    said = contents_of(watching, make_episodes(watched, quiet, steady))
    assert said["watches"] == {"n_scored": 3, "n_share_rose": 1}
    figures = said["comparison"]["rows"][0]["metrics"]
    # The last look ends each watch in a ROLLBACK, after waits of 0.2 and 0.4, and of 0.2 and 0.2.
    assert figures["mean_reward_with_delay"]["value"] == pytest.approx((99.4 + 50 + 99.6) / 3)
    assert figures["mean_reward_with_delay_withheld"]["value"] == pytest.approx(249.6 / 3)
    page = render(said)
    assert "in 1 of the 3 releases, while the policy watched or later" in page
    assert "the mean reward with delay would be 83.2" in page
    assert "raising the traffic" not in render(contents_of(watching, make_episodes(steady, quiet)))


def test_without_a_known_outcome_there_is_nothing_to_report(policy, releases, make_episodes):
    with pytest.raises(DeployError, match="nothing to report on"):
        contents_of(policy, replace(releases, labels=np.full(4, -1, dtype=np.int8)))
    cut = {"error_rate": [0.1], "action": "ROLLBACK", "label": "bad"}
    with pytest.raises(DeployError, match="no episode can be scored"):
        contents_of(policy, make_episodes(cut))
    with pytest.raises(DeployError, match="--no-baselines reports on the policy alone"):
        report_contents(policy, releases, n_folds=5)


class Page(HTMLParser):
    """Notes the tags, and fails where one is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += [(name, str(value)) for name, value in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += [(name, str(value)) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("calibrated", [True, False])
def test_the_page_is_whole_needs_nothing_and_escapes_what_it_shows(policy, releases, calibrated):
    told = policy if calibrated else replace(policy, calibration=None)
    text = render(contents_of(told, releases))
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.seen.isdisjoint({"script", "link", "img", "iframe", "object"})
    names = {name for name, _ in page.attributes}
    assert names.isdisjoint({"src", "href", "style"})
    assert not any(name.startswith("on") for name in names)
    assert "url(" not in text
    assert "http:" not in text
    assert "https:" not in text
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text
    assert {"svg", "table", "caption", "h1", "h2", "h3", "details"} <= page.seen
    assert "nan" not in text.lower().replace("explanation", "")


def test_a_chart_keeps_the_spike_of_a_long_line_and_breaks_it_where_values_miss():
    values = [0.0] * 5000
    values[1234] = 1.0
    drawn = chart(
        "t", "x", "y", x_range=(0, 5000), y_range=(0, 1), lines=[("first", list(enumerate(values)))]
    )
    assert len(drawn) < 20_000
    top = chart("t", "x", "y", x_range=(0, 5000), y_range=(0, 1), lines=[("first", [(0, 1.0)])])
    height = top.split('class="line first" d="M48.0 ')[1].split("h0")[0]
    assert f" {height}" in drawn.split('class="line first"')[1]
    gap = [(0, 1.0), (1, None), (2, 1.0)]
    broken = chart("t", "x", "y", x_range=(0, 2), y_range=(0, 1), lines=[("first", gap)])
    assert broken.split('class="line first" d="')[1].split('"')[0].count("M") == 2


@pytest.mark.parametrize("values", [[0.0], [3.0, 3.0], [-5.0, -5.0], [1e-9, 2e-9], [0.0, 1e12]])
def test_a_chart_holds_whatever_range(values):
    ends = (min(values), max(values))
    line = [(float(i), v) for i, v in enumerate(values)]
    drawn = chart("t", "x", "y", x_range=(0, 0), y_range=ends, lines=[("first", line)])
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_the_command_writes_both_and_replaces_nothing(tmp_path, capsys, policy):
    episodes, file = tmp_path / "e.parquet", tmp_path / "p.json"
    assert main(["generate", "--count", "60", "--seed", "1", "--out", str(episodes)]) == 0
    policy.save(file)
    page, plain = tmp_path / "r.html", tmp_path / "r.json"
    arguments = ["report", "--policy", str(file), "--episodes", str(episodes), "--no-baselines"]
    assert main([*arguments, "--out", str(page), "--json", f"{tmp_path}/./r.html"]) == 2
    assert not page.exists()
    arguments += ["--out", str(page), "--json", str(plain)]
    capsys.readouterr()
    assert main(arguments) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert f"written to {page} and {plain}: of those decided, bad releases caught" in said[0]
    assert "held for a person" in said[0]
    assert json.loads(plain.read_text())["judged_on"]["n_episodes"] == 60
    assert page.read_text().startswith("<!doctype html>")
    before = page.read_bytes()
    assert main(arguments) == 2
    assert "r.html" in capsys.readouterr().err
    assert page.read_bytes() == before
    assert main([*arguments, "--overwrite"]) == 0
