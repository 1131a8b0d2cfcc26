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

"""`oumi-deploy calibrate`."""

import argparse
import json
from pathlib import Path
from typing import Any

from oumi_deploy.cli.arguments import add_command, add_episodes, add_overwrite, add_policy, add_seed
from oumi_deploy.cli.guardrails_file import add_guardrails, guardrails_of

_DESCRIPTION = """\
Fit how sure a policy may be, on releases of groups that it was not trained on, and write the policy
with it. Only a calibrated policy states a risk and a confidence, and can say PAUSE. Groups that the
policy was trained on are left out, as are unlabelled releases. `oumi train` does the same at its
end where the config names a validation split.

  oumi-deploy calibrate --policy P --episodes held_out.parquet --out Q
  oumi-deploy calibrate --policy P --episodes F --alpha 0.05 --out Q
  oumi-deploy calibrate --policy P --episodes F --guardrails guardrails.yaml --out Q

With --alpha, the expected share of healthy releases that the policy ever rolls back is at most
alpha, looked at in every step (conformal risk control). The share is taken group by group, and n
groups support an alpha of 1/(n + 1) or more. The rollbacks of fallbacks and guardrails count too.
"""


def add_commands(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "calibrate",
        _run,
        summary="fit a policy's confidence, pauses and bound on false alarms",
        description=_DESCRIPTION,
        extra="data",
    )
    add_policy(parser)
    add_episodes(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="policy to write")
    parser.add_argument(
        "--alpha",
        type=float,
        metavar="SHARE",
        help="bound on the share of healthy releases rolled back, as in 0.05 (default none)",
    )
    add_guardrails(parser)
    _add_pauses(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_seed(parser, "seed of the folds behind the figures")
    add_overwrite(parser)


def _add_pauses(parser: argparse.ArgumentParser) -> None:
    # The defaults are those of `policy.pauses.PauseRules`, which is not imported for --help.
    group = parser.add_argument_group("pauses", "when the policy holds its answer back")
    group.add_argument(
        "--min-requests",
        type=float,
        metavar="N",
        help="requests, counted together over observations, below which it pauses (default 20)",
    )
    group.add_argument(
        "--range-margin",
        type=float,
        metavar="SHARE",
        help="how far a value may pass the training range before CONTINUE becomes PAUSE, in "
        "widths of that range (default 0)",
    )
    group.add_argument(
        "--max-doubt",
        type=float,
        metavar="P",
        help="probability of being wrong above which it pauses (default off)",
    )
    group.add_argument(
        "--certain-risk",
        type=float,
        metavar="P",
        help="risk from which on it rolls back though it would rather look again (default 0.9; 1 "
        "for off)",
    )
    group.add_argument(
        "--watch-limit",
        type=int,
        metavar="N",
        help="the pause of this number running, above the rewards' break-even, becomes ROLLBACK if "
        "that pays more than a person's time (default 30)",
    )
    group.add_argument(
        "--pause-limit",
        type=int,
        metavar="N",
        help="the pause of this number running becomes the fallback (default 5)",
    )
    group.add_argument(
        "--pause-fallback",
        choices=("CONTINUE", "ROLLBACK", "PAUSE"),
        help="what such a pause becomes, and one at the last observation (default PAUSE: held for "
        "a person to decide)",
    )


def _run(args: argparse.Namespace) -> None:
    from dataclasses import fields, replace

    from oumi_deploy.episodes.packed import read_episodes
    from oumi_deploy.evaluation.calibrate import calibrate
    from oumi_deploy.evaluation.evaluate import warn_of_unreported
    from oumi_deploy.evaluation.vet.vet import vetted
    from oumi_deploy.files import refuse_existing
    from oumi_deploy.policy.pauses import PauseRules
    from oumi_deploy.policy.policy import DeploymentPolicy

    refuse_existing(args.out, args.overwrite)
    chosen = {f.name: getattr(args, f.name) for f in fields(PauseRules)}
    guardrails = guardrails_of(args)
    policy, episodes = DeploymentPolicy.load(args.policy), read_episodes(args.episodes)
    # Of guardrails `calibrate` refuses what cannot be read.
    warn_of_unreported(replace(policy, calibration=None), episodes)
    policy = calibrate(
        policy,
        episodes,
        pauses=PauseRules(**{name: value for name, value in chosen.items() if value is not None}),
        alpha=args.alpha,
        guardrails=guardrails,
        seed=args.seed,
    )
    policy, _ = vetted(policy)
    policy.save(args.out, overwrite=args.overwrite)
    assert policy.calibration is not None
    plain = policy.calibration.as_dict()
    kept = guardrails is None and bool(policy.guardrails.rails)
    print(json.dumps(plain) if args.json else _describe(plain, args.out, kept))


def _describe(plain: dict[str, Any], path: Path, kept_guardrails: bool) -> str:
    about, alpha = plain["fitted_on"], plain["alpha"]
    left_out = about["n_left_out_as_trained_on"]
    lines = [
        f"fitted on {about['n_good']} good and {about['n_bad']} bad releases of "
        f"{about['n_groups']} groups"
        + f"; {left_out} left out, their groups were trained on"
        * bool(left_out),
        *(figure_line(name, about[name]) for name in ("calibration_error", "brier")),
    ]
    if alpha is not None:
        lines.append(f"alpha {alpha:g}: rolls back from a risk of {plain['rollback_from']:.3f} on")
    kept = " (kept from the policy; --no-guardrails drops them)" * kept_guardrails
    return "\n".join([*lines, *guardrail_lines(about, kept), vet_line(about), f"written to {path}"])


def vet_line(about: dict[str, Any]) -> str:
    """Returns what came of the policy's vet, which is kept in what its calibration says."""
    from oumi_deploy.evaluation.vet.vet import KEPT, in_words

    return f"the policy {in_words(about[KEPT])} (oumi-deploy vet shows more)"


def guardrail_lines(about: dict[str, Any], kept: str = "") -> list[str]:
    """Returns on how many releases each guardrail fired, as lines to read; none without one.

    Args:
        about: What a calibration says of what it was fitted on.
        kept: What to say of where they come from.
    """
    if "guardrails" not in about:
        return []
    told = about["guardrails"]
    counts = zip(told["names"], told["fired_on_good"], told["fired_on_bad"], strict=True)
    return [
        f"guardrails{kept}, and on how many of these releases each fired:",
        *(f"  {name}: {good} good, {bad} bad" for name, good, bad in counts),
    ]


def figure_line(name: str, metric: dict[str, Any]) -> str:
    """Returns a figure of held-out releases with its interval, as a line to read."""
    from oumi_deploy.evaluation.metrics import told

    undefined = f"- ({metric.get('note')})"
    return f"{name.replace('_', ' ')}: {told(metric, '.3f', undefined)}"
