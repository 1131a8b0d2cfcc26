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

"""`oumi-deploy` as a script and as a person sees it."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from oumi_deploy.cli import main as cli
from oumi_deploy.cli.main import main
from oumi_deploy.episodes.generator import generate_episodes
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.policy.policy import DeploymentPolicy
from oumi_deploy.policy.qfunctions import TableQ
from oumi_deploy.problem.bins import cells, make_edges
from oumi_deploy.problem.encoder import encode_episodes, fit_encoder
from oumi_deploy.problem.rewards import Rewards

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "format",
    "check",
    "generate",
    "convert-changerca",
    "evaluate",
    "report",
    "offpolicy",
    "calibrate",
    "vet",
    "figures",
    "decide",
    "plugin-file",
    "crossval",
    "fit",
)
METRICS = {"accuracy", "precision", "recall", "f1", "false_rollback_rate", "mean_reward"} | {
    "mean_reward_with_delay",
    "median_delay_steps",
    "median_delay_minutes",
    "share_ever_paused",
    "share_ended_by_fallback",
    "share_held",
    "share_watched_while_traffic_rose",
    "mean_reward_with_delay_of_decided",
    "mean_reward_with_delay_withheld",
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("episodes") / "releases.parquet"
    assert main(["generate", "--count", "40", "--seed", "1", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory) -> Path:
    """A policy that rolls back from an error rate of 0.1 on: 100 to -50, else -50 to 50."""
    import numpy as np

    episodes = generate_sample(20, 1)
    encoder = fit_encoder(["error_rate"], episodes)
    features = encode_episodes(encoder.state, episodes)
    edges = make_edges(encoder.names, features, 2, {"error_rate": [0.1]})
    # Bins: below 0.1, from 0.1 on, missing.
    assert cells(edges, np.array([[0.05], [0.1], [np.nan]])).tolist() == [0, 1, 2]
    table = np.array([[50.0, -50.0], [-50.0, 100.0], [50.0, -50.0]])
    policy = DeploymentPolicy(
        encoder, TableQ(edges, table, np.ones((3, 2))), "sequential", Rewards(), 1.0, {}, {}
    )
    path = tmp_path_factory.mktemp("policy") / "deployment_policy_model.json"
    policy.save(path)
    return path


@pytest.fixture
def ask(monkeypatch, capsys, policy_file):
    def run(text: str, policy: Path = policy_file, *options: str):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        status = main(["decide", "--policy", str(policy), *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def refused(capsys, *arguments: object) -> str:
    """Runs a command that must refuse its input, and returns the one line it says."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith(f"oumi-deploy {arguments[0]}: ")
    return line


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_teaches_every_command(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"] if command is None else [command, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    if command is None:
        assert all(f"\n    {name}" in text for name in COMMANDS)
        assert "oumi train -c configs/quickstart/train.yaml" in text
    elif command not in ("format", "check"):
        assert f"oumi-deploy {command}" in text.replace("usage: ", "", 1).split("\n\n", 1)[1]


def test_a_command_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["decied"])
    assert exit_.value.code == 2
    assert "decied" in capsys.readouterr().err


#
# decide
#
def test_decide_answers_with_one_json_object(ask):
    status, out, err = ask('[{"error_rate": 0.15}]')
    assert (status, err) == (0, "")
    said = json.loads(out)
    risk = said.pop("risk")
    assert said.pop("confidence") == risk > 0.9, "what Q(ROLLBACK) implies"
    assert said == {
        "decision": "ROLLBACK",
        "calibrated": False,
        "reasons": [],
        "q_values": {"CONTINUE": -50.0, "ROLLBACK": 100.0},
        "q_margin": 150.0,
        "pauses": 0,
        "pause_limit": 0,
        "guardrails": [],
    }
    status, out, _ = ask('[{"error_rate": 0.2}, {"error_rate": 0.01, "step": 1, "word": "x"}]')
    assert json.loads(out)["decision"] == "CONTINUE"
    for missing in ('[{"error_rate": null}]', '[{"error_rate": NaN}, {}]'):
        assert json.loads(ask(missing)[1])["q_margin"] == 100.0


