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

"""What goes wrong in and around a release: the shapes of faults and disturbances.

A fault belongs to the new version of a bad release and stays. A disturbance can hit good and
bad releases alike and proves nothing. Both are drawn for many releases at once, as additions
to the signals of the new or the old version; arrays are (releases, observations).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pair = tuple[float, float]

FAULTS = ("error_spike", "error_creep", "memory_leak", "cpu_saturation", "crash_loop", "not_ready")
DISTURBANCES = ("warm_up", "noisy_neighbour", "lost_telemetry", "low_traffic", "level_change")

# Above this share of its limit a process spends its time collecting garbage, then is killed.
_MEMORY_PRESSURE = 0.94
_MEMORY_CEILING = 1.06


def within(low: float, high: float) -> dict[str, Pair]:
    """Metadata of a dataclass field whose number, or pair low..high, must lie in low..high."""
    return {"bounds": (low, high)}


@dataclasses.dataclass(frozen=True)
class FaultParameters:
    """How often faults and disturbances come, how early and how hard; pairs are ranges.

    Attributes:
        error_spike_weight: Weight (>= 0) among bad releases; likewise the next five.
        error_creep_weight: Weight of slowly growing errors.
        memory_leak_weight: Weight of memory that climbs to its limit.
        cpu_saturation_weight: Weight of CPU use that rises to its limit.
        crash_loop_weight: Weight of pods that restart again and again.
        not_ready_weight: Weight of pods that hang and get no requests: health alone shows it.
        onset: Start of a fault, as share 0..1 of the planned canary.
        late_share: Share 0..1 of faults that start late.
        late_onset: Start of a late fault, as share 0..1 of the planned canary.
        severity: Strength (> 0, to 1) of a fault, as a factor on the full sizes below.
        mild_share: Share 0..1 of bad releases whose fault is mild.
        mild_severity: Strength (> 0, to 1) of a mild fault.
        error_spike_rate: Share 0..1 of requests a spike at full strength lets fail.
        error_creep_rate: Share 0..1 of requests that fail after one planned canary of creep.
        memory_leak_duration: Planned canaries (> 0) a full leak takes to fill the memory.
        cpu_saturation_rise: CPU use added by a full saturation, as share of the limit.
        crash_loop_rate: Share 0..1 of requests a full crash loop lets fail.
        warm_up_probability: Probability 0..1 of a start with cold caches.
        warm_up_rate: Share 0..1 of requests that fail in its first observation.
        warm_up_steps: Observations (> 0) in which a warm-up falls to a third.
        noisy_neighbour_probability: Probability 0..1 of load that hits old and new alike.
        noisy_neighbour_rate: Share 0..1 of requests it lets fail.
        noisy_neighbour_steps: Its duration in observations (> 0).
        level_change_probability: Probability 0..1 of a harmless lasting change of level.
        level_change_memory: That change in memory use, as share of the limit (may be < 0).
        level_change_cpu: That change in CPU use, as share of the limit (may be < 0).
        level_change_rate: That change in the share 0..1 of failing requests.
        lost_telemetry_probability: Probability 0..1 of one stretch of missing values.
        lost_telemetry_steps: Its duration in observations (> 0).
        missing_probability: Probability 0..1 that a single value is missing.
        low_traffic_probability: Probability 0..1 of a service with hardly any traffic.
        low_traffic_requests: Requests per minute (> 0) of all versions of such a service.
    """

    error_spike_weight: float = field(default=0.28, metadata=within(0, 1e6))
    error_creep_weight: float = field(default=0.18, metadata=within(0, 1e6))
    memory_leak_weight: float = field(default=0.15, metadata=within(0, 1e6))
    cpu_saturation_weight: float = field(default=0.15, metadata=within(0, 1e6))
    crash_loop_weight: float = field(default=0.24, metadata=within(0, 1e6))
    not_ready_weight: float = field(default=0.0, metadata=within(0, 1e6))
    onset: Pair = field(default=(0.0, 0.35), metadata=within(0, 1))
    late_share: float = field(default=0.15, metadata=within(0, 1))
    late_onset: Pair = field(default=(0.4, 0.9), metadata=within(0, 1))
    severity: Pair = field(default=(0.5, 1.0), metadata=within(0.001, 1))
    mild_share: float = field(default=0.25, metadata=within(0, 1))
    mild_severity: Pair = field(default=(0.03, 0.2), metadata=within(0.001, 1))
    error_spike_rate: Pair = field(default=(0.04, 0.25), metadata=within(0, 1))
    error_creep_rate: Pair = field(default=(0.05, 0.25), metadata=within(0, 1))
    memory_leak_duration: Pair = field(default=(0.35, 0.9), metadata=within(0.01, 100))
    cpu_saturation_rise: Pair = field(default=(0.4, 0.65), metadata=within(0, 2))
    crash_loop_rate: Pair = field(default=(0.2, 0.5), metadata=within(0, 1))
    warm_up_probability: float = field(default=0.25, metadata=within(0, 1))
    warm_up_rate: Pair = field(default=(0.01, 0.1), metadata=within(0, 1))
    warm_up_steps: Pair = field(default=(0.7, 2.0), metadata=within(0.01, 100))
    noisy_neighbour_probability: float = field(default=0.15, metadata=within(0, 1))
    noisy_neighbour_rate: Pair = field(default=(0.005, 0.05), metadata=within(0, 1))
    noisy_neighbour_steps: Pair = field(default=(3.0, 9.0), metadata=within(1, 10_000))
    level_change_probability: float = field(default=0.35, metadata=within(0, 1))
    level_change_memory: Pair = field(default=(-0.05, 0.15), metadata=within(-1, 1))
    level_change_cpu: Pair = field(default=(-0.03, 0.12), metadata=within(-1, 1))
    level_change_rate: Pair = field(default=(0.0, 0.02), metadata=within(0, 1))
    lost_telemetry_probability: float = field(default=0.12, metadata=within(0, 1))
    lost_telemetry_steps: Pair = field(default=(2.0, 8.0), metadata=within(1, 10_000))
    missing_probability: float = field(default=0.01, metadata=within(0, 1))
    low_traffic_probability: float = field(default=0.08, metadata=within(0, 1))
    low_traffic_requests: Pair = field(default=(15.0, 60.0), metadata=within(0.1, 1e6))


@dataclasses.dataclass
class Signals:
    """What drives the metrics of one version; every array is (releases, observations).

    Attributes:
        errors: Probability that a request fails.
        memory: Share of the memory limit.
        cpu: Share of the CPU limit.
        unready: Share of the pods that are not ready.
        slowdown: Latency above the service's usual one, as share of it.
    """

    errors: Array
    memory: Array
    cpu: Array
    unready: Array
    slowdown: Array

    def add(self, other: "Signals", rows: NDArray[np.intp]) -> None:
        """Adds the signals of `other` (one row for each of `rows`) to the releases `rows`."""
        for part in dataclasses.fields(self):
            getattr(self, part.name)[rows] += getattr(other, part.name)


@dataclasses.dataclass(frozen=True)
class Cases:
    """Releases to which something happens, and the random numbers that size it.

    Attributes:
        since: Observations since it began (at first: the canary), negative before.
        planned: Planned canary observations, (releases, 1).
        parameters: The ranges to draw from.
        rng: The source of random numbers.
    """

    since: Array
    planned: Array
    parameters: FaultParameters
    rng: np.random.Generator

    def draw(self, limits: Pair) -> Array:
        """One number of the range for each release, (releases, 1)."""
        return self.rng.uniform(*limits, self.planned.shape)

    def chance(self, probability: float) -> NDArray[np.bool_]:
        """True with this probability for each release, (releases, 1)."""
        return self.rng.random(self.planned.shape) < probability

    def of(self, rows: NDArray[np.intp]) -> "Cases":
        """The releases `rows` alone."""
        return dataclasses.replace(self, since=self.since[rows], planned=self.planned[rows])

    def starting(self, start: Array) -> "Cases":
        """Counted from `start`, (releases, 1) in units of the planned canary, instead."""
        return dataclasses.replace(self, since=self.since - np.floor(start * self.planned))


def _error_spike(cases: Cases, severity: Array, memory: Array) -> Signals:
    errors = (cases.since >= 0) * cases.draw(cases.parameters.error_spike_rate) * severity
    # A pod that answers with errors still answers its probe.
    return Signals(errors, 0 * memory, 0.1 * errors, 0 * errors, 1.5 * errors)


def _error_creep(cases: Cases, severity: Array, memory: Array) -> Signals:
    rate = cases.draw(cases.parameters.error_creep_rate) * severity
    errors = np.maximum(cases.since, 0) / cases.planned * rate
    return Signals(errors, 0 * memory, 0.1 * errors, 0 * errors, 1.5 * errors)


def _memory_leak(cases: Cases, severity: Array, memory: Array) -> Signals:
    # A mild leak is slower, but not so slow that it is lost in the noise of one canary.
    duration = cases.draw(cases.parameters.memory_leak_duration) / np.sqrt(severity)
    slope = (1 - memory) / (duration * cases.planned)
    climb = np.minimum(np.maximum(cases.since, 0) * slope, _MEMORY_CEILING - memory)
    excess = (memory + climb - _MEMORY_PRESSURE) / 0.025
    pressure = (cases.since >= 0) / (1 + np.exp(-excess))
    return Signals(0.2 * pressure, climb, 0.4 * pressure, 0.4 * pressure, 1.5 * pressure)


def _cpu_saturation(cases: Cases, severity: Array, memory: Array) -> Signals:
    queue = severity * (1 - np.exp(-np.maximum(cases.since + 1, 0) / 2))
    errors = queue**2 * cases.draw((0.05, 0.25))
    held = queue * np.minimum(cases.draw((0.1, 0.4)), 1 - memory)
    rise = queue * cases.draw(cases.parameters.cpu_saturation_rise)
    return Signals(errors, held, rise, 0.45 * queue**2, 2.5 * queue**2)


def _crash_loop(cases: Cases, severity: Array, memory: Array) -> Signals:
    """Pods fill their memory while starting, answer badly, die, and start again."""
    period = cases.draw((3.0, 6.0))
    cycle = np.mod(cases.since, period) / period
    down = severity * (cases.since >= 0) * (1 - 0.5 * cycle)
    held = down * np.minimum(cases.draw((0.3, 0.65)), 1 - memory)
    cpu = down * cases.draw((0.4, 0.75))
    errors = down * cases.draw(cases.parameters.crash_loop_rate)
    return Signals(errors, held, cpu, 0.7 * down, 1.2 * down)


def _not_ready(cases: Cases, severity: Array, memory: Array) -> Signals:
    """Pods stop answering their probe; what is left of them serves the requests."""
    unready = (cases.since >= 0) * severity
    return Signals(0 * unready, 0 * memory, 0 * unready, unready, 0.3 * unready)


_SHAPES: dict[str, Callable[[Cases, Array, Array], Signals]] = {
    "error_spike": _error_spike,
    "error_creep": _error_creep,
    "memory_leak": _memory_leak,
    "cpu_saturation": _cpu_saturation,
    "crash_loop": _crash_loop,
    "not_ready": _not_ready,
}


def add_faults(new: Signals, faults: NDArray[np.int64], cases: Cases) -> NDArray[np.bool_]:
    """Adds to the new version of each bad release its fault.

    Args:
        new: Signals of the new version, changed in place.
        faults: For each release an index into FAULTS, or -1 for a good release.
        cases: The releases, counted from the start of the canary.

    Returns:
        Where a crashed new version reports nothing, (releases, observations).
    """
    ranges = cases.parameters
    late, mild = cases.chance(ranges.late_share), cases.chance(ranges.mild_share)
    onset = np.where(late, cases.draw(ranges.late_onset), cases.draw(ranges.onset))
    severity = np.where(mild, cases.draw(ranges.mild_severity), cases.draw(ranges.severity))
    faulty = cases.starting(onset)
    for code, name in enumerate(FAULTS):
        rows = np.flatnonzero(faults == code)
        new.add(_SHAPES[name](faulty.of(rows), severity[rows], new.memory[rows]), rows)
    crashing = (faults == FAULTS.index("crash_loop"))[:, None] & (faulty.since >= 0)
    return crashing & (cases.rng.random(crashing.shape) < 0.2 * severity)


def add_disturbances(
    new: Signals, old: Signals, disturbed: dict[str, NDArray[np.bool_]], cases: Cases
) -> None:
    """Adds what proves nothing to the releases that `disturbed` marks, (releases,) by name.

    Low traffic and lost telemetry do not show in the signals and are left to the measurement.
    """
    rows = {name: np.flatnonzero(marks) for name, marks in disturbed.items()}
    new.add(_level_change(cases.of(rows["level_change"])), rows["level_change"])
    new.add(_warm_up(cases.of(rows["warm_up"])), rows["warm_up"])
    load = _noisy_neighbour(cases.of(rows["noisy_neighbour"]))
    new.add(load, rows["noisy_neighbour"])
    old.add(load, rows["noisy_neighbour"])


def _level_change(cases: Cases) -> Signals:
    canary = (cases.since >= 0).astype(float)
    # A larger cache fills over some minutes and then stays: not every climb is a leak.
    filled = canary * (1 - np.exp(-np.maximum(cases.since, 0) / cases.draw((0.2, 8.0))))
    memory = filled * cases.draw(cases.parameters.level_change_memory)
    cpu = canary * cases.draw(cases.parameters.level_change_cpu)
    errors = canary * cases.draw(cases.parameters.level_change_rate)
    return Signals(errors, memory, cpu, 0 * errors, canary * cases.draw((-0.1, 0.2)))


def _warm_up(cases: Cases) -> Signals:
    decay = cases.draw(cases.parameters.warm_up_steps)
    cold: Array = np.where(cases.since >= 0, np.exp(-np.maximum(cases.since, 0) / decay), 0)
    errors = cold * cases.draw(cases.parameters.warm_up_rate)
    return Signals(errors, 0 * cold, cold * cases.draw((0.05, 0.35)), 0.1 * cold, 1.5 * cold)


def _noisy_neighbour(cases: Cases) -> Signals:
    # It may have begun before the canary, and then shows in the baseline too.
    since = cases.starting(cases.draw((-0.2, 1.0))).since
    length = cases.draw(cases.parameters.noisy_neighbour_steps)
    during = ((since >= 0) & (since < length)).astype(float)
    errors = during * cases.draw(cases.parameters.noisy_neighbour_rate)
    cpu = during * cases.draw((0.1, 0.35))
    return Signals(errors, 0 * errors, cpu, 0.02 * during, during * cases.draw((0.3, 1.5)))


def lose_values(metrics: dict[str, Array], disturbed: NDArray[np.bool_], cases: Cases) -> None:
    """Sets values to missing, in place: singly at random, and in stretches where `disturbed`.

    A stretch takes all metrics of a release or about half of them.
    """
    since = cases.starting(cases.draw((0.0, 1.0))).since
    during = (since >= 0) & (since < cases.draw(cases.parameters.lost_telemetry_steps))
    during &= disturbed[:, None]
    everything = cases.chance(0.4)
    for values in metrics.values():
        touched = everything | cases.chance(0.5)
        single = cases.rng.random(values.shape, np.float32) < cases.parameters.missing_probability
        values[(during & touched) | single] = np.nan
