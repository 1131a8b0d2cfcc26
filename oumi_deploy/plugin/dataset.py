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

"""Deployment episodes as an Oumi dataset."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import datasets
import pandas as pd
import pyarrow as pa
from datasets.table import InMemoryTable
from oumi.core.datasets.base_map_dataset import BaseMapDataset
from oumi.core.registry import register_dataset

from oumi_deploy.episodes.packed import Episodes, read_episodes
from oumi_deploy.episodes.rows import to_rows
from oumi_deploy.episodes.sample import generate_sample
from oumi_deploy.errors import DeployError
from oumi_deploy.plugin.errors import as_config_error

DATASET_NAME = "deployment_episodes"


@register_dataset(DATASET_NAME)
class DeploymentEpisodes(BaseMapDataset):
    """A file of deployment episodes, or a generated sample; one row an episode.

    Config:
        datasets:
          - dataset_name: deployment_episodes
            dataset_path: releases.parquet        # or, without it, a generated sample:
            dataset_kwargs:
              generate: {count: 2000, seed: 7, parameters: {bad_share: 0.3}}

    The state of the trainer says which columns are used. Where memory is short, `metrics` in
    `dataset_kwargs` keeps some of them only, as in `metrics: [error_rate, cpu_usage]`.
    """

    def __init__(
        self,
        *,
        dataset_name: str | None = None,
        dataset_path: str | None = None,
        metrics: Sequence[str] | None = None,
        generate: Mapping[str, Any] | None = None,
        split: str | None = None,
        subset: str | None = None,
        tokenizer: Any = None,
        trust_remote_code: bool = False,
        transform_num_workers: str | int | None = None,
        **unknown: Any,
    ):
        """Reads or generates the episodes.

        Args:
            dataset_name: Name in the registry.
            dataset_path: Episode file (Parquet, CSV or JSON Lines).
            metrics: Metrics to keep, with their control values; every numeric column if None.
            generate: `count`, `seed` and optionally `parameters` of a generated sample, for where
                no file is given; a file goes before it.
            split: Ignored; a file is one split.
            subset: Ignored.
            tokenizer: Ignored; episodes are not text.
            trust_remote_code: Ignored; nothing is downloaded.
            transform_num_workers: Ignored; rows are handed over as Arrow columns.
            **unknown: Refused by name.

        Raises:
            DeployConfigError: If an argument is unknown or impossible, or the file is not valid.
        """
        del split, subset, tokenizer, trust_remote_code, transform_num_workers
        super().__init__(dataset_name=dataset_name or DATASET_NAME, dataset_path=dataset_path)
        with as_config_error():
            if unknown:
                raise DeployError(
                    f"dataset_kwargs: unknown {', '.join(unknown)}; there are metrics and generate"
                )
            if isinstance(metrics, str) or not isinstance(metrics, Sequence | None):
                raise DeployError(f"dataset_kwargs: metrics: expected a list, got {metrics!r}")
            self._rows = to_rows(load_episodes(dataset_path, generate), metrics)

    def __len__(self) -> int:
        """Returns the number of episodes."""
        return self._rows.num_rows

    @property
    def data(self) -> pd.DataFrame:
        """The rows as a data frame, one an episode."""
        return self._rows.to_pandas()

    def raw(self, idx: int) -> pd.Series:
        """Returns one episode's row."""
        return pd.Series(self._rows.slice(range(len(self))[idx], 1).to_pylist()[0])

    def transform(self, sample: pd.Series) -> dict:
        """Returns the row as it is: encoding it is the trainer's, which knows the state."""
        return sample.to_dict()

    def to_hf(self, return_iterable: bool = False) -> datasets.Dataset | datasets.IterableDataset:
        """Hands the Arrow columns over as they are, which takes no time a row."""
        dataset = as_dataset(self._rows)
        return dataset.to_iterable_dataset() if return_iterable else dataset


def load_episodes(path: str | None, generate: Mapping[str, Any] | None) -> Episodes:
    """Reads a file of episodes, or generates a sample where no file is given.

    Raises:
        DeployError: If neither is given, or what is given cannot be used.
    """
    if path is not None:
        return read_episodes(path)
    if generate is None:
        raise DeployError(
            "name an episode file as dataset_path, or a sample's count and seed under generate"
        )
    _require_mapping("generate", generate)
    unknown = set(map(str, generate)) - {"count", "seed", "parameters"}
    if unknown:
        raise DeployError(
            f"generate: unknown {', '.join(sorted(unknown))}; there are count, seed and parameters"
        )
    parameters = generate.get("parameters") or {}
    _require_mapping("generate.parameters", parameters)
    for name, least in (("count", 1), ("seed", 0)):
        value = generate.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DeployError(f"generate.{name}: {value!r} is not a whole number from {least} on")
    return generate_sample(generate["count"], generate["seed"], parameters)


def _require_mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise DeployError(f"{name}: expected names and values, got {value!r}")


def as_dataset(rows: pa.Table) -> datasets.Dataset:
    """Returns rows as a Hugging Face dataset, without copying them."""
    return datasets.Dataset(InMemoryTable(rows))


def rows_of(dataset: Any) -> pa.Table:
    """Returns the rows of what Oumi built from one or more datasets of episodes.

    Raises:
        DeployConfigError: If the dataset does not hold episodes.
    """
    if isinstance(dataset, datasets.Dataset):
        return cast(pa.Table, dataset.with_format("arrow")[:])
    if isinstance(dataset, datasets.IterableDataset):
        # By name: Arrow takes the columns of the first row for those of all.
        rows = list(dataset)
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({name: [row.get(name) for row in rows] for name in names})
    if isinstance(dataset, DeploymentEpisodes):
        return dataset._rows
    with as_config_error():
        raise DeployError(
            f"data: expected datasets of episodes, got {type(dataset).__name__}; "
            f"set dataset_name: {DATASET_NAME}, and leave use_torchdata and pack off"
        )
    raise AssertionError
