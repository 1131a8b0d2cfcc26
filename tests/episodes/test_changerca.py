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

"""The ChangeRCA converter, on a made-up clone and on the real experiments where they are kept.

The made-up clone has seven minutes, m0 to m6, and two services. `shop` is bad: old pods p1, p2,
new pods q1, q2, callers web and kiosk, and it calls bank. `cart` is good: old pod c1, new pod d1,
caller web, and it calls shop. All numbers are invented; the expected ones are worked by hand.
"""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from oumi_deploy.episodes.changerca import COLUMNS, convert_changerca

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "changerca"
START = int(datetime(2031, 5, 6, 7, 8, tzinfo=UTC).timestamp())
NAN = math.nan
POD_HEADER = (
    "Time,Timestamp,SuccessRate,Latency,CPUUsageRate(%),MemoryUsageRate(%),"
    "NodeCpuUsageRate(%),NodeMemoryUsageRate(%)"
)
EXPERIMENT = "2031-05-06_1"
P1_WEB = "shop-v1-aa-p1_web_shop.csv"

# Minute: success, cpu, memory, latency. The header of the files claims another order.
POD_REPORTS = {
    P1_WEB: {
        0: (100, 10, 20, 0.1),
        1: ("NaN", 10, 20, 0.1),
        2: (100, 10, 20, 0.1),
        3: (100, 10, 20, 0.1),  # Between the begin of the release and its first step.
        4: (100, 0, 0, 0.1),  # Going down.
        5: (100, 10, 20, 0.1),  # Deleted at m4.
    },
    "shop-v1-aa-p1_shop_bank.csv": {0: (50, 10, 20, 0.5)},
    "shop-v1-aa-p2_web_shop.csv": {
        0: (90, 30, 60, 0.2),
        1: (90, 30, 60, 0.2),
        2: (90, 30, 60, 0.2),
        3: (90, 30, 60, 0.2),
        4: (90, 30, 60, 0.2),
        5: (35, 50, 150, 0.7),  # The row of q1, but for the success rate.
        6: (35, 50, 150, "NaN"),  # Follows a row of q1.
    },
    "shop-v2-bb-q1_web_shop.csv": {
        5: (40, 50, 150, 0.7),
        6: (40, 50, 150, 0.7),
        7: (40, 50, 150, 0.7),  # After the last step of the experiment.
    },
    "shop-v2-bb-q1_kiosk_shop.csv": {5: (80, 50, 150, 0.3)},
    "shop-v2-bb-q2_web_shop.csv": {6: (100, 10, 50, 0.1)},
    # Deleted at m5, after that minute's report.
    "cart-v1-cc-c1_web_cart.csv": dict.fromkeys(range(7), (100, 40, 50, 0.6)),
    "cart-v2-dd-d1_cart_shop.csv": {4: ("NaN", 0, 0, 0.9), 5: (100, 0, 0, 0.9), 6: (75, 0, 0, "")},
}
# This file is written 45 s into the minute: at m4 that is 15 s after the deletion of p1.
LATE_REPORTS = {"shop-v1-aa-p1_kiosk_shop.csv": {0: (80, 10, 20, 0.3), 4: (80, 10, 20, 0.3)}}


def _at(minute: int, second: int) -> int:
    return START + 60 * minute + second


def _pod_file(reports: dict, second: int) -> str:
    rows = [
        f"some date,{_at(minute, second)},{success},{cpu},{memory},77,88,{latency}"
        for minute, (success, cpu, memory, latency) in reports.items()
    ]
    return "\r\n".join([POD_HEADER, *rows]) + "\r\n"


def _step(complete: int, old: int, new: int, deleted: str) -> dict:
    pods = {"v1": old, "v2": new, "delete_pod": [deleted]}
    return {**pods, "release_complete_timestamp": complete}


