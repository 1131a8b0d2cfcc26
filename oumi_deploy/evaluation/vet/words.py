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

"""Answers in words."""

from collections.abc import Sequence
from itertools import groupby

from oumi_deploy.evaluation.vet.trial import Look

_PARTS = 3
"""Answers after one another that are named; of more the first."""


def said_of_doses(milder: float, before: Look, worse: float, after: Look) -> str:
    """Returns the answers to two doses, in as many digits as tell their risks apart."""
    digits = 2 if abs(after.risk - before.risk) > 0.01 else 4
    return ", ".join(
        f"{look.decision} at {dose:.3g} (risk {look.risk:.{digits}f})"
        for dose, look in ((milder, before), (worse, after))
    )


def said(looks: Sequence[Look], *, first: int = 1) -> str:
    """Returns answers in words, as in `CONTINUE at looks 1 to 3 (risk 0.02 to 0.10)`.

    Args:
        looks: The answers.
        first: Number of the first.
    """
    parts, at = [], first
    for decision, same in groupby(looks, lambda look: look.decision):
        risks = [look.risk for look in same]
        low, high = (f"{x:.2f}" for x in (min(risks), max(risks)))
        where = f"look {at}" if len(risks) == 1 else f"looks {at} to {at + len(risks) - 1}"
        parts.append(f"{decision} at {where} (risk {low}{f' to {high}' * (low != high)})")
        at += len(risks)
    return ", ".join(parts[:_PARTS]) + ", and so on" * (len(parts) > _PARTS)
