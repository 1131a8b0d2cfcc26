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

"""One observation is judged in numbers, many in arrays, and both say the same."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_deploy.policy.answers import pause_limit, prefer, settle
from oumi_deploy.policy.calibration import Calibration
from oumi_deploy.policy.pauses import FALLBACKS, Evidence, Guard, PauseRules
from oumi_deploy.policy.qfunctions import NetworkQ, TableQ
from oumi_deploy.problem.bins import cells, table_shape
from oumi_deploy.problem.bounds import Bounds
from oumi_deploy.problem.directions import directions_of
from oumi_deploy.problem.rewards import Rewards
from oumi_deploy.problem.state import CLOCK, HISTORY, parse_state

NAN = float("nan")
STATE = ("error_rate", *(f"error_rate.{kind}" for kind in HISTORY), "latency.slope", *CLOCK)

calibrations = st.none() | st.builds(
    Calibration,
    intercept=st.floats(-3, 3),
    slope=st.floats(0.1, 5),
    rollback_from=st.sampled_from([0.0, 0.3, 0.6]),
    pauses=st.builds(
        PauseRules,
        max_doubt=st.none() | st.floats(0.05, 0.5),
        certain_risk=st.floats(0.3, 1),
        watch_limit=st.integers(1, 4),
        pause_limit=st.integers(1, 4),
        pause_fallback=st.sampled_from(FALLBACKS),
    ),
)


@st.composite
def observations(draw) -> dict[str, Any]:
    """What one observation carries, how long pauses run with it, and whether it is the last."""
    q_values = st.lists(st.floats(-300, 300), min_size=2, max_size=2)
    return {
        "q_values": draw(q_values),
        "is_silent": draw(st.booleans()),
        "is_unmatched": draw(st.booleans()),
        "is_outside": draw(st.booleans()),
        "requests": draw(st.just(NAN) | st.floats(0, 100)),
        "q_uncounted": draw(q_values),
        "guard": int(draw(st.sampled_from(Guard))),
        "running": draw(st.integers(0, 5)),
        "is_last": draw(st.booleans()),
    }


@given(st.lists(observations(), min_size=1, max_size=20), calibrations, st.sampled_from([1, 2]))
def test_one_observation_is_answered_as_it_is_among_many(make_table, seen, calibration, version):
    policy = replace(make_table([0.5, 0.5], []), calibration=calibration, version=version)

    def answers(of: Mapping[str, Any]) -> tuple:
        names = [f.name for f in fields(Evidence)]
        preferred = prefer(policy, Evidence(*(of[name] for name in names)))
        answered = settle(policy, preferred, of["running"], of["is_last"])
        said = (getattr(answered, f.name) for f in fields(answered))
        others = answered.confidence, answered.actions, pause_limit(policy, preferred)
        return *preferred, *said, *others

    many = answers({name: np.array([one[name] for one in seen]) for name in seen[0]})
    for at, one in enumerate(seen):
        for number, numbers in zip(answers(one), many, strict=True):
            np.testing.assert_allclose(number, numbers[at], rtol=1e-12)


some_edges = st.lists(st.floats(-2, 2), max_size=4, unique=True).map(lambda x: np.array(sorted(x)))


@given(st.lists(some_edges, min_size=1, max_size=4), st.data())
def test_one_state_is_looked_up_as_it_is_among_many(make_table, edges, data):
    values = (
        st.just(NAN) | st.floats(-3, 3) | st.sampled_from([x for e in edges for x in e] + [0.0])
    )
    row = st.lists(values, min_size=len(edges), max_size=len(edges))
    states = np.array(data.draw(st.lists(row, min_size=2, max_size=8)))
    n_cells = int(np.prod(table_shape(edges)))
    table = np.arange(2.0 * n_cells).reshape(n_cells, 2)
    encoder = make_table([0.5, 0.5, 0.5], [0.1]).encoder
    q_function = TableQ(edges, table, table)
    assert q_function.q_values(encoder, states).tolist() == table[cells(edges, states)].tolist()
    for at in range(len(states)):
        one = q_function.q_values(encoder, states[at : at + 1])
        np.testing.assert_array_equal(one, table[cells(edges, states)][at : at + 1], strict=True)


def network_policy(make_table, calibration: Calibration | None):
    """A network of chance over every kind of feature, told ranges that values leave."""
    n, random = len(STATE), np.random.default_rng(5)
    layers = [
        (random.normal(size=(6, 2 * n)), random.normal(size=6)),
        (20 * random.normal(size=(2, 6)), random.normal(size=2)),
    ]
    base = make_table([0.5, 0.5, 0.5], [0.1])
    encoder = replace(
        base.encoder,
        state=parse_state(STATE),
        **{name: np.full(n, x) for name, x in (("center", 0.2), ("scale", 0.3), ("low", 0.0))},
        high=np.full(n, 0.7),
        directions=directions_of(parse_state(STATE), {}),
    )
    network = NetworkQ(layers, Bounds.of(Rewards(), 6))
    policy = replace(base, encoder=encoder, q_function=network)
    return replace(policy, calibration=calibration)


shares = st.none() | st.floats(0, 1)
rows = st.fixed_dictionaries(
    {
        "error_rate": shares,
        "control_error_rate": shares,
        "latency": st.none() | st.floats(0, 50),
        "requests": st.none() | st.integers(0, 100),
        "planned_steps": st.none() | st.integers(1, 6),
    }
)
releases = st.tuples(st.lists(rows, max_size=3), st.lists(rows, min_size=1, max_size=6))


@settings(max_examples=60)
@given(releases, st.booleans(), calibrations)
def test_an_explanation_starts_from_what_was_decided(make_table, release, timed, calibration):
    """An explanation weighs the newest observation in arrays, from what was remembered before."""
    baseline, canary = release
    rollout = network_policy(make_table, calibration).begin()
    rollout.observe_all([{**row, "phase": "baseline"} for row in baseline])
    for step, row in enumerate(canary):
        rollout.observe({**row, "timestamp": 60.0 * step if timed else None})
        said, newest = rollout.decide(), rollout.newest
        assert newest is not None
        again = newest.past.take_in(rollout.policy, newest.reading)
        np.testing.assert_array_equal(again.features, newest.weighed.features, strict=True)
        np.testing.assert_allclose(again.q_values[0], list(said.q_values.values()), rtol=1e-9)
        assert again.pauses_running[0] == newest.weighed.pauses_running[0]
        assert again.is_last[0] == newest.weighed.is_last[0]
        assert again.preferred.reasons[0] == newest.weighed.preferred.reasons[0]
