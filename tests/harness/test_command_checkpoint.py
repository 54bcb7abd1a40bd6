"""`bench import`, `bench export checkpoint`: another format, the same weights, clear refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from edgebench.cli import main  # noqa: E402
from edgebench.command_checkpoint import EXPORTED  # noqa: E402
from edgebench_kernels.checkpoints import FORMATS  # noqa: E402
from edgebench_kernels.checkpoints.directory import read_int4  # noqa: E402
from edgebench_kernels.engine import load_reference  # noqa: E402
from edgebench_kernels.formats import tensor_sha256  # noqa: E402
from edgebench_kernels.quantize import quantize_rtn  # noqa: E402
from tests.harness.tiny_model import write_model  # noqa: E402

pytestmark = pytest.mark.torch

LINEARS = 2 * 7  # of two layers


def bench(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words), "--quiet"])


@pytest.fixture
def model(tmp_path) -> Path:
    """An untied Qwen2 of two layers."""
    write_model(tmp_path / "model", "qwen2")
    return tmp_path / "model"


def hashes(directory: Path) -> dict[str, str]:
    quantized = read_int4(directory)[1].quantized
    return {name: tensor_sha256(tensor) for name, tensor in quantized.items()}


@pytest.mark.parametrize("to", ["compressed-tensors", "awq-gemm", "gptq-v1", "gptq-v2"])
def test_a_model_is_quantized_written_and_read_again(model, tmp_path, to: str) -> None:
    said = bench("export", "checkpoint", model, "--to", to, "--out", tmp_path / "out")
    assert said.exit_code == 0, said.output
    assert f"{LINEARS} linears from rtn:group=32,symmetric=true" in said.stdout
    layout, checkpoint = read_int4(tmp_path / "out")
    assert layout.name == to
    assert len(checkpoint.quantized) == LINEARS
    weights = load_reference(model)
    for name, tensor in checkpoint.quantized.items():
        weight = weights.linear(f"{name}.weight").numpy()
        expected = quantize_rtn(weight, tensor.group, symmetric=True)
        assert tensor_sha256(tensor) == tensor_sha256(expected)
    kept = weights.tensors.keys() - {f"{name}.weight" for name in checkpoint.quantized}
    assert checkpoint.tensors.keys() == kept
    assert all(torch.equal(checkpoint.tensors[name], weights.tensors[name]) for name in kept)
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_a_chain_of_formats_keeps_every_bit(model, tmp_path) -> None:
    source = model
    for step, to in enumerate(("awq-gemm", "gptq-v1", "compressed-tensors", "gptq-v2")):
        said = bench("export", "checkpoint", source, "--to", to, "--out", tmp_path / str(step))
        assert said.exit_code == 0, said.output
        source = tmp_path / str(step)
    said = bench("import", source, "--out", tmp_path / "canonical")
    assert said.exit_code == 0, said.output
    assert "from gptq-v2" in said.stdout
    assert hashes(tmp_path / "canonical") == hashes(tmp_path / "0")
    first, last = (load_file(tmp_path / name / "model.safetensors") for name in ("0", "canonical"))
    for name in read_int4(tmp_path / "0")[1].tensors:
        assert torch.equal(first[name], last[name])
    config = json.loads((tmp_path / "canonical" / "config.json").read_text())
    assert config["quantization_config"] == {"quant_method": "edgebench", "bits": 4}


def test_an_asymmetric_transform_is_written_where_it_fits(model, tmp_path) -> None:
    words = ("export", "checkpoint", model, "--transform", "rtn:group=32")
    said = bench(*words, "--to", "awq-gemm", "--out", tmp_path / "awq")
    assert said.exit_code == 0, said.output
    assert {tensor.group for tensor in read_int4(tmp_path / "awq")[1].quantized.values()} == {32}
    said = bench(*words, "--to", "compressed-tensors", "--out", tmp_path / "ct")
    assert said.exit_code == 2
    assert "symmetric only" in said.output
    assert not (tmp_path / "ct").exists()


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (("export", "checkpoint", "model", "--to", "awqgemm"), 2, "did you mean 'awq-gemm'"),
        (
            ("export", "checkpoint", "model", "--to", "awq-gemm", "--transform", "rnt"),
            2,
            "did you mean 'rtn'",
        ),
        (("export", "checkpoint", "no-one/here", "--to", "awq-gemm"), 4, "hf download no-one/here"),
        (("import", "model"), 2, "is not quantized"),
        (("export", "checkpoint", "full", "--to", "awq-gemm"), 2, "which has no config.json"),
    ],
)
def test_what_cannot_be_written_is_named(
    model, tmp_path, monkeypatch, words, exit_code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    said = bench(*words, "--out", tmp_path / "out")
    assert said.exit_code == exit_code, said.output
    assert message in said.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "exit_code", "message"),
    [
        ({"auto_map": {"AutoModel": "x.Y"}}, 2, "no trust_remote_code"),
        ({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}, 2, "got 'phi3'"),
        ({"intermediate_size": 128}, 4, "must have shape"),
        ({"num_hidden_layers": 1}, 4, "got tensor model.layers.1.input_layernorm.weight of layer"),
    ],
)
def test_a_model_that_cannot_be_exported_is_named(
    model, tmp_path, change, exit_code: int, message: str
) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **change}))
    said = bench("export", "checkpoint", model, "--to", "awq-gemm", "--out", tmp_path / "out")
    assert said.exit_code == exit_code, said.output
    assert message in said.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "transform",
    [
        "distill",
        "share",
        "finetune:steps=1",
        "prune:wanda=0.5",
        "prune:magnitude=0.5+rtn",
        "prune:layers=1+gptq",
        "prune:wanda=2:4+awq",
    ],
)
def test_what_makes_another_model_is_not_exported(model, tmp_path, transform: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a text " * 99)
    words = ("--to", "canonical", "--out", tmp_path / "out", "--calibration", text)
    said = bench("export", "checkpoint", model, *words, "--transform", transform)
    assert said.exit_code == 2, said.output
    assert "one of rtn, awq, gptq, smoothquant, awq+gptq, smoothquant+gptq" in said.output
    assert "makes another model, for the open track; leave it out" in said.output


@pytest.mark.parametrize("transform", EXPORTED)
def test_every_transform_that_is_offered_is_exported(model, tmp_path, transform: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a text of no great length " * 9)
    given = () if transform == "rtn" else ("--calibration", text)
    words = ("--to", "canonical", "--out", tmp_path / "out", *given)
    said = bench("export", "checkpoint", model, *words, "--transform", transform)
    assert said.exit_code == 0, said.output
    assert f"{LINEARS} linears from {transform}" in said.stdout


def test_a_disk_that_fails_leaves_an_empty_folder(model, tmp_path, monkeypatch) -> None:
    from safetensors import SafetensorError

    def fail(tensors, path, metadata) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("edgebench_kernels.checkpoints.directory.save_file", fail)
    said = bench("export", "checkpoint", model, "--to", "awq-gemm", "--out", tmp_path / "out")
    assert said.exit_code == 4, said.output
    assert "No space left on device (os error 28); check the disk, then start again" in said.output
    assert "--resume" not in said.output
    assert list((tmp_path / "out").iterdir()) == []


def test_a_place_that_is_no_folder_is_named(model, tmp_path) -> None:
    (tmp_path / "file").touch()
    words = ("--to", "awq-gemm", "--out", tmp_path / "file" / "out")
    said = bench("export", "checkpoint", model, *words)
    assert said.exit_code == 4, said.output
    assert "Not a directory; choose another folder" in said.output


def truncated(model: Path) -> None:
    """So that whoever reads the weights ends with 4."""
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def test_nothing_is_overwritten_and_that_is_said_first(model) -> None:
    truncated(model)
    said = bench("export", "checkpoint", model, "--to", "awq-gemm", "--out", model)
    assert said.exit_code == 2
    assert "must be a new or an empty directory, got one that is not; name another" in said.output
    file = model / "config.json"
    said = bench("export", "checkpoint", model, "--to", "awq-gemm", "--out", file)
    assert said.exit_code == 2
    assert "must be a new or an empty directory, got a file; name another" in said.output


@pytest.mark.parametrize(
    "transform",
    ["rtn:group=32", "gptq:group=32", "awq:group=32", "smoothquant:group=32,symmetric=false+gptq"],
)
def test_zero_points_that_a_format_cannot_hold_are_said_first(
    model, tmp_path, transform: str
) -> None:
    truncated(model)
    (tmp_path / "text.txt").write_text("a text of no great length " * 9)
    given = () if "rtn" in transform else ("--calibration", tmp_path / "text.txt")
    words = ("export", "checkpoint", model, "--out", tmp_path / "out", *given)
    said = bench(*words, "--to", "compressed-tensors", "--transform", transform)
    assert said.exit_code == 2, said.output
    assert "symmetric only" in said.output
    assert bench(*words, "--to", "awq-gemm", "--transform", transform).exit_code == 4


def test_a_symmetric_chain_is_written_where_zero_points_are_not_held(model, tmp_path) -> None:
    (tmp_path / "text.txt").write_text("a text of no great length " * 9)
    words = ("--to", "compressed-tensors", "--transform", "awq:symmetric=true,group=32+gptq")
    given = ("--calibration", tmp_path / "text.txt", "--out", tmp_path / "out")
    said = bench("export", "checkpoint", model, *words, *given)
    assert said.exit_code == 0, said.output


def test_a_quantized_source_is_not_quantized_again(model, tmp_path) -> None:
    assert (
        bench("export", "checkpoint", model, "--to", "gptq-v2", "--out", tmp_path / "a").exit_code
        == 0
    )
    words = ("--to", "awq-gemm", "--out", tmp_path / "b", "--transform", "rtn")
    said = bench("export", "checkpoint", tmp_path / "a", *words)
    assert said.exit_code == 2
    assert "quantized already" in said.output


def test_an_unknown_layout_is_usage(model, tmp_path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (model / "config.json").write_text(json.dumps(config))
    said = bench("import", model, "--out", tmp_path / "out")
    assert said.exit_code == 2
    assert "quant_method 'bitsandbytes' is not read here" in said.output


@pytest.mark.parametrize(
    ("hidden", "words", "message"),
    [
        (96, ("--transform", "rtn:group=64"), "with 96 inputs; take group=32"),
        (48, (), "a multiple of 32, the smallest group, got model.layers.0"),
    ],
)
def test_groups_that_fit_no_linear_are_said_before_weights_are_read(
    tmp_path: Path, hidden: int, words: tuple[str, ...], message: str
) -> None:
    write_model(tmp_path / "odd", hidden_size=hidden, head_dim=16)
    (tmp_path / "odd" / "model.safetensors").write_bytes(b"")
    command = ("export", "checkpoint", tmp_path / "odd", "--to", "canonical", "--out")
    said = CliRunner().invoke(main, list(map(str, (*command, tmp_path / "out", *words))))
    assert said.exit_code == 2, said.output
    assert message in said.output


@pytest.mark.parametrize("layout", ["awq-gemm", "gptq-v1", "gptq-v2"])
def test_a_layout_of_one_group_says_so_before_weights_are_read(tmp_path: Path, layout: str) -> None:
    write_model(tmp_path / "odd", hidden_size=96, head_dim=16, intermediate_size=128)
    (tmp_path / "odd" / "model.safetensors").write_bytes(b"")
    command = ("export", "checkpoint", tmp_path / "odd", "--to", layout, "--transform", "rtn")
    said = CliRunner().invoke(main, list(map(str, (*command, "--out", tmp_path / "out"))))
    assert said.exit_code == 2, said.output
    assert (
        f"which is all that {layout} states, got 32 and 64 and 128 by rtn; take group=32"
        in said.output
    )


def test_every_layout_that_states_one_group_says_so() -> None:
    weight = np.ones((8, 128), np.float16)
    mixed = {"a": quantize_rtn(weight, 32), "b": quantize_rtn(weight, 64)}
    for layout in FORMATS.values():
        if layout.states_one_group:
            with pytest.raises(ValueError, match="states one group for all linears"):
                layout.config(mixed, ())
        else:
            layout.config(mixed, ())
