"""Checkpoints that lack something or hold too much are refused by name, in each command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from edgebench.cli import main  # noqa: E402
from tests.harness.tiny_model import TEXT, write_model  # noqa: E402

pytestmark = pytest.mark.torch

WEIGHTS = "model.safetensors"
Tensors = dict[str, Any]


def bench(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words), "--quiet"])


@pytest.fixture
def quantized(tmp_path) -> Path:
    """An untied Llama of two layers as AutoAWQ stores it."""
    write_model(tmp_path / "model")
    words = ("export", "checkpoint", tmp_path / "model", "--to", "awq-gemm")
    assert bench(*words, "--out", tmp_path / "quantized").exit_code == 0
    return tmp_path / "quantized"


def words_of(command: str, source: Path, tmp_path: Path) -> tuple[object, ...]:
    """Each command that reads a 4-bit checkpoint, but for --out."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    words: dict[str, tuple[object, ...]] = {
        "import": ("import", source),
        "export": ("export", "checkpoint", source, "--to", "gptq-v2"),
        "run": ("run", "--workload", "llm", "--model", source, "--text", text, "--context", 48),
    }
    return words[command]


def change_tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def configure(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def spoil(name: str, value: float) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name].view(-1)[3] = value

    return change


def drop(start: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith(start)]:
            del tensors[name]

    return change


def too_large_for_fp16(tensors: Tensors) -> None:
    name = "lm_head.weight"
    tensors[name] = tensors[name].bfloat16()
    tensors[name].view(-1)[3] = 1e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("model.norm.weight", float("nan")), "model.norm.weight must be finite"),
        (spoil("model.embed_tokens.weight", float("inf")), "model.embed_tokens.weight must be fin"),
        (too_large_for_fp16, "lm_head.weight must fit in fp16"),
        (drop("model.layers.1.mlp.up_proj"), "layers.1.mlp.up_proj.weight is missing"),
        (drop("model.norm"), "model.norm.weight is missing"),
    ],
)
def test_a_tensor_that_no_engine_takes_is_not_imported(
    quantized, tmp_path, change, message: str
) -> None:
    change_tensors(quantized, change)
    said = bench("import", quantized, "--out", tmp_path / "out")
    assert said.exit_code == 4, said.output
    assert message in said.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "exit_code", "message"),
    [
        ({"intermediate_size": 128}, 4, "layers.0.mlp.gate_proj.weight must have shape [128, 64]"),
        ({"hidden_size": 128}, 4, "must have shape"),
        ({"num_hidden_layers": 1}, 4, "got tensor model.layers.1.input_layernorm.weight of layer"),
        ({"auto_map": {"AutoModel": "x.Y"}}, 2, "no trust_remote_code"),
        ({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}, 2, "got 'phi3'"),
        ({"quantization_config": [1]}, 4, "to be a JSON object with a quant_method, got [1]"),
        ({"quantization_config": None}, 2, "is not quantized"),
    ],
)
def test_a_config_of_another_model_is_not_imported(
    quantized, tmp_path, values, exit_code: int, message: str
) -> None:
    configure(quantized, **values)
    said = bench("import", quantized, "--out", tmp_path / "out")
    assert said.exit_code == exit_code, said.output
    assert message in said.output
    assert "has no quantization_config: not" not in said.output
    assert not (tmp_path / "out").exists()


def test_a_quantized_linear_of_no_layer_is_not_imported(quantized, tmp_path) -> None:
    """Though all else of its layer is missing."""
    change_tensors(quantized, drop("model.layers.1.post_attention_layernorm"))
    change_tensors(quantized, drop("model.layers.1.input_layernorm"))
    configure(quantized, num_hidden_layers=1)
    said = bench("import", quantized, "--out", tmp_path / "out")
    assert said.exit_code == 4, said.output
    assert "got tensor model.layers.1.mlp.down_proj of layer 1 too" in said.output


def as_before_config_json_held_it(folder: Path) -> None:
    """AutoGPTQ's older form on disk."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    (folder / "quantize_config.json").write_text(json.dumps(config.pop("quantization_config")))
    path.write_text(json.dumps(config))
    (folder / WEIGHTS).rename(folder / "gptq_model-4bit-128g.safetensors")


@pytest.mark.parametrize("command", ["import", "export", "run"])
def test_the_older_form_of_gptq_is_named(quantized, tmp_path, command: str) -> None:
    as_before_config_json_held_it(quantized)
    said = bench(*words_of(command, quantized, tmp_path), "--out", tmp_path / "out")
    assert said.exit_code == 2, said.output
    assert "quantize_config.json and gptq_model-4bit-128g.safetensors" in said.output
    assert 'into config.json as "quantization_config", with "quant_method": "gptq"' in said.output
    assert not (tmp_path / "out").exists()


def widened(folder: Path) -> None:
    """Another linear of 2^33 weights in the file, which is sparse: nothing of it is on the disk."""
    k = n = 1 << 16
    name = "model.layers.0.mlp.up_proj"
    parts = {
        "qweight": ("I32", [k, n // 8], 4),
        "qzeros": ("I32", [k // 32, n // 8], 4),
        "scales": ("F16", [k // 32, n], 2),
    }
    header, end = {}, 0
    for part, (dtype, shape, size) in parts.items():
        begin, end = end, end + shape[0] * shape[1] * size
        header[f"{name}.{part}"] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


@pytest.fixture
def small_machine(monkeypatch) -> None:
    """One with 8.59 GB of free memory."""
    from edgebench import command_checkpoint, own_model, system

    described = system.describe_system()
    memory = described.memory.model_copy(update={"available_bytes": 8 << 30})
    small = described.model_copy(update={"memory": memory})
    for module in (command_checkpoint, own_model):
        monkeypatch.setattr(module, "describe_system", lambda: small)


@pytest.fixture
def restored_threads():
    """A run in this process sets the threads of torch and of the kernels."""
    from edgebench_kernels import native

    before = torch.get_num_threads(), native.threads()
    yield
    torch.set_num_threads(before[0])
    native.set_threads(before[1])


def assert_too_large(said: Result) -> None:
    assert said.exit_code == 4, said.output
    assert "was not started: it needs about" in said.output
    assert "8.59 GB are free; take a machine with more memory" in said.output


@pytest.mark.usefixtures("small_machine")
@pytest.mark.parametrize("command", ["import", "export"])
def test_what_is_larger_than_memory_is_said_before_it_is_read(
    quantized, tmp_path, command: str
) -> None:
    widened(quantized)
    assert_too_large(bench(*words_of(command, quantized, tmp_path), "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.native
@pytest.mark.usefixtures("small_machine", "restored_threads")
def test_a_run_says_it_too(quantized, tmp_path) -> None:
    widened(quantized)
    words = words_of("run", quantized, tmp_path)
    assert_too_large(bench(*words, "--threads", 1, "--out", tmp_path / "out"))