def test_decide_waits_at_its_last_look_where_the_tool_asks_again(ask, policy_file):
    nothing_seen = '[{"error_rate": 0.01}, {"error_rate": null}]'

    def reasons(*options: str) -> list[str]:
        said = json.loads(ask(nothing_seen, policy_file, *options)[1])
        assert said["decision"] == "PAUSE"
        return said["reasons"]

    assert reasons() == reasons("--last", "--asks-again") == ["telemetry_missing"]
    assert "held_for_a_person" in reasons("--last")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "standard input is not JSON"),
        ("[{", "standard input is not JSON"),
        ("{}", "observations: expected a list of objects, oldest first"),
        ("[]", "there is no canary observation to decide on"),
        ("3", "observations: expected a list of objects, oldest first"),
        ("null", "observations: expected a list of objects, oldest first"),
        ("[1]", "observation 1"),
        ('[{"error_rate": 0.1}, {"error_rate": "high"}]', "observation 2: error_rate: 'high'"),
        ('[{"error_rate": 1.5}]', "observation 1: error_rate: 1.5 is not"),
        ('[{"error_rate": Infinity}]', "observation 1: error_rate: inf is not"),
        ('[{"error_rate": true}]', "observation 1: error_rate: True is not a number"),
        ('[{"phase": "before"}]', "observation 1: phase: 'before' is not one of"),
        ('[{"phase": "baseline"}]', "there is no canary observation to decide on"),
    ],
)
def test_decide_says_in_one_line_what_is_wrong_with_its_input(ask, text, says):
    status, out, err = ask(text)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("oumi-deploy decide: ")
    assert says in line


