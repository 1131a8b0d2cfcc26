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

"""A seeded generator of realistic canary releases, good and bad, as an episode table."""

import contextlib
import dataclasses
import numbers
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from oumi_deploy.episodes.faults import (
    DISTURBANCES,
    FAULTS,
    Array,
    Cases,
    FaultParameters,
    Pair,
    Signals,
    add_disturbances,
    add_faults,
    lose_values,
    within,
)
from oumi_deploy.errors import DeployError
from oumi_deploy.files import replace_when_done

EPISODES_PER_CHUNK = 5_000

_SERVICES = ("cart", "checkout", "identity", "inventory", "payments", "pricing", "search", "web")
_FIRST_DAY = 1_735_689_600  # 2025-01-01, the first of the days on which releases happen
_DAY = 86_400
# How canary_share rises; a ramp that stays below 1 keeps the old version for comparison.
_RAMPS = np.array(
    [(0.1, 0.25, 0.5, 1.0), (0.05, 0.2, 0.5, 1.0), (0.1, 0.2, 0.35, 0.5), (0.05, 0.1, 0.25, 0.5)]
)


@dataclasses.dataclass(frozen=True)
class ReleaseParameters(FaultParameters):
    """What releases look like; see also the faults' parameters. Pairs are ranges.

    Attributes:
        bad_share: Share 0..1 of bad releases.
        baseline_steps: Observations (>= 0) before the change.
        canary_steps: Observations (>= 1) planned, and delivered, after the change.
        interval_seconds: Seconds (> 0) between observations.
        group_size: Releases (>= 1) of one release train.
        requests_per_minute: Usual requests per minute (> 0) to all versions of a service.
        base_error_rate: Share 0..1 of requests that fail in the old version.
        base_memory: Usual memory use, as share of the limit.
        base_cpu: Usual CPU use, as share of the limit.
        base_latency: Usual latency in seconds (> 0).
        base_unready: Share 0..1 of pods that are usually not ready.

    Raises:
        DeployError: If a value is outside its range; the message names the field.
    """

    bad_share: float = field(default=0.22, metadata=within(0, 1))
    baseline_steps: tuple[int, int] = field(default=(5, 15), metadata=within(0, 10_000))
    canary_steps: tuple[int, int] = field(default=(10, 30), metadata=within(1, 10_000))
    interval_seconds: float = field(default=60.0, metadata=within(0.001, 86_400))
    group_size: tuple[int, int] = field(default=(1, 4), metadata=within(1, 1_000))
    requests_per_minute: Pair = field(default=(200.0, 10_000.0), metadata=within(0.1, 1e6))
    base_error_rate: Pair = field(default=(0.0005, 0.015), metadata=within(1e-9, 1))
    base_memory: Pair = field(default=(0.35, 0.6), metadata=within(0, 1))
    base_cpu: Pair = field(default=(0.2, 0.42), metadata=within(0, 1))
    base_latency: Pair = field(default=(0.03, 0.5), metadata=within(1e-6, 1e6))
    base_unready: Pair = field(default=(0.0002, 0.004), metadata=within(1e-9, 1))

    def __post_init__(self) -> None:
        for parameter in dataclasses.fields(self):
            _check_range(parameter, getattr(self, parameter.name))
        if not sum(self.fault_weights()) > 0:
            raise DeployError("error_spike_weight and the other weights are all 0: set one above 0")

    def fault_weights(self) -> list[float]:
        """The weights of the faults, in the order of FAULTS."""
        return [getattr(self, f"{name}_weight") for name in FAULTS]


def _check_range(parameter: dataclasses.Field, value: Any) -> None:
    low, high = parameter.metadata["bounds"]
    if not isinstance(parameter.default, tuple):
        good, wanted = _all_within([value], numbers.Real, low, high), "a number"
    else:
        whole = isinstance(parameter.default[0], int)
        good = (
            isinstance(value, tuple | list)
            and len(value) == 2
            and _all_within(value, numbers.Integral if whole else numbers.Real, low, high)
            and value[0] <= value[1]
        )
        wanted = f"two {'whole ' if whole else ''}numbers, low and high,"
    if not good:
        raise DeployError(f"{parameter.name} is {value!r}: give {wanted} from {low:g} to {high:g}")