def _plan() -> dict:
    second_step = _step(_at(6, 40), 0, 2, "shop-v1-aa-p2")
    first_step = _step(_at(4, 30), 1, 1, "shop-v1-aa-p1")
    cart_step = _step(_at(5, 20), 0, 1, "cart-v1-cc-c1")
    return {
        "plan": {
            "shop": {
                "release_time": _at(3, 10),
                "process": {"1": second_step, "2": first_step},
            },
            "cart": {"release_time": _at(3, 10), "process": {"3": cart_step}},
        },
        "fault": "made-up fault",
        "fault_release_service": "shop",
        "normal_service_list": ["cart"],
    }


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone's root with one made-up experiment."""
    folder = tmp_path / "data" / "2031-05-06" / EXPERIMENT
    folder.mkdir(parents=True)
    (folder / f"{EXPERIMENT}.json").write_text(json.dumps(_plan(), indent=1))
    for second, files in ((5, POD_REPORTS), (45, LATE_REPORTS)):
        for name, reports in files.items():
            (folder / name).write_text(_pod_file(reports, second))
    (folder / "destination_success.csv").write_text(
        "time,timestamp,web_shop,kiosk_shop,shop_bank,web_cart\n"
        f"some date,{_at(0, 59)},96,88,50,100\n"
        f"some date,{_at(5, 1)},70,,50,90\n"
    )
    return tmp_path


def _folder(clone: Path) -> Path:
    return clone / "data" / "2031-05-06" / EXPERIMENT


def _episode(table: pd.DataFrame, service: str) -> pd.DataFrame:
    return table[table["service"] == service].set_index("step")


def _expect(row: pd.Series, **values: float) -> None:
    assert {name: row[name] for name in values} == pytest.approx(values, nan_ok=True)


def test_table_has_the_minutes_of_both_phases_in_utc(clone: Path) -> None:
    table = convert_changerca(clone)

    assert tuple(table.columns) == COLUMNS
    assert table["episode_id"].unique().tolist() == [f"{EXPERIMENT}-cart", f"{EXPERIMENT}-shop"]
    assert set(table["group"]) == {EXPERIMENT}
    for service in ("cart", "shop"):
        episode = _episode(table, service)
        # m3 lies between the begin of the release and its first completed step (shop) or the
        # first row of a new pod (cart); m7 after the last step of the experiment.
        assert episode["timestamp"].tolist() == [_at(minute, 0) for minute in (0, 1, 2, 4, 5, 6)]
        assert episode["phase"].tolist() == 3 * ["baseline"] + 3 * ["canary"]
        assert episode.index.tolist() == list(range(6))
    first = datetime.fromtimestamp(int(table["timestamp"].iloc[0]), UTC)
    assert first == datetime(2031, 5, 6, 7, 8, tzinfo=UTC)


def test_baseline_is_the_mean_over_old_pods_and_callers(clone: Path) -> None:
    shop = _episode(convert_changerca(clone), "shop")

    _expect(
        shop.loc[0],
        error_rate=0.1,  # Of 0 and 0.2 (p1 by web and kiosk) and 0.1 (p2).
        latency=0.2,  # Of 0.1, 0.3 and 0.2 s.
        cpu_usage=0.2,  # Of 0.1 (p1, though it has three files) and 0.3 (p2).
        memory_usage=0.4,
        n_pods=2,
        error_rate_worst_pod=0.2,
        error_rate_outgoing=0.5,
        latency_outgoing=0.5,
        service_error_rate=0.08,  # Of 0.04 (web) and 0.12 (kiosk).
        canary_share=0,
        control_error_rate=NAN,
        control_cpu_usage=NAN,
    )
    # p1 has no success rate at m1, and nobody called bank; the service's file lacks the minute.
    _expect(
        shop.loc[1],
        error_rate=0.1,
        latency=0.15,
        n_pods=2,
        error_rate_outgoing=NAN,
        service_error_rate=NAN,
    )


