"""The user's command for an AGX Orin, exactly as typed, on a tree of files that stands for one.

Kernels run on this machine's CPU; device tree, rails, power mode, clocks and temperatures are the
tree's. What comes of it is marked in the record, and no leaderboard shows it unasked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgebench.machine import ROOT_VARIABLE
from tests.e2e.conftest import Said, bench
from tests.harness.trees import board, put

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.native]

COMMAND = ("run", "--track", "closed", "--device", "orin")
# Beside the command that a user types: one small workload, patience and one thread, because other
# tests may share the machine.
SHORT = (
    "--workload",
    "assistant",
    "--scenario",
    "single-stream",
    "--budget",
    "30",
    "--threads",
    "1",
)
Records = Callable[[Path], dict[str, Any]]


def only_record(folder: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = folder.glob("submissions/closed/*/*/*/*/*/record.json")
    return path.parent, json.loads(path.read_text())


@pytest.fixture(scope="module")
def orin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """One run on a board in order."""
    folder = tmp_path_factory.mktemp("orin")
    board(folder / "root", "orin")
    root = {ROOT_VARIABLE: str(folder / "root")}
    return folder, bench(*COMMAND, *SHORT, "--require-power", cwd=folder, **root)


def test_the_command_ends_well_and_says_what_it_is(orin: tuple[Path, Said]) -> None:
    _, said = orin
    assert said.code == 0, said.err
    assert "SIMULATED: NVIDIA Jetson AGX Orin 64GB is a tree of files" in said.err
    assert "energy: ina3221 VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0" in said.err
    assert "executed on: CPU kernels on" in said.err


def test_the_record_is_marked(orin: tuple[Path, Said]) -> None:
    _, record = only_record(orin[0])
    assert record["host"]["device"] == "orin"
    assert record["host"]["simulated"] is True
    assert "SIMULATED" in record["stamps"]
    assert "for a simulated NVIDIA Jetson AGX Orin 64GB" in record["host"]["executed_on"]


def test_the_rails_become_energy_and_what_it_bought(orin: tuple[Path, Said]) -> None:
    _, record = only_record(orin[0])
    for result in record["results"]:
        energy, metrics = result["energy"], result["energy_metrics"]
        assert energy["domain"] == "VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0"
        assert energy["covers"] == "module, without its carrier board"
        assert energy["mean_power_W"] == pytest.approx(17.21)  # the tree's rails stand still
        if energy["coverage"] < 0.95:  # a machine so busy that readings came half a second apart
            assert (energy["status"], energy["joules"], metrics) == ("partial", None, None)
            continue
        assert energy["status"] == "measured"
        assert energy["peak_power_W"] == pytest.approx(17.21)
        assert energy["joules"] == pytest.approx(17.21 * result["duration_s"], rel=1e-6)
        assert metrics["joules_per_query"] == pytest.approx(energy["joules"] / result["queries"])
        rate = result["tokens_per_s"] / 17.21
        assert metrics["tokens_per_joule"] == pytest.approx(rate, rel=1e-6)


def test_the_boards_state_is_in_the_record(orin: tuple[Path, Said]) -> None:
    folder, record = only_record(orin[0])
    seen = record["conditions"]
    assert (seen["power_mode"], seen["clocks_locked"]) == ("MAXN", True)
    assert seen["held_back"] == {}
    assert seen["timeline"][0]["hottest_C"] == 51.0
    system = json.loads((folder / "system.json").read_text())
    assert system["board"] == "NVIDIA Jetson AGX Orin Developer Kit"
    assert system["tegra_release"] == "L4T R36.4.3"
    assert system["jetson"]["power_mode"] == "MAXN"
    assert system["catalog"]["bandwidth_GBps"] == 204.8


def test_the_checker_derives_it_all_again(orin: tuple[Path, Said]) -> None:
    folder, _ = only_record(orin[0])
    said = bench("check", folder, cwd=orin[0])
    assert said.code == 0, said.out + said.err


def test_the_leaderboard_shows_it_only_when_asked(orin: tuple[Path, Said]) -> None:
    folder = orin[0]
    run_id = only_record(folder)[0].name
    said = bench("leaderboard", "submissions", "--out", "plain", cwd=folder)
    assert said.code == 0, said.err
    assert "a simulated device" in (folder / "plain/index.html").read_text()
    assert run_id not in (folder / "plain/leaderboard.json").read_text()
    said = bench("leaderboard", "submissions", "--out", "asked", "--simulated", cwd=folder)
    assert said.code == 0, said.err
    assert run_id in (folder / "asked/leaderboard.json").read_text()
    assert "SIMULATED" in (folder / "asked/index.html").read_text()


@pytest.mark.slow
def test_the_command_with_nothing_added(tmp_path: Path) -> None:
    """Every workload and scenario of the bare command, but for what it says it skips."""
    board(tmp_path / "root", "orin")
    root = {ROOT_VARIABLE: str(tmp_path / "root")}
    said = bench(*COMMAND, cwd=tmp_path, **root)
    paths = list(tmp_path.glob("submissions/closed/*/*/*/*/*/record.json"))
    records = [json.loads(path.read_text()) for path in paths]
    run = {(one["workload"]["name"], one["scenario"]) for one in records}
    expected = {
        (workload, scenario)
        for workload in ("assistant", "assistant@300m")
        for scenario in ("single-stream", "offline")
    }
    for workload, scenario in expected - run:
        assert f"skipped {workload} {scenario}: " in said.err
    assert said.code == 0, said.out + said.err
    assert {("assistant", "single-stream"), ("assistant", "offline")} <= run <= expected
    assert all("SIMULATED" in one["stamps"] for one in records)
    assert all(one["host"]["device"] == "orin" for one in records)


@pytest.mark.slow
def test_a_hot_board_keeps_its_numbers_and_is_invalid(tmp_path: Path) -> None:
    board(tmp_path / "root", "orin")
    put(tmp_path / "root", "sys/class/thermal/cooling_device0/cur_state", 2)
    said = bench(*COMMAND, *SHORT, cwd=tmp_path, **{ROOT_VARIABLE: str(tmp_path / "root")})
    assert said.code == 5, said.err
    _, record = only_record(tmp_path)
    for result in record["results"]:
        assert result["valid"] is False
        assert "P-06: cooling 17000000.gpu in 100 % of the readings" in result["invalid_reasons"]
        assert result["latency_p90_ms"] > 0


@pytest.mark.parametrize("name", ["orin-nx", "thor"])
def test_a_sister_board_is_refused(name: str, tmp_path: Path) -> None:
    board(tmp_path / "root", name)
    said = bench(*COMMAND, *SHORT, cwd=tmp_path, **{ROOT_VARIABLE: str(tmp_path / "root")})
    assert said.code == 3
    assert f"use --device {name}" in said.err


def test_a_board_without_a_meter_is_refused_where_power_is_required(tmp_path: Path) -> None:
    board(tmp_path / "root", "orin")
    for label in (tmp_path / "root").glob("sys/bus/i2c/devices/*/name"):
        label.write_text("other\n")
    said = bench(
        *COMMAND, *SHORT, "--require-power", cwd=tmp_path,
        **{ROOT_VARIABLE: str(tmp_path / "root")},
    )  # fmt: skip
    assert said.code == 3
    assert "[--require-power]" in said.err
    assert not (tmp_path / "submissions").exists()


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    said = bench(*COMMAND, cwd=tmp_path, **{ROOT_VARIABLE: os.fspath(tmp_path / "no")})
    assert said.code == 2
    assert "[EDGEBENCH_ROOT]" in said.err
