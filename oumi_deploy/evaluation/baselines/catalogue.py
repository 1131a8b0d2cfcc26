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

"""Every baseline by the name that reports call it."""

from functools import partial

from oumi_deploy.evaluation.baselines import canary_judge, checks, hindsight, models, rules
from oumi_deploy.evaluation.baselines import sequential as sequential_tests
from oumi_deploy.evaluation.baselines.fitting import Fit, Rule
from oumi_deploy.problem.rewards import Action


def _fixed(rule: Rule) -> Fit:
    """Makes a baseline of a rule that nothing is fitted for."""
    return lambda episodes, context: rule


_MODELS = {
    "logistic regression": models.logistic_regression,
    "gradient boosting": models.gradient_boosting,
    "extra trees": models.extra_trees,
}

ONLINE: dict[str, Fit] = {
    "always continue": _fixed(lambda episodes: rules.always(episodes, Action.CONTINUE)),
    "always roll back": _fixed(lambda episodes: rules.always(episodes, Action.ROLLBACK)),
    "error-rate threshold": rules.fit_threshold,
    "online rule": _fixed(rules.patient_check),
    "Argo Rollouts failureLimit": checks.fit_argo,
    "failed checks in a row": checks.fit_consecutive,
    "Flagger threshold": checks.fit_flagger,
    "Kayenta judge, defaults": canary_judge.fit_default_judge,
    "Kayenta judge, fitted": canary_judge.fit_judge,
    "sequential test, level 0.05": sequential_tests.fit_default_test,
    "sequential test, fitted": sequential_tests.fit_test,
    **{name: partial(models.fit_online, make) for name, make in _MODELS.items()},
}
"""What can be asked after every observation."""

HINDSIGHT: dict[str, Fit] = {
    f"{name}, whole canary phase": partial(hindsight.fit_hindsight, make)
    for name, make in _MODELS.items()
}
"""What decides once, when the canary phase is over."""

BEST_ACHIEVABLE = "best achievable, fitted"
