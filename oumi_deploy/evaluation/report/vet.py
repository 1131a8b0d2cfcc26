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

"""A report's section on common sense: the vet's table, and how like its training releases are."""

from collections.abc import Mapping
from html import escape
from typing import Any

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.evaluation.report.html_pieces import paragraph, row, table
from oumi_deploy.evaluation.vet.likeness import TRAIN_FIRST, likeness
from oumi_deploy.evaluation.vet.vet import in_words, shown, vet
from oumi_deploy.policy.policy import DeploymentPolicy

_CAPTION = (
    "Made-up rollouts of which everybody knows the answer, around what was usual in its training. "
    "Each is tried with and without a baseline and the old version's values, where its state tells "
    "that apart."
)


def vet_contents(policy: DeploymentPolicy, episodes: Episodes) -> dict[str, Any]:
    """Returns the vet as `Vet.as_dict`, its `line`, and `likeness` of the episodes, likewise."""
    found, like = vet(policy), likeness(policy, episodes)
    about = {"line": in_words(found.kept()), "likeness": {**like.as_dict(), "line": like.line}}
    return {**found.as_dict(), **about}


def vet_section(contents: Mapping[str, Any]) -> str:
    """Shows what `vet_contents` returns."""
    rows = [
        row(
            case["case"],
            [escape(shown(case["result"])), escape(case["answered"]), escape(case["why"])],
            "ours" if case["result"] == "fails" else "",
        )
        for case in contents["cases"]
    ]
    heads = ("case", "result", "answered", "why")
    warnings = "".join(paragraph(_sentence(said)) for said in contents["warnings"])
    like = paragraph(f"These releases beside its training: {contents['likeness']['line']}.")
    return table(_CAPTION, heads, {"": rows}) + warnings + like


def against(contents: Mapping[str, Any]) -> list[str]:
    """Returns one sentence for each thing in it that speaks against trusting the policy."""
    said = [] if contents["passes"] else [f"It {contents['line']}."]
    like = contents["likeness"]
    if like["verdict"] == TRAIN_FIRST:
        said.append(f"It was made for other releases: {'; '.join(like['reasons'])}.")
    return said


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