def _all_within(values: Sequence[Any], kind: type, low: float, high: float) -> bool:
    return all(isinstance(value, kind) and low <= value <= high for value in values)


DEFAULTS = ReleaseParameters()


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is settled about each release of a chunk before it starts; columns are (n, 1)."""

    train: NDArray[np.int64]  # (n,) number of the release train within the chunk
    fault: NDArray[np.int64]  # (n,) index into FAULTS, -1 for a good release
    disturbed: dict[str, NDArray[np.bool_]]  # (n,) by the name of the disturbance
    service: NDArray[np.int64]  # (n,) index into _SERVICES
    production: NDArray[np.bool_]  # (n,)
    baseline: Array
    canary: Array
    start: Array  # Unix seconds
    traffic: Array  # requests per minute
    pods: Array
    ramp: Array  # (n, stages)
    errors: Array
    memory: Array
    cpu: Array
    latency: Array
    unready: Array
    noise: Array  # factor on all noise


def _log_uniform(rng: np.random.Generator, limits: Pair, size: tuple[int, ...]) -> Array:
    return np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]), size))


def _plan_releases(parameters: ReleaseParameters, rng: np.random.Generator) -> _Plan:
    n = EPISODES_PER_CHUNK
    sizes = rng.integers(*parameters.group_size, n, endpoint=True)
    train = np.repeat(np.arange(n), sizes)[:n]
    # One column for each train, repeated for its releases, which vary a little around it.
    of_train = train[:, None]
    column = (n, 1)
    disturbed = {
        name: rng.random(n) < getattr(parameters, f"{name}_probability") for name in DISTURBANCES
    }
    weights = np.array(parameters.fault_weights()) / sum(parameters.fault_weights())
    fault = rng.choice(len(FAULTS), n, p=weights)
    traffic = _log_uniform(rng, parameters.requests_per_minute, column)[train]
    low = _log_uniform(rng, parameters.low_traffic_requests, column)
    service = (rng.integers(0, len(_SERVICES), n)[train] + rng.integers(0, 2, n)) % len(_SERVICES)
    return _Plan(
        train=train,
        fault=np.where(rng.random(n) < parameters.bad_share, fault, -1),
        disturbed=disturbed,
        service=service,
        production=(rng.random(n) < 0.8)[train],
        baseline=rng.integers(*parameters.baseline_steps, column, endpoint=True).astype(float),
        canary=rng.integers(*parameters.canary_steps, column, endpoint=True).astype(float),
        start=_FIRST_DAY
        + _DAY * rng.integers(0, 365, column)[train]
        + 60.0 * rng.integers(7 * 60, 18 * 60, column),
        traffic=np.where(disturbed["low_traffic"][:, None], low, traffic),
        pods=rng.integers(4, 60, column)[train].astype(float),
        ramp=_RAMPS[rng.integers(0, len(_RAMPS), n)[train]],
        errors=_log_uniform(rng, parameters.base_error_rate, column)[train]
        * rng.lognormal(0, 0.2, column),
        memory=rng.uniform(*parameters.base_memory, column)[train] + rng.normal(0, 0.02, column),
        cpu=rng.uniform(*parameters.base_cpu, column)[train] + rng.normal(0, 0.02, column),
        latency=_log_uniform(rng, parameters.base_latency, column)[train],
        unready=_log_uniform(rng.spawn(1)[0], parameters.base_unready, column)[train],
        noise=rng.uniform(0.6, 1.6, (len(of_train), 1))[train],
    )


def _version_signals(plan: _Plan, load: Array, rng: np.random.Generator) -> Signals:
    """The undisturbed signals of one version under a load of usually 1, with natural noise."""

    def noise(size: float) -> Array:
        return rng.standard_normal(load.shape) * (size * plan.noise)

    return Signals(
        errors=plan.errors * np.exp(noise(0.25)),
        memory=plan.memory + noise(0.012),
        cpu=plan.cpu * load + noise(0.025),
        unready=plan.unready * np.exp(noise(0.25)),
        slowdown=0.3 * (load - 1) + noise(0.06),
    )


def _metrics(
    plan: _Plan, signals: Signals, traffic: Array, pods: Array, rng: np.random.Generator
) -> dict[str, Array]:
    """What is measured of one version whose pods get `traffic` requests on average."""
    requests = rng.poisson(traffic)
    failed = rng.binomial(requests, np.clip(signals.errors, 0, 0.99))
    error_rate: Array = np.full(traffic.shape, np.nan)
    np.divide(failed, requests, out=error_rate, where=requests > 0)
    # From a stream of its own: how pods are probed does not change what requests met.
    unready = rng.spawn(1)[0].binomial(pods.astype(int), np.clip(signals.unready, 0, 1))
    measured: dict[str, Array] = {
        "latency": plan.latency * np.maximum(1 + signals.slowdown, 0.2),
        "memory_usage": np.maximum(signals.memory, 0.01),
        "cpu_usage": np.clip(signals.cpu, 0.01, 1.05),
        "health_score": 1 - unready / pods,
    }
    rounded = {name: np.round(values, 5) for name, values in measured.items()}
    return {"requests": requests.astype(float), "error_rate": error_rate} | rounded


def _pods(plan: _Plan, share: Array) -> Array:
    """The pods that run a version which has a share of the traffic, at least one."""
    return np.maximum(np.ceil(plan.pods * share), 1)


def _observe(
    plan: _Plan, parameters: ReleaseParameters, rng: np.random.Generator
) -> dict[str, Array]:
    """All numbers of the table, each (releases, longest release); shorter ones to be cut."""
    step = np.arange((plan.baseline + plan.canary).max())[None, :]
    since_canary = step - plan.baseline
    seconds = plan.start + step * parameters.interval_seconds
    daily = 1 + 0.3 * np.sin(2 * np.pi * (seconds % _DAY / _DAY - 0.3))
    load = daily * np.exp(rng.normal(0, 0.05, since_canary.shape))
    stage = np.clip(since_canary / plan.canary * plan.ramp.shape[1], 0, plan.ramp.shape[1] - 1)
    share = np.take_along_axis(plan.ramp, stage.astype(int), axis=1) * (since_canary >= 0)

    old = _version_signals(plan, 0.6 + 0.4 * load, rng)
    new = _version_signals(plan, 0.6 + 0.4 * load, rng)
    cases = Cases(since_canary, plan.canary, parameters, rng)
    add_disturbances(new, old, plan.disturbed, cases)
    gaps = add_faults(new, plan.fault, cases)

    traffic = plan.traffic * load * (parameters.interval_seconds / 60)
    on_new = np.where(since_canary < 0, 1, share)
    pods = _pods(plan, on_new)
    metrics = _metrics(plan, new, traffic * on_new, pods, rng) | {"n_pods": pods}
    control = _metrics(plan, old, traffic * (1 - share), _pods(plan, 1 - share), rng)
    del control["requests"]
    for values in metrics.values():
        values[gaps] = np.nan
    for values in control.values():
        values[(share == 0) | (share == 1)] = np.nan
    metrics |= {f"control_{name}": values for name, values in control.items()}
    lose_values(metrics, plan.disturbed["lost_telemetry"], cases)
    return {"timestamp": seconds, "canary_share": share} | metrics


def _names(plan: _Plan, seed: int, chunk: int) -> dict[str, NDArray[np.object_]]:
    """The texts of each release, (n,) by column."""
    numbers_ = range(chunk * EPISODES_PER_CHUNK, (chunk + 1) * EPISODES_PER_CHUNK)
    kinds = np.full(len(plan.fault), "none", dtype=object)
    for name in reversed(DISTURBANCES):
        kinds[plan.disturbed[name]] = name
    bad = plan.fault >= 0
    kinds[bad] = np.array(FAULTS, dtype=object)[plan.fault[bad]]
    return {
        "episode_id": np.array([f"release-{seed}-{i:07d}" for i in numbers_], dtype=object),
        "group": np.array([f"train-{seed}-{chunk}-{i}" for i in plan.train], dtype=object),
        "service": np.array(_SERVICES, dtype=object)[plan.service],
        "version": np.array([f"1.{i // 100}.{i % 100}" for i in numbers_], dtype=object),
        "environment": np.where(plan.production, "production", "staging").astype(object),
        "label": np.where(bad, "bad", "good").astype(object),
        "fault_type": kinds,
    }


def _generate_chunk(
    count: int, seed: int, chunk: int, parameters: ReleaseParameters
) -> pd.DataFrame:
    """The first `count` episodes of a chunk, in the order of the columns of the table."""
    rng = np.random.default_rng([seed, chunk])
    plan = _plan_releases(parameters, rng)
    values = _observe(plan, parameters, rng)
    lengths = (plan.baseline + plan.canary).astype(int)[:count]
    step = np.broadcast_to(np.arange(lengths.max()), (count, lengths.max()))
    kept = step < lengths
    release = np.repeat(np.arange(count), lengths[:, 0])
    steps = step[kept]
    in_canary = steps >= plan.baseline[release, 0]
    text = {name: names[release] for name, names in _names(plan, seed, chunk).items()}
    number = {name: array[:count, : step.shape[1]][kept] for name, array in values.items()}
    label, fault_type = text.pop("label"), text.pop("fault_type")
    identity = {"episode_id": text.pop("episode_id"), "step": steps}
    identity["timestamp"] = number.pop("timestamp")
    progress = {
        "phase": np.where(in_canary, "canary", "baseline").astype(object),
        "canary_share": number.pop("canary_share"),
        "planned_steps": plan.canary.astype(int)[release, 0],
    }
    truth = {"label": label, "fault_type": fault_type}
    return pd.DataFrame(identity | text | progress | number | truth)


def _chunks(count: int, seed: int, parameters: ReleaseParameters) -> Iterator[pd.DataFrame]:
    for chunk in range(-(-count // EPISODES_PER_CHUNK)):
        left = count - chunk * EPISODES_PER_CHUNK
        yield _generate_chunk(min(left, EPISODES_PER_CHUNK), seed, chunk, parameters)


def stream_episodes(
    count: int, seed: int, parameters: ReleaseParameters = DEFAULTS
) -> Iterator[pd.DataFrame]:
    """Generates episode tables of at most EPISODES_PER_CHUNK episodes, one after the other.

    An episode depends on the seed, its number and the parameters alone, not on `count`.

    Args:
        count: How many episodes, >= 1.
        seed: Seed of the random numbers, >= 0.
        parameters: What the releases look like.

    Returns:
        Tables in the long form of the project, one row for each observation.

    Raises:
        DeployError: If `count` or `seed` is out of range.
    """
    if count < 1:
        raise DeployError(f"count is {count}: ask for at least one episode")
    if seed < 0:
        raise DeployError(f"seed is {seed}: give a whole number of at least 0")
    return _chunks(count, seed, parameters)


def generate_episodes(
    count: int, seed: int, parameters: ReleaseParameters = DEFAULTS
) -> pd.DataFrame:
    """Generates one episode table; see `stream_episodes`, whose tables it joins."""
    return pd.concat(stream_episodes(count, seed, parameters), ignore_index=True)


def write_episodes(
    path: str | os.PathLike[str],
    count: int,
    seed: int,
    parameters: ReleaseParameters = DEFAULTS,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Generates episodes into a Parquet file, in memory that does not grow with `count`.

    Args:
        path: The file to write.
        count: How many episodes, >= 1.
        seed: Seed of the random numbers, >= 0.
        parameters: What the releases look like.
        overwrite: Whether an existing file may be replaced.
        progress: Called with the number of episodes just done.

    Raises:
        DeployError: If `count` or `seed` is out of range, or the file cannot be written.
    """
    if Path(path).suffix != ".parquet":
        raise DeployError(f"{path}: generated episodes are Parquet; name a .parquet file")
    tables = stream_episodes(count, seed, parameters)
    with replace_when_done(path, overwrite=overwrite) as draft, contextlib.ExitStack() as stack:
        writer = None
        for table in tables:
            batch = pa.Table.from_pandas(table, preserve_index=False)
            if writer is None:
                writer = stack.enter_context(_open_writer(draft, batch.schema))
            writer.write_table(batch)
            if progress is not None:
                progress(len(table["episode_id"].unique()))


def _open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Few different texts fill long columns; numbers gain nothing from a dictionary.
    texts: Any = [column.name for column in schema if pa.types.is_string(column.type)]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=texts)
