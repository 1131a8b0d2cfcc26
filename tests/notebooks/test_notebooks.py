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

"""The walkthrough runs from a clean kernel, and is committed as it ran."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "train_deployment_policy.ipynb"
NEEDED = ("ipykernel", "jupyter_client", "nbclient", "nbformat", "oumi")
LARGEST = 1024 * 1024
TIMEOUT = 600
"""Seconds for one cell."""

MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
needs_kernel = pytest.mark.skipif(
    bool(MISSING), reason=f"running a notebook needs {', '.join(MISSING)}"
)
needs_nbformat = pytest.mark.skipif("nbformat" in MISSING, reason="needs nbformat")


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def read(path: Path) -> Any:
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def text_of(cell: Any) -> str:
    """Returns all that a cell printed or displayed as text."""
    pieces = []
    for output in cell.outputs:
        pieces.append(output.get("text", ""))
        data = output.get("data", {})
        pieces += [data.get(kind, "") for kind in ("text/plain", "text/html", "text/markdown")]
    return "\n".join(pieces)


def run(notebook: Any, folder: Path) -> Any:
    """Runs all cells in a new kernel of this very interpreter, with `folder` as its place."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    # Without folders to look into, python3 is the interpreter that runs the tests.
    specs = KernelSpecManager(kernel_dirs=[])
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, km=kernel, timeout=TIMEOUT, resources=resources)
    return client.execute()


@needs_kernel
@pytest.mark.timeout(2 * TIMEOUT)
def test_the_walkthrough_runs_from_a_clean_kernel_and_shows_what_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    notebook = read(NOTEBOOK)
    # An error in a cell is raised here.
    cells = code_cells(run(notebook, place))
    said = [text_of(cell) for cell in cells]
    everything = "\n".join(said)

    assert not list(place.iterdir()), "the walkthrough writes to its temporary folder only"
    assert said[-1].count("same Q-values to 1e-5: True") == 3
    assert "False" not in said[-1]
    assert "loaded beside numpy: nothing" in everything
    assert everything.count("the same as above: True") == 2
    assert "4.2 is not in 0..1" in everything
    held_out = next(cell for cell in cells if "held_out_table" in cell.source)
    assert text_of(held_out).count("<tr") == 1 + 8, "a head, four rules and four policies"
    pictures = [out for cell in cells for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(pictures) >= 9


@needs_nbformat
def test_the_committed_walkthrough_ran_in_order_without_an_error() -> None:
    cells = code_cells(read(NOTEBOOK))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert "same Q-values to 1e-5: True" in text_of(cells[-1])


@needs_nbformat
def test_the_committed_walkthrough_is_small_and_names_no_folder_of_a_machine() -> None:
    assert NOTEBOOK.stat().st_size < LARGEST
    for cell in code_cells(read(NOTEBOOK)):
        written = cell.source + text_of(cell)
        assert not re.search(r"/(tmp|home|Users|root|work|var)/", written), cell.source
        assert not any(out.get("name") == "stderr" for out in cell.outputs), cell.source
