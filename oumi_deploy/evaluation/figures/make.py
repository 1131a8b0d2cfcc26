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

"""All pictures of a run, in one go."""

import logging
from pathlib import Path

import matplotlib as mpl

from oumi_deploy.episodes.packed import Episodes
from oumi_deploy.errors import DeployError
from oumi_deploy.evaluation.figures.choice import choose_episode
from oumi_deploy.evaluation.figures.decision_boundary import draw_decision_boundary
from oumi_deploy.evaluation.figures.decisions import draw_decisions
from oumi_deploy.evaluation.figures.judged import Judged, judge_policy
from oumi_deploy.evaluation.figures.learning_curve import draw_learning_curve
from oumi_deploy.evaluation.figures.plane import make_plane, pick_features
from oumi_deploy.evaluation.figures.q_margin import draw_q_margin
from oumi_deploy.evaluation.figures.run import Run, read_run
from oumi_deploy.evaluation.figures.style import STYLE, as_png
from oumi_deploy.evaluation.figures.tables import decisions_table, scored_frame
from oumi_deploy.evaluation.figures.timeline import draw_timeline
from oumi_deploy.files import replace_when_done

logger = logging.getLogger(__name__)

NAMES = (
    "learning_curve.png",
    "decision_boundary.png",
    "q_margin.png",
    "timeline.png",
    "decisions.png",
    "decisions.csv",
)
"""What `make_figures` writes, as far as run and episodes allow."""


def make_figures(
    run: Path,
    episodes: Episodes,
    out: Path,
    *,
    features: tuple[str, str] | None = None,
    episode_id: str | None = None,
    per_observation: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Draws a training run and its policy's decisions on a set of episodes.

    Boundary and heat map are left out where the policy's state has one feature only, the table
    of decisions where no decision can be scored; a warning is logged that says so. All is drawn
    before the first file is written.

    Args:
        run: Folder of a finished run, with its policy file and its learning curve.
        episodes: The episodes to judge the policy on.
        out: Folder for the pictures; it is made if it is not there.
        features: The two features of boundary and heat map; None takes the first two current
            values of metrics.
        episode_id: The episode of the timeline; None takes a bad one that was rolled back late.
        per_observation: Whether each observation is scored as one decision.
        overwrite: Whether existing pictures may be replaced.

    Returns:
        The files written.

    Raises:
        DeployError: If a file of the run is missing or broken, the episodes lack a column, a
            feature or the episode is not there, or a picture exists and may not be replaced.
    """
    run, out = Path(run), Path(out)
    _refuse_existing(out, overwrite)
    trained = read_run(run)
    judged = judge_policy(trained.policy, episodes, per_observation)
    shown = choose_episode(judged, episode_id)
    picked = pick_features(trained.policy.encoder.state, features)
    with mpl.rc_context(STYLE):
        contents = _draw_all(trained, judged, picked, shown)
    for name, content in contents.items():
        with replace_when_done(out / name, overwrite=overwrite) as draft:
            draft.write_bytes(content)
    return [out / name for name in contents]


def _refuse_existing(out: Path, overwrite: bool) -> None:
    """Raises DeployError before any work if a picture stands where one would be written."""
    existing = [name for name in NAMES if (out / name).exists()]
    if existing and not overwrite:
        raise DeployError(
            f"{out / existing[0]} exists already: choose another folder, or pass --overwrite"
        )


def _draw_all(run: Run, judged: Judged, picked: list[int] | None, shown: int) -> dict[str, bytes]:
    """Returns the contents of the files by name."""
    contents = {"learning_curve.png": as_png(draw_learning_curve(run))}
    if picked is None:
        only = judged.policy.encoder.names[0]
        logger.warning("no decision boundary and no heat map: the state has only %s", only)
    else:
        plane = make_plane(judged, picked)
        contents["decision_boundary.png"] = as_png(draw_decision_boundary(judged, plane))
        contents["q_margin.png"] = as_png(draw_q_margin(plane))
    contents["timeline.png"] = as_png(draw_timeline(judged, shown))
    scored = scored_frame(judged)
    if len(scored):
        contents["decisions.png"] = as_png(draw_decisions(judged, scored))
        contents["decisions.csv"] = decisions_table(scored).to_csv(index=False).encode()
    else:
        logger.warning("no table of decisions: no episode is labelled")
    return contents
