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
"""`oumi-deploy serve`."""

import argparse
import contextlib
import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oumi_deploy.cli.arguments import add_command, add_log, add_policy, add_seed
from oumi_deploy.errors import DeployError

if TYPE_CHECKING:
    from oumi_deploy.serving.guard import App

_DESCRIPTION = """\
Answer rollout tools over HTTP: CONTINUE, PAUSE or ROLLBACK, each answer logged before it is given.

  oumi-deploy serve --policy policy.json
  curl -s localhost:8377/v1/decide -H 'content-type: application/json' \\
    -d '{"service": "checkout", "observations": [{"error_rate": 0.15}]}'

The policy must be calibrated (oumi-deploy calibrate). When its file is replaced, the new one is
taken up without a restart; one that is no good is refused, and the old one goes on.

Where a question brings no observations, --telemetry has the service collect them from Prometheus.
With --shadow it answers what the caller names as its default, and logs what it would have said.

--explore EPSILON turns a ROLLBACK into PAUSE with that probability, so that the log shows what
would have followed. It gives overlap for releases that finished only where EPSILON to the power of
the looks at a release is not negligible; a release whose last answer is such a PAUSE stays
undecided until a person or the caller ends it.

It listens on this machine alone unless --host says otherwise, and then asks for tokens. A line of
the --tokens file is rights and a token, as in `ask,report 3f9c...`; or set OUMI_DEPLOY_TOKEN_ASK,
OUMI_DEPLOY_TOKEN_REPORT and OUMI_DEPLOY_TOKEN_ADMINISTER. /openapi.json describes every path.
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "serve",
        _run,
        summary="answer rollout tools over HTTP",
        description=_DESCRIPTION,
        extra="serve",
    )
    add_policy(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8377, help="port to listen on (8377)")
    add_log(parser)
    parser.add_argument(
        "--spool",
        type=Path,
        metavar="FILE",
        help="while the log's database is away, go on deciding and keep entries here until it is "
        "back (default: answer PAUSE meanwhile)",
    )
    parser.add_argument(
        "--telemetry", type=Path, metavar="FILE", help="what to ask Prometheus, and where it is"
    )
    parser.add_argument(
        "--interval",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="time between observations; a newest one older than two is missing telemetry (60)",
    )
    parser.add_argument(
        "--hold-limit",
        type=int,
        default=10,
        metavar="N",
        help="observations that a rollout waits at most for another that is likelier the cause; 0 "
        "to judge each by itself (10)",
    )
    parser.add_argument(
        "--calls",
        type=Path,
        metavar="FILE",
        help='which services each service calls, JSON as in {"checkout": ["cart"]}',
    )
    parser.add_argument("--shadow", action="store_true", help="answer the caller's default")
    parser.add_argument(
        "--explore",
        type=float,
        default=0.0,
        metavar="EPSILON",
        help="probability with which a ROLLBACK becomes PAUSE (0)",
    )
    add_seed(parser, "seed of the exploration, drawn anew for every question")
    parser.add_argument("--tokens", type=Path, metavar="FILE", help="who may do what")
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-body", type=int, default=1_000_000, metavar="BYTES", help="of a request (1000000)"
    )
    limits.add_argument(
        "--max-rate",
        type=float,
        default=2_000.0,
        metavar="N",
        help="requests a second of one caller (2000)",
    )
    limits.add_argument(
        "--max-concurrent", type=int, default=256, metavar="N", help="requests at once (256)"
    )


def _run(args: argparse.Namespace) -> None:
    with _made_to_last():
        import uvicorn

        from oumi_deploy.serving.listening import BoundedHeads

        app = _make_app(args)
    uvicorn.run(
        app,
        host=args.host,
        port=args.port,
        http=BoundedHeads,
        log_config=None,
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


@contextlib.contextmanager
def _made_to_last() -> Iterator[None]:
    """Has Python look for garbage in nothing that is made on the way up.

    All of it stays to the end. To look it over would hold up the start, and later every caller,
    each time for as long as a hundred decisions take.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _make_app(args: argparse.Namespace) -> "App":
    from oumi_deploy.serving.app import create_app
    from oumi_deploy.serving.auth import read_tokens
    from oumi_deploy.serving.listening import check_free
    from oumi_deploy.serving.settings import Limits, ServiceSettings, check_address

    if not 0 <= args.port < 65_536:
        raise DeployError(f"--port {args.port}: give a number from 0 to 65535")
    tokens = read_tokens(args.tokens, os.environ)
    check_address(args.host, tokens)
    check_free(args.host, args.port)
    settings = ServiceSettings(
        policy=args.policy,
        log=args.log,
        spool=args.spool,
        telemetry=args.telemetry,
        interval=args.interval,
        hold_limit=args.hold_limit,
        calls=args.calls,
        shadow=args.shadow,
        explore=args.explore,
        seed=args.seed,
        tokens=tokens,
        limits=Limits(args.max_body, args.max_rate, args.max_concurrent),
    )
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Asking and answering goes into the decision log; a line for each request would cost more than
    # a decision does. Whoever says in a header that it is somebody else is not believed.
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return create_app(settings)