def test_decide_says_in_one_line_what_is_wrong_with_its_policy(ask, policy_file, tmp_path):
    whole = policy_file.read_text()
    contents = {
        "truncated.json": whole[: len(whole) // 2],
        "foreign.json": '{"format": "something else"}',
        "list.json": "[]",
        "later.json": json.dumps({**json.loads(whole), "format_version": 9}),
        "empty.json": "",
        "binary.json": "\x00",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    for path in [*(tmp_path / name for name in contents), tmp_path / "missing.json", tmp_path]:
        status, out, err = ask("[{}]", path)
        assert (status, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith(f"oumi-deploy decide: {path}: ")


#
# format, check, generate, convert
#
def test_format_prints_the_page(capsys):
    assert main(["format"]) == 0
    text = capsys.readouterr().out
    for column in ("episode_id", "step", "error_rate", "canary_share", "control_", "propensity"):
        assert column in text


def test_check_finds_nothing_wrong_with_a_good_file(capsys, releases):
    episodes = generate_sample(40, 1)
    n_groups = len(set(episodes.groups))
    assert main(["check", str(releases)]) == 0
    words = capsys.readouterr().out
    assert f"{releases}: valid. 40 episodes in {n_groups} groups" in words
    assert main(["check", str(releases), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["valid"] is True
    assert report["problems"] == []
    assert report["n_groups"] == n_groups
    assert report["n_rows"] == episodes.n_rows
    assert report["n_episodes"] == report["n_good"] + report["n_bad"] == 40
    assert {"error_rate", "control_error_rate"} <= set(report["numbers"])


def test_check_says_row_and_column_of_all_that_is_wrong(capsys, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(
        "episode_id,step,error_rate,label\na,0,0.1,good\na,1,1.5,good\na,2,0.2,good\nb,0,0.1,odd\n"
    )
    assert main(["check", str(path)]) == 2
    out = capsys.readouterr().out
    assert all(line.startswith(f"{path}: ") for line in out.splitlines())
    assert main(["check", str(path), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["valid"] is False
    places = {(problem["row"], problem["column"]) for problem in report["problems"]}
    assert places == {(2, "error_rate"), (4, "label")}
    assert len(out.splitlines()) == 2
    path.write_text("episode_id,step,error_rate\na,0,0.1\na,1,0.1\na,1,0.2\n")
    assert main(["check", str(path), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["row"], problem["column"]) == (3, "step")


def test_a_file_that_cannot_be_read_is_refused_in_one_line(capsys, tmp_path):
    nothing = tmp_path / "none.parquet"
    assert str(nothing) in refused(capsys, "check", nothing)
    broken = tmp_path / "broken.parquet"
    broken.write_text("this is no parquet file")
    assert str(broken) in refused(capsys, "check", broken)
    other = tmp_path / "episodes.xlsx"
    other.write_text("")
    assert str(other) in refused(capsys, "check", other)
    assert str(tmp_path) in refused(capsys, "check", tmp_path)


def test_generate_writes_the_same_releases_for_the_same_seed(capsys, tmp_path, releases):
    again, other = tmp_path / "again.parquet", tmp_path / "other.parquet"
    assert main(["generate", "--count", "40", "--seed", "1", "--out", str(again)]) == 0
    assert main(["generate", "--count", "40", "--seed", "2", "--out", str(other)]) == 0
    assert again.read_bytes() == releases.read_bytes()
    assert other.read_bytes() != releases.read_bytes()
    # Only with --overwrite is a file replaced.
    line = refused(capsys, "generate", "--count", 3, "--out", other)
    assert line.endswith(f"{other} exists already: choose another name, or pass --overwrite")
    assert other.read_bytes() != again.read_bytes()
    args = ["generate", "--count", "40", "--seed", "1", "--out", str(other), "--overwrite"]
    assert main(args) == 0
    assert other.read_bytes() == again.read_bytes()


def test_generate_takes_parameters_and_lists_them(capsys, tmp_path):
    out = tmp_path / "bad.parquet"
    words = ["--set", "bad_share=1.0", "canary_steps=[3,3]"]
    assert main(["generate", "--count", "10", "--out", str(out), *words]) == 0
    capsys.readouterr()
    assert main(["check", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_bad"] == 10
    with pytest.raises(SystemExit) as exit_:
        main(["generate", "--parameters"])
    assert exit_.value.code == 0
    listed = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert 0 < json.loads(listed["bad_share"]) < 1
    # What is listed can be set.
    settings = [f"{name}={value}" for name, value in listed.items()]
    same, plain = tmp_path / "same.parquet", tmp_path / "plain.parquet"
    assert main(["generate", "--count", "5", "--out", str(same), "--set", *settings]) == 0
    assert main(["generate", "--count", "5", "--out", str(plain)]) == 0
    assert same.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--count", 0], "count"),
        (["--count", 5, "--seed", -1], "seed"),
        (["--count", 5, "--set", "bad_shar=1"], "unknown bad_shar: did you mean bad_share?"),
        (["--count", 5, "--set", "bad_share"], "--set bad_share: expected NAME=VALUE"),
        (["--count", 5, "--set", "bad_share=much"], "--set bad_share=much: expected NAME=VALUE"),
        (["--count", 5, "--set", "bad_share=2"], "bad_share"),
        (["--count", 5, "--set", "canary_steps=[9,3]"], "canary_steps"),
    ],
    ids=str,
)
def test_generate_refuses_what_cannot_be_meant(capsys, tmp_path, arguments, says):
    out = tmp_path / "out.parquet"
    assert says in refused(capsys, "generate", *arguments, "--out", out)
    assert list(tmp_path.iterdir()) == []


def test_generate_refuses_a_name_that_is_not_of_the_file_it_writes(capsys, tmp_path):
    line = refused(capsys, "generate", "--count", 3, "--out", tmp_path / "out.csv")
    assert "name a .parquet file" in line
    assert list(tmp_path.iterdir()) == []


def test_a_seed_below_zero_is_refused(capsys, policy_file, releases):
    judge = ["evaluate", "--policy", str(policy_file), "--episodes", str(releases)]
    with pytest.raises(SystemExit) as exit_:
        main([*judge, "--seed", "-1"])
    assert exit_.value.code == 2
    assert "-1 is not a whole number from 0 on" in capsys.readouterr().err


def test_sweep_puts_the_best_setting_first(capsys, releases):
    config = str(ROOT / "configs/tabular/train.yaml")
    arguments = ["sweep", "-c", config, "--episodes", str(releases), "--folds", "2"]
    assert main([*arguments, "--try", "discount", "0.5", "1", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert sorted(r["settings"]["discount"] for r in results) == [0.5, 1]
    first, second = (r["metrics"]["mean_reward_with_delay"]["value"] for r in results)
    assert first >= second
    assert "name a setting and at least one value" in refused(capsys, *arguments, "--try", "loss")


def test_crossval_of_groups_that_cannot_be_resampled_says_so(capsys, crossval, tmp_path):
    frame = generate_episodes(30, 1).assign(group="one")
    frame["service"] = frame["episode_id"].str[-1].map(lambda d: "a" if d in "01234" else "b")
    path = tmp_path / "one.parquet"
    frame.to_parquet(path)
    arguments = [*crossval, "--episodes", str(path), "--folds", "0", "--by", "service"]
    arguments += ["--no-baselines", "--inner-folds", "0"]
    assert main([*arguments, "training.max_steps=3"]) == 0
    assert "one group only" in capsys.readouterr().out


def test_converting_what_is_no_clone_is_refused(capsys, tmp_path):
    out = tmp_path / "out.parquet"
    missing = tmp_path / "clone"
    line = refused(capsys, "convert-changerca", missing, "--out", out)
    assert str(missing) in line
    missing.mkdir()
    assert refused(capsys, "convert-changerca", missing, "--out", out)
    assert not out.exists()


#
# evaluate
#
def test_evaluate_gives_every_metric_with_its_interval(capsys, releases, policy_file, tmp_path):
    judge = ["evaluate", "--policy", str(policy_file), "--episodes", str(releases)]
    table = tmp_path / "table.csv"
    assert main([*judge, "--json", "--table", str(table)]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert set(judged["metrics"]) == METRICS
    for metric in judged["metrics"].values():
        assert {"value", "low", "high"} <= set(metric)
        if metric["value"] is not None and metric["low"] is not None:
            assert metric["low"] <= metric["value"] <= metric["high"]
    assert len(judged["episodes"]) == judged["n_episodes"] == 40
    decided = [e for e in judged["episodes"] if not e["held"]]
    share = sum(e["correct"] for e in decided) / len(decided)
    assert judged["metrics"]["accuracy"]["value"] == pytest.approx(share)
    assert judged["metrics"]["share_held"]["value"] == pytest.approx(1 - len(decided) / 40)
    assert judged["n_held"] == 40 - len(decided)
    reward = sum(e["reward"] for e in judged["episodes"]) / 40
    assert judged["metrics"]["mean_reward"]["value"] == pytest.approx(reward)
    assert len(table.read_text().splitlines()) == 41
    assert "exists already" in refused(capsys, *judge, "--json", "--table", table)
    # Each observation a decision when asked for.
    assert main([*judge, "--per-observation"]) == 0
    words = capsys.readouterr().out
    assert f"{generate_sample(40, 1).canary_lengths.sum()} observations scored" in words
    # The intervals follow from the seed.
    capsys.readouterr()
    for seed in ("0", "0", "1"):
        assert main([*judge, "--json", "--seed", seed]) == 0
    one, two, three = (json.loads(x) for x in capsys.readouterr().out.splitlines())
    assert one == two == judged
    assert one["metrics"] != three["metrics"]


def test_evaluate_shows_a_person_ten_figures_in_their_units(capsys, policy_file, tmp_path):
    # Two of three bad releases are rolled back, at their second minute and at once; so is one of
    # two good ones. Delayed by a minute of half the traffic, the first costs 1.
    rows = ["episode_id,step,canary_share,error_rate,label"]
    errors = {"bad": ["0.01,0.5", "0.5", "0.01"], "good": ["0.5", "0.01"]}
    for label, releases in errors.items():
        for number, rates in enumerate(releases):
            for step, rate in enumerate(rates.split(",")):
                rows.append(f"{label}{number},{step},0.5,{rate},{label}")
    (tmp_path / "five.csv").write_text("\n".join(rows))
    judge = ["evaluate", "--policy", str(policy_file), "--episodes", str(tmp_path / "five.csv")]
    assert main(judge) == 0
    table = capsys.readouterr().out.splitlines()[2:]
    # (99 + 100 - 200 - 50 + 50) / 5
    assert [line[:50].split("  ")[0].strip() or line[:40].strip() for line in table] == [
        *("precision", "recall", "F1", "good releases rolled back", "mean reward, delay paid"),
        *("of decided releases", "without what came after a watch began", "held for a person"),
        *("watched while the traffic rose", "minutes until rollback, median"),
    ]
    values = [line[40:50].strip() for line in table]
    assert values[:5] == ["66.7%", "66.7%", "0.667", "50.0%", "-0.2"]
    assert values[7] == "0.0%"


def test_evaluate_refuses_what_it_cannot_judge(capsys, policy_file, releases, tmp_path):
    missing = tmp_path / "none.parquet"
    line = refused(capsys, "evaluate", "--policy", policy_file, "--episodes", missing)
    assert str(missing) in line
    line = refused(capsys, "evaluate", "--policy", missing, "--episodes", releases)
    assert str(missing) in line
    lacking = tmp_path / "lacking.csv"
    lacking.write_text("episode_id,step,cpu_usage,label\na,0,0.1,good\nb,0,0.1,bad\n")
    line = refused(capsys, "evaluate", "--policy", policy_file, "--episodes", lacking)
    assert "state: the episodes have no column error_rate" in line
    unlabelled = tmp_path / "unlabelled.csv"
    unlabelled.write_text("episode_id,step,error_rate\na,0,0.1\n")
    line = refused(capsys, "evaluate", "--policy", policy_file, "--episodes", unlabelled)
    assert "no episode is labelled" in line


def test_evaluate_accepts_one_class(capsys, policy_file, tmp_path):
    good = tmp_path / "good.csv"
    good.write_text("episode_id,step,error_rate,label\na,0,0.01,good\nb,0,0.5,good\n")
    judge = ["evaluate", "--policy", str(policy_file), "--episodes", str(good), "--json"]
    assert main(judge) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics["mean_reward"]["value"] == 0.0
    assert metrics["false_rollback_rate"]["value"] == 0.5
    for name in ("recall", "median_delay_steps", "median_delay_minutes"):
        assert metrics[name]["value"] is None
        assert metrics[name]["note"]


#
# crossval
#
@pytest.fixture(scope="module")
def crossval():
    """Makes sure that the plugin's commands can be run here."""
    pytest.importorskip("oumi.core.configs")
    return "crossval", "-c", str(ROOT / "configs" / "quickstart" / "train.yaml")


def test_crossval_judges_every_release_by_a_policy_that_never_saw_it(capsys, crossval, tmp_path):
    releases = tmp_path / "releases.parquet"
    assert main(["generate", "--count", "120", "--seed", "1", "--out", str(releases)]) == 0
    capsys.readouterr()
    table = tmp_path / "table.csv"
    arguments = [*crossval, "--episodes", str(releases), "--folds", "2", "--json"]
    comparison = tmp_path / "comparison.csv"
    arguments += ["--inner-folds", "2", "--table", str(table), "--comparison", str(comparison)]
    assert main([*arguments, "training.max_steps=3"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n_folds"] == 2
    policy = result["policies"]["quickstart"]
    assert set(policy["metrics"]) == METRICS
    assert len(policy["episodes"]) == 120
    assert len(table.read_text().splitlines()) == 121
    assert 0 <= policy["reliability"]["calibration_error"]["value"] <= 1
    assert sum(b["n"] for b in policy["reliability"]["bins"]) == 120
    rows = {row["name"]: row for row in result["rows"]}
    assert {"quickstart", "always continue", "error-rate threshold", "extra trees"} <= set(rows)
    assert len(comparison.read_text().splitlines()) == len(rows) + 1
    labels = generate_sample(120, 1).labels
    rewards = {
        "always continue": (50 * (labels == 0) - 200 * (labels == 1)).mean(),
        "always roll back": (-50 * (labels == 0) + 100 * (labels == 1)).mean(),
    }
    value = policy["metrics"]["mean_reward"]["value"]
    for name, reward in rewards.items():
        assert rows[name]["metrics"]["mean_reward"]["value"] == pytest.approx(reward)
        gain = rows[name]["gains"]["mean_reward"]
        assert gain["value"] == pytest.approx(value - reward)
        assert gain["low"] <= gain["value"] <= gain["high"]


def test_crossval_without_inner_folds_states_no_reliability(capsys, crossval, releases):
    arguments = [*crossval, "--episodes", str(releases), "--folds", "2", "--no-baselines"]
    assert main([*arguments, "--inner-folds", "0", "--json", "training.max_steps=3"]) == 0
    policy = json.loads(capsys.readouterr().out)["policies"]["quickstart"]
    assert policy["reliability"] is None
    assert len(policy["episodes"]) == 40


def test_crossval_refuses_what_cannot_be_meant(capsys, crossval, releases, tmp_path):
    def says(*arguments: object) -> str:
        return refused(capsys, *arguments)

    n_groups = len(set(generate_sample(40, 1).groups))
    for folds in (1, n_groups + 1):
        line = says(*crossval, "--episodes", releases, "--folds", folds)
        assert f"--folds {folds}: {n_groups} groups allow 2 to {n_groups} folds" in line
    assert "--by team" in says(*crossval, "--episodes", releases, "--by", "team")
    nothing = tmp_path / "none.yaml"
    assert f"{nothing}: no such config" in says("crossval", "-c", nothing, "--episodes", releases)
    assert "unknown setting fomr" in says(
        *crossval, "--episodes", releases, "training.trainer_kwargs.fomr=1"
    )


#
# plugin-file and extras
#
def test_plugin_file_is_there_whatever_the_folder(tmp_path):
    done = subprocess.run(
        [Path(sys.executable).parent / "oumi-deploy", "plugin-file"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    path = Path(line)
    assert path.is_absolute()
    assert path.is_file()
    entries = [x for x in path.read_text().splitlines() if x and not x.startswith("#")]
    # Oumi imports each line's last part without its suffix.
    assert [Path(entry).stem for entry in entries] == ["oumi_deploy.plugin.register"]


@pytest.mark.parametrize(
    ("missing", "arguments", "says"),
    [
        (
            ["pyarrow"],
            ["check", "f.csv"],
            "check needs pyarrow: pip install 'oumi-deploy[data]'",
        ),
        (
            ["pandas", "sklearn"],
            ["evaluate", "--policy", "p", "--episodes", "e"],
            "evaluate needs pandas, sklearn: pip install 'oumi-deploy[data]'",
        ),
        (
            ["oumi", "torch"],
            ["crossval", "-c", "c", "--episodes", "e"],
            "crossval needs oumi, torch: pip install 'oumi-deploy[train]'",
        ),
        (
            ["oumi"],
            ["fit", "-c", "c", "--episodes", "e", "--out", "p"],
            "fit needs oumi: pip install 'oumi-deploy[train]'",
        ),
    ],
)
def test_a_missing_extra_is_named(monkeypatch, capsys, missing, arguments, says):
    find = cli.importlib.util.find_spec
    monkeypatch.setattr(
        cli.importlib.util, "find_spec", lambda name: None if name in missing else find(name)
    )
    assert refused(capsys, *arguments) == f"oumi-deploy {arguments[0]}: {says}"


def test_the_bare_package_decides_and_names_its_plugin_file(monkeypatch, capsys, ask):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert ask('[{"error_rate": 0.15}]')[0] == 0
    assert main(["plugin-file"]) == 0
    assert main(["format"]) == 0