def test_canary_before_any_new_pod_reports(clone: Path) -> None:
    shop = _episode(convert_changerca(clone), "shop")

    _expect(shop.loc[3], canary_share=0.5, n_pods=0, error_rate=NAN, cpu_usage=NAN, latency=NAN)
    # Only p2 is left: p1 is going down, and its late row is after its deletion.
    _expect(
        shop.loc[3],
        control_error_rate=0.1,
        control_cpu_usage=0.3,
        control_memory_usage=0.6,
        control_latency=0.2,
    )


def test_canary_is_the_new_pods_without_the_copies_of_their_rows(clone: Path) -> None:
    shop = _episode(convert_changerca(clone), "shop")

    _expect(
        shop.loc[4],
        error_rate=0.4,  # Of 0.6 (web) and 0.2 (kiosk).
        error_rate_worst_pod=0.6,
        latency=0.5,
        cpu_usage=0.5,
        memory_usage=1.5,
        n_pods=1,
        canary_share=0.5,
        service_error_rate=0.3,  # Only web's is known.
    )
    _expect(
        shop.loc[5],
        error_rate=0.3,  # Of 0.6 (q1) and 0 (q2).
        error_rate_worst_pod=0.6,
        latency=0.4,
        cpu_usage=0.3,
        memory_usage=1.0,
        n_pods=2,
        canary_share=1,
        service_error_rate=NAN,
    )
    control = shop.loc[4:, shop.columns.str.startswith("control_")]
    assert control.isna().to_numpy().all(), "p1 is deleted, and p2's file has the rows of q1"


def test_new_pod_without_load_stays_and_starts_the_canary_phase(clone: Path) -> None:
    cart = _episode(convert_changerca(clone), "cart")

    # d1 reports at m4, before the first step is complete at m5.
    _expect(
        cart.loc[3],
        canary_share=1,
        n_pods=1,
        cpu_usage=0,
        memory_usage=0,
        error_rate=NAN,
        latency=NAN,
        error_rate_outgoing=NAN,
        latency_outgoing=0.9,
        control_error_rate=0,
        control_cpu_usage=0.4,
        control_memory_usage=0.5,
        control_latency=0.6,
    )
    _expect(cart.loc[4], error_rate_outgoing=0, control_latency=0.6, service_error_rate=0.1)
    _expect(cart.loc[5], error_rate_outgoing=0.25, latency_outgoing=NAN, control_latency=NAN)


def test_labels_and_telemetry(clone: Path) -> None:
    table = convert_changerca(clone)

    shop, cart = _episode(table, "shop"), _episode(table, "cart")
    assert set(shop["label"]) == {"bad"}
    assert set(shop["fault_type"]) == {"made-up fault"}
    assert set(shop["telemetry"]) == {"full"}
    assert set(cart["label"]) == {"good"}
    assert cart["fault_type"].count() == 0
    assert set(cart["telemetry"]) == {"outgoing_only"}


def test_new_pods_that_never_report(clone: Path) -> None:
    for path in _folder(clone).glob("shop-v2-*"):
        path.unlink()

    canary = _episode(convert_changerca(clone), "shop").loc[3:]

    assert set(canary["telemetry"]) == {"none"}
    assert canary["n_pods"].tolist() == [0, 0, 0]
    assert canary["error_rate"].isna().all()


def test_root_and_data_folder_give_the_same(clone: Path) -> None:
    pd.testing.assert_frame_equal(convert_changerca(clone), convert_changerca(clone / "data"))


def test_progress_counts_experiments(clone: Path) -> None:
    done: list[int] = []
    convert_changerca(clone, progress=done.append)
    assert done == [1]


@pytest.mark.skipif(
    not (SHARED / "source").is_dir(), reason="the ChangeRCA data may not be kept in the project"
)
def test_reproduces_the_converted_experiments() -> None:
    ours = convert_changerca(SHARED / "source")
    known = pd.read_parquet(SHARED / "episodes.parquet")
    known = known[known["group"].isin(ours["group"])].reset_index(drop=True)

    assert len(known) > 0
    pd.testing.assert_frame_equal(ours, known, rtol=1e-9, atol=1e-9)
