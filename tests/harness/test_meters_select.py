"""Which meter is reported: by where kernels execute, by what was asked for, never in silence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgebench import meters
from edgebench.devices import ResolvedDevice
from edgebench.draft import repeat_command
from edgebench.errors import DeviceUnavailable, SpecError
from edgebench.meters import METERS, MeterRequest, parse_meter
from edgebench.run import selected_meters
from edgebench.spec import RunOptions, parse_run
from tests.harness.test_meters_rapl import zone
from tests.harness.trees import board, ina238

CUDA = ResolvedDevice(requested="cuda", name="cuda", backend="cuda", executed_on="GPU")
CPU = ResolvedDevice(requested="cpu", name="cpu", backend="cpu", executed_on="CPU")


def live_csv(path: Path) -> Path:
    now = time.time()
    path.write_text("epoch_s,watts\n" + "".join(f"{now - 1 + i / 10:.2f},40\n" for i in range(11)))
    return path


def test_every_meter_has_a_place() -> None:
    placed = {name for names in meters.PREFERENCE.values() for name in names}
    assert placed == {*METERS, "csv"}
    assert all(factory(Path("/nowhere")).name == name for name, factory in METERS.items())


@pytest.mark.parametrize("device", [CPU, CUDA], ids=["cpu", "cuda"])
def test_a_jetsons_rails_cover_kernels_on_either_side(
    device: ResolvedDevice, tmp_path: Path
) -> None:
    board(tmp_path, "orin")
    zone(tmp_path, "intel-rapl:0", "package-0")
    selection = meters.select(device, root=tmp_path)
    assert selection.primary is not None
    assert selection.primary.meter == "ina3221"
    assert selection.primary.covers == "module, without its carrier board"
    assert {item.probe.meter for item in selection.working} == {"ina3221", "rapl"}
    assert [one.domain for one in selection.beside] == ["package-0"]


def test_thors_input_comes_before_its_rails(tmp_path: Path) -> None:
    board(tmp_path, "orin-nx")
    ina238(tmp_path, 40_000_000)
    primary = meters.select(CUDA, root=tmp_path).primary
    assert primary is not None
    assert primary.meter == "ina238"


def test_an_external_meter_is_reported_before_all_others(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    request = MeterRequest(csv=live_csv(tmp_path / "wall.csv"))
    selection = meters.select(CUDA, request, root=tmp_path)
    assert selection.primary is not None
    assert (selection.primary.meter, selection.primary.domain) == ("csv", "external")
    assert [one.meter for one in selection.beside] == ["ina3221"]


def test_an_external_meter_that_fails_is_not_replaced_in_silence(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    selection = meters.select(CUDA, MeterRequest(csv=tmp_path / "no.csv"), root=tmp_path)
    assert selection.primary is None
    assert selection.reason.startswith("CSV: ")
    assert [item.probe.meter for item in selection.working] == ["ina3221"]  # recorded all the same


def test_only_the_meters_that_were_named_are_probed(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    zone(tmp_path, "intel-rapl:0", "package-0")
    selection = meters.select(CPU, MeterRequest(names=("rapl",)), root=tmp_path)
    assert [item.probe.meter for item in selection.probed] == ["rapl"]
    assert selection.primary is not None
    assert selection.primary.domain == "package-0"


def test_no_meter_can_be_asked_for(tmp_path: Path) -> None:
    board(tmp_path, "orin")
    selection = meters.select(CUDA, parse_meter("none", METERS), root=tmp_path)
    assert (selection.primary, selection.probed) == (None, ())
    assert selection.reason == "no meter was asked for"


@pytest.mark.parametrize(
    ("text", "names", "csv", "again"),
    [
        ("auto", None, None, "auto"),
        ("none", (), None, "none"),
        ("nvml, rapl", ("nvml", "rapl"), None, "nvml,rapl"),
        ("csv:logs/wall.csv", None, "logs/wall.csv", "csv:wall.csv"),
        ("csv:wall.csv,rapl", ("rapl",), "wall.csv", "rapl,csv:wall.csv"),
        ("auto,csv:wall.csv", None, "wall.csv", "csv:wall.csv"),
    ],
)
def test_the_option_is_read(
    text: str, names: tuple[str, ...] | None, csv: str | None, again: str
) -> None:
    request = parse_meter(text, METERS)
    assert request == MeterRequest(names=names, csv=Path(csv) if csv else None)
    assert str(request) == again


@pytest.mark.parametrize("text", ["", ",", "csv:", "csv:a,csv:b", "none,rapl", "none,csv:a"])
def test_a_contradiction_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"\[--meter\] expected"):
        parse_meter(text, METERS)


def test_an_unknown_meter_suggests_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean 'nvml'"):
        parse_meter("nvmll", METERS)


def test_power_can_be_required_before_anything_is_measured(tmp_path: Path) -> None:
    spec = parse_run(RunOptions(meter="rapl", require_power=True))
    with pytest.raises(DeviceUnavailable, match=r"\[--require-power\] expected a meter") as caught:
        selected_meters(spec, CPU, tmp_path)
    assert caught.value.exit_code == 3
    assert "no powercap zones" in str(caught.value)
    zone(tmp_path, "intel-rapl:0", "package-0")
    assert selected_meters(spec, CPU, tmp_path).primary is not None
    relaxed = parse_run(RunOptions(meter="none"))
    assert selected_meters(relaxed, CPU, tmp_path).primary is None


def test_the_command_that_repeats_a_run_names_its_meters() -> None:
    spec = parse_run(RunOptions(meter="csv:logs/wall.csv", require_power=True))
    assert "--meter csv:wall.csv --require-power" in repeat_command(spec)
    assert "--meter" not in repeat_command(parse_run(RunOptions()))
