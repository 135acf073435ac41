"""bench/gpu.py runs where there is no GPU, too, and tells what it could not measure."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench import common, gpu
from bench.gpu_inside import share_inside
from bench.gpu_parts import Here, NotMeasuredError, Row
from tests.helpers import ROOT

GPU = [sys.executable, "bench/gpu.py"]


@pytest.mark.slow
def test_every_part_has_its_rows_on_the_page_where_there_is_no_gpu(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    command = [*GPU, "--device", "cpu", "--quick", "--output", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parts = re.split(r"^## (.*)\n", page.read_text(), flags=re.M)
    rows = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert [*rows] == [*gpu.PAGE]
    waiting, bits, several, speed, cifar = rows.values()
    assert waiting.count("not measured: no GPU") == 2
    assert "stopped after step 4 of 6, and resumed | 4 files equal to the byte" in bits
    assert several.count("not measured: no GPU") == 4
    assert len(re.findall(r"ratio \| \d\.\d+ \| >= 0.97", speed)) == 2
    assert "not measured: " in cifar  # no CIFAR-10, or the example has been removed


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    done = subprocess.run(GPU, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no GPU that torch can use" in done.stderr


def test_a_part_that_fails_is_told_and_ends_no_other(tmp_path: Path) -> None:
    here = Here("cpu", True, tmp_path, time.monotonic() + 60, 0)

    def failing(here: Here) -> list[Row]:
        common.run("-c", "raise ValueError('too warm')")
        raise AssertionError("it did not fail")

    def not_measured(here: Here) -> list[Row]:
        raise NotMeasuredError("no GPU")

    failed = gpu.measured(here, "a", failing)
    assert failed == ([("a", "**FAILED**: ValueError: too warm", "")], False)
    assert gpu.measured(here, "b", not_measured) == ([("b", "not measured: no GPU", "")], True)


def test_the_share_of_an_exchange_inside_of_kernels() -> None:
    exchange, kernels = [(0.0, 2.0), (1.0, 3.0), (8.0, 9.0)], [(1.0, 2.0), (1.5, 2.5), (8.5, 20.0)]
    assert share_inside(exchange, kernels) == (1.5 + 0.5) / 4
    assert share_inside(exchange, []) == 0
