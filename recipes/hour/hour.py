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

"""An hour in the life of a platform of ten services whose releases a policy decides on.

A simulated platform reports in Prometheus' text format; a real Prometheus scrapes it, `oumi-deploy
serve` decides, this script plays the rollout tool that asks and acts, and reports the outcomes. At
the end: what was caught, missed and disturbed, beside what a threshold rule would have done.

    python recipes/hour/hour.py --seed 1
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import night
import numpy as np
from life import Hour, live
from pictures import require_chromium, take_release
from processes import decision_service, free_ports, prometheus, require_prometheus
from releases import draw_releases
from results import described, judge, tables
from rollouts import Run
from rule import RUNNING, THRESHOLD
from services import CALLS, draw_services

from oumi_deploy.errors import DeployError
from oumi_deploy.serving.log.export import export_episodes

_POLICY = Path("output/hour/deployment_policy_model.json")


def main() -> int:
    """Runs the hour, and returns the exit status."""
    args = _arguments()
    try:
        _check(args)
        # Whoever ends the script ends its children too.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with _folder(args.folder) as folder:
            result = run_hour(args, folder)
    except DeployError as error:
        print(f"hour: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hour: ended early", file=sys.stderr)
        return 130
    print(json.dumps(result) if args.json else _described(result))
    return 0


def run_hour(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Runs the platform, Prometheus and the service, and returns what came of it, JSON-able."""
    # Apart, so that the plan of an hour is the same however long its minutes are.
    plan, noise = np.random.default_rng(args.seed).spawn(2)
    services = draw_services(args.services, plan)
    releases = draw_releases(services, args.minutes, plan)
    calls = {service.name: service.calls for service in services}
    endpoint, store, port = free_ports(3)
    policy, log_url = args.policy, f"sqlite:///{folder.resolve() / 'decisions.db'}"
    learns = not args.no_learning and night.is_there()
    if learns:
        policy = night.begin(folder, policy)
    with (
        prometheus(folder, store, list(releases), endpoint, args.minute) as store_url,
        decision_service(folder, port, policy, store_url, calls, args.minute) as service_url,
    ):
        print(f"the dashboard: {service_url}/   Prometheus: {store_url}/", file=sys.stderr)
        hour = Hour(args.minutes, args.minute, endpoint, service_url, args.pictures)
        runs = live(hour, services, releases, noise)
        if args.pictures is not None:
            longest = max(runs, key=lambda run: (run.rolled_back, run.minutes))
            asyncio.run(take_release(service_url, longest, args.pictures / "release.png"))
        if learns:
            print("the night: learning from the hour takes a minute", file=sys.stderr)
        learnt = night.learn(folder, log_url) if learns else None
    episodes = folder / "episodes.parquet"
    export_episodes(log_url, episodes)
    return {
        "seed": args.seed,
        "services": args.services,
        "minutes": args.minutes,
        **tables(judge(runs, episodes)),
        **_counts(runs),
        "night": learnt,
    }


def _counts(runs: Sequence[Run]) -> dict[str, Any]:
    reasons = sum((run.reasons for run in runs), Counter[str]())
    return {
        "questions": sum(run.asked for run in runs),
        "unanswered": sum(run.unanswered for run in runs),
        "reasons": dict(reasons.most_common()),
    }


def _described(result: dict[str, Any]) -> str:
    reasons = ", ".join(f"{name} {count}" for name, count in result["reasons"].items())
    return "\n".join(
        [
            described(result),
            "",
            f"rule: back after {RUNNING} minutes running with an error rate above {THRESHOLD:.0%}",
            f"questions: {result['questions']}, of these unanswered: {result['unanswered']}",
            f"reasons beside the policy's preference: {reasons or 'none'}",
            night.described(result["night"]) if result["night"] else "the night: nothing learnt",
        ]
    )


def _check(args: argparse.Namespace) -> None:
    if not 1 <= args.services <= len(CALLS):
        raise DeployError(f"--services {args.services}: give a number from 1 to {len(CALLS)}")
    if not 1 <= args.minutes <= 240:
        raise DeployError(f"--minutes {args.minutes}: give a number from 1 to 240")
    if args.minute < 2 or args.minute % 2:
        raise DeployError(f"--minute {args.minute}: give an even number of seconds from 2 on")
    if not args.policy.is_file():
        raise DeployError(f"{args.policy}: no such file; train it as recipes/hour/README.md says")
    require_prometheus()
    if args.pictures is not None:
        require_chromium()


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """Yields the folder of the log and all else: the one to keep, or one that goes away."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="hour-") as folder:
            yield Path(folder)
        return
    if kept.exists() and any(kept.iterdir()):
        raise DeployError(f"--folder {kept}: it is not empty; name another")
    kept.mkdir(parents=True, exist_ok=True)
    yield kept


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of the plan and the noise (0)")
    parser.add_argument("--services", type=int, default=10, help="how many, 1 to 10 (10)")
    parser.add_argument("--minutes", type=int, default=60, help="simulated minutes (60)")
    parser.add_argument(
        "--minute", type=int, default=2, metavar="SECONDS", help="of a simulated minute (2)"
    )
    parser.add_argument(
        "--policy", type=Path, default=_POLICY, metavar="FILE", help=f"that decides ({_POLICY})"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="where the log, the episodes and what Prometheus scraped stay (default: nowhere)",
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="where pictures of the dashboard go (none)"
    )
    parser.add_argument("--no-learning", action="store_true", help="leave out the night after")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
