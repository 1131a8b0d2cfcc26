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

"""The night after: the policy goes on learning from the hour, by `oumi-deploy learn`."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from processes import run_to_end

from oumi_deploy.episodes.generator import write_episodes
from oumi_deploy.errors import DeployError

_TRUSTED, _CALIBRATION = 3, 2
"""Seeds of the generated releases that judge and calibrate, none of them trained on."""

_SETTINGS = """\
training_config = "{config}"
trusted_episodes = "trusted.parquet"
calibration_episodes = "calibration.parquet"
trusted_sources = ["review", "pipeline", "incident"]
group_by = ["service", "version"]
"""


def is_there() -> bool:
    """Returns whether anything can be learnt here: training needs Oumi."""
    return importlib.util.find_spec("oumi") is not None


def begin(folder: Path, policy: Path) -> Path:
    """Begins a loop in `folder` with a policy as champion.

    Returns:
        The file that a service is to decide by, and that a better policy would replace.
    """
    loop = folder / "loop"
    loop.mkdir()
    config = Path(__file__).with_name("night.yaml")
    (loop / "loop.toml").write_text(_SETTINGS.format(config=config), encoding="utf-8")
    write_episodes(loop / "trusted.parquet", 2000, _TRUSTED)
    write_episodes(loop / "calibration.parquet", 2000, _CALIBRATION)
    command = ["learn", "--loop", "loop", "--init", "--policy", str(policy.resolve())]
    model = policy.resolve().with_name("pretrained")
    if model.is_dir():
        command += ["--pretrained", str(model)]
    run_to_end("learn-init", command, folder)
    return loop / "policy.json"


def learn(folder: Path, log_url: str) -> dict[str, Any]:
    """Learns from the log, and returns what `oumi-deploy learn --json` says.

    A night that fails is told like any other: the hour before it stands.
    """
    command = ["learn", "--loop", "loop", "--log", log_url, "--json"]
    try:
        return json.loads(run_to_end("learn", command, folder))
    except DeployError as error:
        return {"outcome": "failed", "reason": str(error)}


def described(report: dict[str, Any]) -> str:
    """Returns what the night came to, in a sentence or two."""
    exported, figures = report.get("exported", {}), report.get("figures", {})
    lines = [f"the night: {report['outcome']}: {report['reason']}"]
    if exported:
        lines.append(
            f"it had {exported['n_releases']} new releases, {exported['n_labelled']} with a label"
        )
    if "trusted" in figures:
        gain = figures["trusted"]["gain"]
        lines.append(
            f"gain on the trusted file: {gain['value']:.2f} ({gain['low']:.2f} to "
            f"{gain['high']:.2f}) in mean reward with delay"
        )
    return "\n".join(lines)
