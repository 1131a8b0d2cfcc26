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
"""What recipes/service says, word by word."""

import json
import re
from pathlib import Path

import pytest

from oumi_deploy.cli.main import main
from oumi_deploy.serving.telemetry.queries import ReleaseName, queries_of_new
from oumi_deploy.serving.telemetry.settings_file import read_telemetry

RECIPE = Path(__file__).parents[2] / "recipes" / "service"


def test_a_log_can_be_judged_also_where_a_metric_was_never_sent(
    serve, policy_file, tmp_path, capsys
):
    client = serve()
    for n, (rate, label) in enumerate([(0.01, "good"), (0.02, "good"), (0.3, "bad")]):
        body = {"service": "shop", "version": f"v{n}", "observations": [{"cpu_usage": rate}]}
        # The policy's own metric is missing; the names of the others say that it knows them.
        body["observations"][0]["error_rate"] = None
        assert client.post("/v1/decide", json=body).status_code == 200
        outcome = {"service": "shop", "version": f"v{n}", "label": label, "source": "review"}
        assert client.post("/v1/outcomes", json=outcome).json()["matched"]
    log, out = f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "logged.parquet"
    export = ["export-log", "--log", log, "--out", str(out), "--policy", str(policy_file)]
    assert main([*export, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_labelled"] == 3
    assert main(["check", str(out)]) == 0
    assert main(["evaluate", "--policy", str(policy_file), "--episodes", str(out)]) == 0


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_every_metric_of_a_policy_has_a_column(serve, ask, policy_file, tmp_path, suffix):
    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.serving.log.export import export_episodes

    ask(serve(), 0.1)
    out = tmp_path / f"logged{suffix}"
    log = f"sqlite:///{tmp_path / 'log.db'}"
    export_episodes(log, out, columns=["error_rate", "health_score"])
    episodes = read_episodes(out)
    assert episodes.column("error_rate").tolist() == [0.1]
    assert "health_score" in episodes.numbers


def test_the_weight_that_a_tool_reports_can_be_asked_for(tmp_path):
    (lines,) = re.findall(r"```toml\n(.*?)```", (RECIPE / "README.md").read_text(), re.DOTALL)
    path = tmp_path / "telemetry.toml"
    path.write_text((RECIPE / "telemetry.toml").read_text() + lines)
    queries = queries_of_new(read_telemetry(path), ReleaseName("podinfo", "test", "v2"))
    assert 'flagger_canary_weight{workload="podinfo",namespace="test"}' in queries["canary_share"]


def test_the_settings_for_flagger_ask_for_its_weight():
    telemetry = read_telemetry(RECIPE.parent / "flagger" / "telemetry.toml")
    queries = queries_of_new(telemetry, ReleaseName("podinfo", "test", ""))
    assert 'flagger_canary_weight{workload="podinfo",namespace="test"}' in queries["canary_share"]
    assert 'pod=~"podinfo-[a-z0-9]+-[a-z0-9]{5}"' in queries["error_rate"], "the rest stays"
