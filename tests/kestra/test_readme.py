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
"""What the recipe's page has one run does what it says, as far as no Kestra is needed for it."""

import os
import subprocess
from base64 import b64decode

import pytest
import yaml


def test_the_tokens_are_handed_to_kestra_as_its_secrets(commands, tmp_path):
    make = [line for line in commands("## 1") if line.startswith("printf")]
    export = [line for line in commands("## 1") if line.startswith("export")]
    shown = "printf '%s\\n' $SECRET_OUMI_DEPLOY_ASK $SECRET_OUMI_DEPLOY_REPORT"
    said = bash("\n".join([*make, *export, shown]), tmp_path)
    tokens = (tmp_path / "tokens").read_text().split()
    assert tokens[::2] == ["ask", "report"]
    assert [b64decode(line).decode() for line in said.split()] == tokens[1::2]


@pytest.mark.parametrize(
    ("heading", "name", "variables"),
    [
        ("## 2", "ask", {"url": "http://localhost:8377", "token": "ASK"}),
        ("## 2", "soak", {"url": "http://localhost:8377", "token": "ASK"}),
        ("## 2", "report-outcome", {"url": "http://localhost:8377", "token": "REPORT"}),
        ("## Every night", "learn", {"loop": "/srv/loop", "log": "LOG"}),
    ],
)
def test_what_the_page_fills_in_sets_a_flow_up(
    commands, copy_of_the_recipe, recipe, heading, name, variables
):
    text = "\n".join(commands(heading))
    fill_in = text[text.index("sed -i") : text.index(".yaml\n") + len(".yaml\n")]
    bash(fill_in, copy_of_the_recipe)
    flow = yaml.safe_load((copy_of_the_recipe / f"{name}.yaml").read_text())
    secrets = {k: v for k, v in variables.items() if v.isupper()}
    wanted = {k: f"{{{{ secret('OUMI_DEPLOY_{v}') }}}}" for k, v in secrets.items()}
    assert flow["variables"] == {**variables, **wanted}
    assert flow["tasks"] == recipe(name)["tasks"]


KUBECTL = """#!/usr/bin/env python3
import json, sys
state = json.load(open("cluster.json"))
if sys.argv[1] == "get":
    print(state["revision"], end="")
elif sys.argv[1:3] == ["rollout", "undo"]:
    state["version"], state["before"] = state["before"], state["version"]
    state["revision"] += 1
    json.dump(state, open("cluster.json", "w"))
"""
"""A cluster that remembers one version back, as far as the page's way back goes."""


@pytest.fixture
def way_back(page_flows, tmp_path):
    """Returns what carries out a task of the page's `roll-back` as Kestra's worker does."""
    before, undo = page_flows["before"]["tasks"]
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    (tmp_path / "cluster.json").write_text('{"version": "v42", "before": "v41", "revision": 7}')
    env = {"SERVICE": "checkout", "ENVIRONMENT": "production", "PATH": os.environ["PATH"]}
    env["PATH"] = f"{tmp_path}{os.pathsep}{env['PATH']}"
    noted = {}

    def run(name):
        task = {"before": before, "undo": undo}[name]
        lines = "\n".join(["set -e", *task["commands"]])
        said = subprocess.run(
            ["/bin/sh", "-c", lines],
            cwd=tmp_path,
            env=env | noted,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        if name == "before":
            noted["REVISION"] = yaml.safe_load(said.strip().strip(":"))["outputs"]["revision"]
        return yaml.safe_load((tmp_path / "cluster.json").read_text())["version"]

    return run


def test_going_back_twice_is_going_back_once(way_back):
    assert way_back("before") == "v42"
    assert way_back("undo") == "v41"
    assert way_back("undo") == "v41"


def test_a_cluster_that_does_not_answer_is_not_gone_back(way_back, tmp_path):
    way_back("before")
    (tmp_path / "kubectl").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(subprocess.CalledProcessError):
        way_back("undo")


def bash(text, folder):
    return subprocess.run(
        ["bash", "-euc", text], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
