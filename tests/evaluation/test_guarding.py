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

"""Guardrails over whole data sets: answered as a rollout is, counted, scored and reported."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy import DeploymentPolicy
from oumi_deploy.cli.main import main
from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.calibrate import calibrate
from oumi_deploy.evaluation.evaluate import evaluate, policy_answers, policy_evidence
from oumi_deploy.evaluation.guarding import guard_codes
from oumi_deploy.evaluation.report.contents import report_contents
from oumi_deploy.evaluation.report.page import render
from oumi_deploy.policy.answers import ANSWERS
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.guardrails import Guardrails, read_guardrails
from oumi_deploy.policy.pauses import PauseRules
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.policy.rollout import reason_names
from oumi_deploy.problem.encoder import fit_encoder
from oumi_deploy.problem.rewards import Rewards

ROOT = Path(__file__).parents[2]
QUEUE = {"metric": "queue", "above": 100, "answer": "ROLLBACK"}


def rails(*limits: dict[str, Any], present=()) -> Guardrails:
    return read_guardrails({"limits": list(limits), "present": list(present)})


def table_policy(episodes: Episodes, p_low=0.05, p_high=0.9) -> DeploymentPolicy:
    """Believes in "bad" from an error rate of 0.4 on."""
    p = np.array([p_low, p_high, p_low])
    table = np.stack([50 - 250 * p, 150 * p - 50], axis=1)
    return DeploymentPolicy(
        fit_encoder(["error_rate"], episodes),
        TableQ([np.array([0.4])], table, np.ones((3, 2))),
        form="sequential",
        rewards=Rewards(),
        discount=1.0,
        training_data={"fingerprint": "of others", "group_digests": []},
        metrics={},
    )


def guarded(policy: DeploymentPolicy, guardrails: Guardrails, **pauses) -> DeploymentPolicy:
    calibration = Calibration(0.0, 1.0, PauseRules(**pauses), guardrails=guardrails)
    return replace(policy, calibration=calibration)


#
# All at once as one by one
#
cells = {
    "error_rate": st.sampled_from([None, 0.0, 0.1, 0.3, 0.5]),
    "control_error_rate": st.sampled_from([None, 0.0, 0.1, 0.3]),
    "queue": st.sampled_from([None, 0.1, 7.0, 13.0]) | st.floats(0, 1e6),
    "control_queue": st.sampled_from([None, 0.1, 7.0, 13.0]),
    "requests": st.sampled_from([None, 3.0, 11.0, 500.0]),
}
rows = st.fixed_dictionaries(cells)
releases_of_rows = st.lists(
    st.tuples(st.lists(rows, max_size=3), st.lists(rows, min_size=1, max_size=5)),
    min_size=1,
    max_size=4,
)
limits = st.fixed_dictionaries(
    {
        "metric": st.sampled_from(["error_rate", "queue"]),
        "above": st.sampled_from([0.0, 0.2, 0.9]),
        "for": st.integers(1, 3),
        "answer": st.sampled_from(["PAUSE", "ROLLBACK"]),
    },
    optional={
        "compared_with": st.sampled_from(["control", "baseline"]),
        "by": st.sampled_from(["difference", "ratio"]),
    },
)
presences = st.fixed_dictionaries(
    {"metric": st.sampled_from(["error_rate", "queue"]), "for": st.integers(1, 3)}
)


@st.composite
def sets_of_rails(draw) -> Guardrails:
    def compared(rail):
        return {k: v for k, v in rail.items() if k != "by" or "compared_with" in rail}

    some = st.lists(
        limits.map(compared), min_size=1, max_size=4, unique_by=lambda x: rails(x).names
    )
    present = st.lists(presences, max_size=2, unique_by=lambda x: (x["metric"], x["for"]))
    return rails(*draw(some), present=draw(present))


@settings(max_examples=25)
@given(releases_of_rows, sets_of_rails())
def test_all_at_once_is_one_by_one(make_episodes, releases, guardrails):
    episodes = make_episodes(
        *(
            {
                "phase": ["baseline"] * len(before) + ["canary"] * len(after),
                **{name: [row[name] for row in (*before, *after)] for name in cells},
            }
            for before, after in releases
        )
    )
    policy = guarded(table_policy(generate_sample(5, 1)), guardrails)
    answers, evidence = policy_answers(policy, episodes), policy_evidence(policy, episodes)
    codes = guard_codes(guardrails, episodes, evidence.requests < policy.least_requests)
    at = 0
    for before, after in releases:
        rollout = policy.begin()
        rollout.observe_all([{**row, "phase": "baseline"} for row in before])
        for row in after:
            rollout.observe(row)
            said, newest = rollout.decide(last=row is after[-1]), rollout.newest
            assert newest is not None
            assert said.decision == ANSWERS[answers.decision[at]]
            assert said.reasons == reason_names(answers.reasons[at])
            assert newest.asked == tuple(codes[at])
            assert len(said.guardrails) == (codes[at] > 0).sum()
            at += 1


#
# In what is fitted, scored and told
#
@pytest.fixture
def releases(make_episodes) -> Episodes:
    """By errors: one bad release is caught at its second look, one never. By queue: see below."""
    quiet = [0.0, 0.0, 0.0]
    return make_episodes(
        {"error_rate": [0.0, 0.5, 0.5], "queue": [1, 1, 200], "label": "bad", "group": "a"},
        {"error_rate": quiet, "queue": [1, 200, 1], "label": "bad", "group": "b"},
        {"error_rate": quiet, "queue": [1, 1, 1], "label": "good", "group": "c"},
        {"error_rate": quiet, "queue": [1, 60, 200], "label": "good", "group": "d"},
        {"error_rate": quiet, "queue": [None, 1, 1], "label": "good", "group": "e"},
    )


def test_a_rollback_by_a_guardrail_is_scored(releases):
    policy = guarded(table_policy(releases), rails(QUEUE))
    told = {e["episode_id"]: e for e in evaluate(policy, releases)["episodes"]}
    assert [told[f"e{i}"]["decision"] for i in range(5)] == [
        *("ROLLBACK", "ROLLBACK", "CONTINUE", "ROLLBACK", "CONTINUE")
    ]
    assert [told[f"e{i}"]["delay_steps"] for i in (0, 1, 3)] == [1.0, 1.0, 2.0]


def test_the_report_says_how_often_each_fired_and_was_right(releases):
    guardrails = rails(QUEUE, {**QUEUE, "above": 50, "answer": "PAUSE"})
    policy = guarded(table_policy(releases), guardrails)
    contents = report_contents(policy, releases, baselines=False)
    said = contents["guardrails"]
    # e0 ended by its errors before its queue was long; e1 and e3 were ended by the queue.
    assert said["rows"] == [
        {
            **{"name": "queue above 100", "answer": "ROLLBACK"},
            **{"bad": 1, "good": 1, "milder_bad": 1, "milder_good": 1},
        },
        {
            **{"name": "queue above 50", "answer": "PAUSE"},
            **{"bad": 1, "good": 1, "milder_bad": 1, "milder_good": 1},
        },
    ]
    # e1: caught for 100 at the cost of one step, not missed for 200 and two; e3: 50 for 50.
    with_it, without = 100 - 2, -200 - 2 * 2
    assert said["gain"]["value"] == pytest.approx((with_it - without - 100) / 5)
    page = render(contents)
    assert "Guardrails: how often each fired, and was right" in page
    assert "queue above 100" in page


def test_where_the_policy_says_it_too_the_guardrail_added_nothing(releases):
    guardrails = rails({"metric": "error_rate", "above": 0.3, "answer": "ROLLBACK"})
    policy = guarded(table_policy(releases), guardrails)
    (row,) = report_contents(policy, releases, baselines=False)["guardrails"]["rows"]
    assert (row["bad"], row["good"], row["milder_bad"]) == (1, 0, 0)


def test_a_report_without_guardrails_has_no_section_on_them(releases):
    policy = guarded(table_policy(releases), Guardrails())
    contents = report_contents(policy, releases, baselines=False)
    assert contents["guardrails"] is None
    assert "Guardrails" not in render(contents)


def test_what_a_file_lacks_is_said(releases, make_episodes):
    beside = {**QUEUE, "compared_with": "control"}
    before = {**QUEUE, "compared_with": "baseline"}
    guardrails = rails(QUEUE, beside, before, present=[{"metric": "latency"}])
    policy = guarded(table_policy(releases), guardrails)
    said = evaluate(policy, releases)["guardrails_not_read"]
    assert said == [
        "the guardrail queue above control + 100 was not read: no release here reports "
        "control_queue",
        "the guardrail queue above baseline + 100 was not read: no release here reports queue "
        "before its canary",
        "the guardrail latency missing was not read: no release here reports latency; so it held "
        "every one",
    ]
    page = render(report_contents(policy, releases, baselines=False))
    assert "no release here reports control_queue." in page
    bare = make_episodes({"error_rate": [0.1], "label": "bad"})
    unread = evaluate(guarded(table_policy(releases), rails(QUEUE)), bare)["guardrails_not_read"]
    assert unread == ["the guardrail queue above 100 was not read: no release here reports queue"]


#
# Calibrating
#
def releases_with_queue(make_episodes, n=40, seed=1, **more) -> Episodes:
    random = np.random.default_rng(seed)
    bad = random.random(n) < 0.5
    return make_episodes(
        *(
            {
                "error_rate": [float(random.random() * (0.9 if is_bad else 0.5))],
                "queue": [150.0 if i % 8 == 0 else 5.0],
                "label": "bad" if is_bad else "good",
                "group": f"g{i}",
                **more,
            }
            for i, is_bad in enumerate(bad)
        )
    )


def test_calibrating_anew_keeps_guardrails_until_they_are_dropped(make_episodes):
    episodes = releases_with_queue(make_episodes)
    policy = table_policy(episodes)
    first = calibrate(policy, episodes, guardrails=rails(QUEUE))
    assert first.calibration is not None
    told = first.calibration.fitted_on["guardrails"]
    labels = episodes.labels[::8]
    assert told["names"] == ["queue above 100"]
    assert told["fired_on_good"] == [int((labels == 0).sum())]
    assert told["fired_on_bad"] == [int((labels == 1).sum())]
    again = calibrate(first, episodes)
    assert again.guardrails == first.guardrails
    dropped = calibrate(again, episodes, guardrails=Guardrails())
    assert dropped.guardrails == Guardrails()
    assert dropped.calibration is not None
    assert "guardrails" not in dropped.calibration.fitted_on


def test_the_bound_on_false_alarms_counts_their_rollbacks(make_episodes):
    """Of nineteen healthy groups the guardrail rolls two back: (2 + 1) / 20 at least."""
    healthy = [
        {"error_rate": [0.1], "queue": [150.0 if i < 2 else 5.0], "label": "good", "group": f"g{i}"}
        for i in range(19)
    ]
    ill = [{"error_rate": [0.6], "queue": [5.0], "label": "bad", "group": "b"}] * 5
    episodes = make_episodes(*healthy, *ill)
    policy = table_policy(episodes)
    assert calibrate(policy, episodes, alpha=0.05).calibration is not None
    with pytest.raises(DeployError, match=r"alpha 0.1: .*guardrails alone roll back 10.5%"):
        calibrate(policy, episodes, alpha=0.1, guardrails=rails(QUEUE))
    bounded = calibrate(policy, episodes, alpha=0.15, guardrails=rails(QUEUE))
    healthy_ones = episodes.select(episodes.labels == 0)
    rolled_back = policy_answers(bounded, healthy_ones).actions == 1
    assert rolled_back.sum() == 2


def test_what_no_release_reports_is_refused(make_episodes):
    episodes = releases_with_queue(make_episodes, stage="one")
    policy = table_policy(episodes)
    for rail, message in (
        (
            {**QUEUE, "metric": "queues"},
            r"none of these releases reports queues \(did you mean queue",
        ),
        ({**QUEUE, "compared_with": "control"}, "none of these releases reports control_queue"),
        ({**QUEUE, "compared_with": "baseline"}, "reports queue before its canary; bring releases"),
        ({**QUEUE, "metric": "stage"}, "stage is text; only a numeric column has a limit"),
        ({"metric": "error_rate", "below": 0.2, "answer": "PAUSE"}, "is to be above"),
    ):
        with pytest.raises(DeployError, match=message):
            calibrate(policy, episodes, guardrails=rails(rail))
    # Those that the policy has are no exception.
    kept = calibrate(policy, episodes, guardrails=rails(QUEUE))
    without = make_episodes(
        *({"error_rate": [i / 9], "label": "bad" if i > 4 else "good"} for i in range(9))
    )
    with pytest.raises(DeployError, match="queue above 100: none of these releases reports queue"):
        calibrate(kept, without)


#
# The command
#
@pytest.fixture
def folder(tmp_path, make_frame) -> Path:
    random = np.random.default_rng(2)
    frame = make_frame(
        *(
            {
                "error_rate": [0.1 * (i % 2) + 0.5 * float(random.random())],
                "queue": [150.0 if i % 8 == 0 else 5.0],
                "label": "bad" if i % 2 else "good",
            }
            for i in range(40)
        )
    )
    frame.to_csv(tmp_path / "releases.csv", index=False)
    table_policy(generate_sample(5, 1)).save(tmp_path / "policy.json")
    (tmp_path / "rails.yaml").write_text(
        "limits:\n  - {metric: queue, above: 100, answer: ROLLBACK}\n"
    )
    return tmp_path


def run(
    folder: Path, *more: object, policy="policy.json", out="out.json", episodes="releases.csv"
) -> int:
    files = ("--policy", folder / policy, "--episodes", folder / episodes)
    arguments = ("calibrate", *files, "--out", folder / out, "--overwrite", *more)
    return main([str(argument) for argument in arguments])


def test_the_command_puts_keeps_and_drops_them(folder, capsys):
    assert run(folder, "--guardrails", folder / "rails.yaml") == 0
    assert "queue above 100: 5 good, 0 bad" in capsys.readouterr().out
    kept = json.loads((folder / "out.json").read_text())["calibration"]["guardrails"]
    assert kept == {
        "limits": [{"metric": "queue", "above": 100, "for": 1, "answer": "ROLLBACK"}],
        "present": [],
    }
    assert run(folder, policy="out.json", out="again.json") == 0
    assert "kept from the policy; --no-guardrails drops them" in capsys.readouterr().out
    assert DeploymentPolicy.load(folder / "again.json").guardrails.names == ("queue above 100",)
    assert run(folder, "--no-guardrails", policy="again.json") == 0
    assert "guardrails" not in capsys.readouterr().out
    assert DeploymentPolicy.load(folder / "out.json").guardrails == Guardrails()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits: [", "rails.yaml: line 1: not YAML"),
        ("- 1\n", "rails.yaml: guardrails: expected limits and present"),
        ("", "rails.yaml: guardrails: expected limits and present, got None"),
        (
            "limits:\n  - metric: queue\n    above: 1\n    above: 2\n",
            "rails.yaml: line 4: above stands twice; leave one out",
        ),
        (
            "limits: [{metric: queue, above: 1e-3, answer: PAUSE}]",
            "in YAML write 0.001 or 1.0e-3",
        ),
        ("limits: [{metric: queue, above: 1, answer: HALT}]", "answer: 'HALT' is not one of"),
        ("limits: [{metric: qeue, above: 1, answer: PAUSE}]", "did you mean queue"),
        ("present: !!python/object:os.system {}", "not YAML"),
        (b"\xff\xfe\x00", "rails.yaml: not"),
    ],
)
def test_a_file_that_says_none_is_refused_in_one_line(folder, capsys, text, message):
    path = folder / "rails.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert run(folder, "--guardrails", path) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert message in line
    assert not (folder / "out.json").exists()


def test_a_file_that_is_not_there_is_refused(folder, capsys):
    assert run(folder, "--guardrails", folder / "none.yaml") == 2
    assert "none.yaml: No such file or directory; recipes/service" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(folder, "--guardrails", folder / "rails.yaml", "--no-guardrails")


def test_the_example_holds_what_it_says(folder, capsys):
    generated = folder / "releases.parquet"
    assert main(["generate", "--count", "60", "--seed", "3", "--out", str(generated)]) == 0
    example = ROOT / "recipes" / "service" / "guardrails.yaml"
    assert run(folder, "--guardrails", example, episodes="releases.parquet") == 0
    names = DeploymentPolicy.load(folder / "out.json").guardrails.names
    assert names == (
        "error_rate above 0.2 for 2 observations",
        "error_rate above control + 0.05 for 3 observations",
        "memory_usage above 2 times baseline",
        "health_score below 0.5 for 2 observations",
        "error_rate missing for 3 observations",
        "health_score missing beside control for 2 observations",
    )


def test_the_help_names_the_defaults_of_pauses(capsys):
    with pytest.raises(SystemExit):
        main(["calibrate", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for field in fields(PauseRules):
        default = (
            "off"
            if field.default is None
            else f"{field.default:{'' if isinstance(field.default, str) else 'g'}}"
        )
        flag = f"--{field.name.replace('_', '-')} "
        assert f"(default {default}" in said.rpartition(flag)[2].partition(" --")[0]
