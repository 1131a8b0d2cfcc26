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

"""The report as one page that needs nothing else: no script, no other file, no other host."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from oumi_deploy.evaluation.report import sections, tables
from oumi_deploy.evaluation.report.guardrails import guardrails
from oumi_deploy.evaluation.report.summary import summary
from oumi_deploy.evaluation.report.vet import vet_section

_TITLE = "How a deployment policy does"


def render(contents: Mapping[str, Any]) -> str:
    """Renders what `report_contents` returns as an HTML document."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    parts = {
        "Where it must not be trusted": sections.warnings(contents["warnings"]),
        "Beside what teams use today": tables.comparison(
            contents["comparison"], contents["watches"]
        ),
        "Does its risk hold?": sections.reliability(
            contents["reliability"], contents["policy"]["calibration"] is not None
        ),
        **(
            {"What holding the doubtful ones buys": sections.coverage(contents["coverage"])}
            if contents["coverage"]
            else {}
        ),
        "False alarms": tables.false_alarms(contents["false_alarms"]),
        "How fast": sections.delay(contents["delay"]),
        **(
            {"Guardrails: how often each fired, and was right": guardrails(contents["guardrails"])}
            if contents["guardrails"]
            else {}
        ),
        **{
            f"Results by {column.replace('_', ' ')}": tables.breakdown(
                rows, contents["delay"]["unit"]
            )
            for column, rows in contents["by"].items()
        },
        "Common sense": vet_section(contents["vet"]),
        "The worst decisions": sections.worst(contents["worst"]),
    }
    body = "".join(
        f"<section><h2>{escape(name)}</h2>{said}</section>" for name, said in parts.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{_TITLE}</title><style>\n{style}</style></head>\n"
        f"<body><main><h1>{_TITLE}</h1>{summary(contents)}{body}</main></body></html>\n"
    )
