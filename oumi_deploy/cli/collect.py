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
"""`oumi-deploy collect`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_overwrite

_DESCRIPTION = """\
Collect past releases from Prometheus and write them as episodes to train on, with the collector
that serves decisions: what a policy learns from is then what it is asked about later.

  oumi-deploy collect --telemetry telemetry.toml --releases releases.csv --out episodes.parquet

The list of releases is CSV or JSON Lines with the columns service, environment, version,
started_at and ended_at (Unix seconds or ISO 8601) and, where they are known, label (good or bad)
and group. What Prometheus no longer has is left out and counted.
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "collect",
        _run,
        summary="collect past releases from Prometheus",
        description=_DESCRIPTION,
        extra="serve",
    )
    parser.add_argument("--telemetry", required=True, type=Path, metavar="FILE", help="settings")
    parser.add_argument("--releases", required=True, type=Path, metavar="FILE", help="the list")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="episodes to write")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_overwrite(parser)


def _run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from oumi_deploy.files import refuse_existing
    from oumi_deploy.serving.telemetry.history import write_history
    from oumi_deploy.serving.telemetry.releases import read_releases
    from oumi_deploy.serving.telemetry.settings_file import read_telemetry

    refuse_existing(args.out, args.overwrite)
    settings, releases = read_telemetry(args.telemetry), read_releases(args.releases)
    with tqdm(total=len(releases), desc="Collecting", unit="release") as bar:
        counts = write_history(
            settings, releases, args.out, overwrite=args.overwrite, progress=bar.update
        )
    if args.json:
        print(json.dumps(asdict(counts)))
        return
    print(f"{args.out}: {counts.written} releases, {counts.rows} observations")
    told = (("left out", counts.left_out), ("clipped", counts.clipped), ("noted", counts.notes))
    for word, those in told:
        for what, n in those.items():
            print(f"  {word}: {what} ({n})")
