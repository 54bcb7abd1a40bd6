"""`--workload llm`: the perplexity is transformers' own, and each bad input has its exit code."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest
import tokenizers
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")

from edgebench.cli import main  # noqa: E402
from edgebench.codec import parse_model  # noqa: E402
from edgebench.perplexity_record import Executed, PerplexityRecord, derive_result  # noqa: E402
from tests.harness.tiny_model import TEXT, write_model, write_tokenizer  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native]

CONTEXT, STRIDE = 48, 16


@pytest.fixture(autouse=True)
def restored_threads():
    """A run in this process sets the threads of torch and of the kernels."""
    from edgebench_kernels import native

    before = torch.get_num_threads(), native.threads()
    yield
    torch.set_num_threads(before[0])
    native.set_threads(before[1])


@pytest.fixture
def model(tmp_path):
    """A Qwen2 in tmp_path/model and a text beside it; the model in fp32."""
    made = write_model(tmp_path / "model", "qwen2")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return made


def run(tmp_path: Path, *words: str) -> Result:
    """`bench run --workload llm` on that model; later words override."""
    given = ["--model", tmp_path / "model", "--text", tmp_path / "text.txt"]
    given += ["--context", CONTEXT, "--out", tmp_path / "out", "--threads", 1, "--quiet"]
    command = ["run", "--workload", "llm", *map(str, given), *words]
    return CliRunner().invoke(main, command)


@torch.inference_mode()
def perplexity_of(model, tokens: list[int], context: int, stride: int) -> tuple[float, int]:
    """By the definition, in transformers: a window, and its last predictions that are new."""
    nats, count, seen = 0.0, 0, 0
    for start in range(0, len(tokens) - context + 1, stride):
        row = torch.tensor([tokens[start : start + context]])
        likely = model(row).logits[0].double().log_softmax(-1)
        for place in range(max(1, seen - start), context):
            nats -= float(likely[place - 1, row[0, place]])
            count += 1
        seen = start + context
    return math.exp(nats / count), count


def test_fp16_is_what_transformers_computes(model, tmp_path) -> None:
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json")).encode(TEXT).ids
    for stride in (CONTEXT, STRIDE):
        said = run(tmp_path, "--stride", str(stride), "--format", "json")
        assert said.exit_code == 0, said.output
        record = json.loads(said.stdout)
        expected, count = perplexity_of(model, ids, CONTEXT, stride)
        fp16 = record["results"][0]
        assert record["protocol"]["tokens"] == count
        assert fp16["perplexity"] == pytest.approx(expected, rel=1e-4)  # sums in another order
        assert fp16["over_reference"] is None


def test_the_record_holds_its_protocol_and_every_kernel(model, tmp_path) -> None:
    said = run(tmp_path, "--stride", str(STRIDE))
    assert said.exit_code == 0, said.output
    (path,) = (tmp_path / "out").rglob("perplexity.json")
    assert path.relative_to(tmp_path / "out").parts[:2] == ("perplexity", "unaffiliated")
    assert str(tmp_path) not in path.read_text()
    record = parse_model(PerplexityRecord, path.read_bytes(), path.name)
    protocol = record.protocol
    text, tokenizer = tmp_path / "text.txt", tmp_path / "model" / "tokenizer.json"
    assert protocol.text_sha256 == hashlib.sha256(text.read_bytes()).hexdigest()
    assert protocol.tokenizer_sha256 == hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    assert (protocol.context, protocol.stride) == (CONTEXT, STRIDE)
    assert protocol.text_size_bytes == len(TEXT.encode())
    # A byte a token: as many bytes as tokens, but for characters that a window begins within.
    assert abs(protocol.bytes - protocol.tokens) <= 1
    assert record.model.weights_sha256.keys() == {"model.safetensors"}
    assert [(one.kernel, one.transform) for one in record.results] == [
        ("fp16", "none"),
        ("int4", "rtn"),
        ("int4", "rtn"),
    ]
    assert [one.executed_path for one in record.results[1:]] == ["w4a16", "w4a8"]
    for one in record.results:
        reference = None if one.kernel == "fp16" else record.results[0]
        executed = Executed(
            kernel=one.kernel,
            executed_path=one.executed_path,
            transform=one.transform,
        )
        assert derive_result(protocol, executed, one.window_nats, reference) == one
        assert len(one.window_nats) == protocol.windows
    int4 = record.results[1]
    assert 0.9 < int4.over_reference < 1.1
    assert int4.over_reference != 1.0


@pytest.mark.parametrize("form", ["md", "csv"])
def test_the_number_never_stands_without_its_protocol(model, tmp_path, form: str) -> None:
    said = run(tmp_path, "--format", form)
    assert said.exit_code == 0, said.output
    assert hashlib.sha256(TEXT.encode()).hexdigest()[:12] in said.stdout
    assert str(CONTEXT) in said.stdout


def drop(name: str):
    return lambda folder: (folder / name).unlink()


def pickle_instead(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def pickled_shard(folder: Path) -> None:
    """An index that names a pickle: it is read as safetensors, which it is not, and never run."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.")
    index = {"weight_map": {"lm_head.weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def spoil(value: float):
    def change(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
        save_file(tensors, folder / "model.safetensors")

    return change


def fused(folder: Path) -> None:
    """q, k and v in one tensor, as other families store them."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    prefix = "model.layers.0.self_attn."
    parts = [tensors.pop(f"{prefix}{name}_proj.weight") for name in "qkv"]
    tensors[f"{prefix}qkv_proj.weight"] = torch.cat(parts)
    save_file(tensors, folder / "model.safetensors")


def configure(**values):
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return change


@pytest.mark.parametrize(
    ("damage", "exit_code", "message"),
    [
        (drop("tokenizer.json"), 4, "no tokenizer.json"),
        (drop("config.json"), 2, "no config.json"),
        (drop("model.safetensors"), 4, "only safetensors are read"),
        (pickle_instead, 4, "pytorch_model.bin stays closed"),
        (pickled_shard, 4, "pytorch_model.bin is not a whole safetensors file"),
        (truncate, 4, "not a whole safetensors file"),
        (spoil(math.nan), 4, "up_proj.weight must be finite"),
        (spoil(math.inf), 4, "up_proj.weight must be finite"),
        (configure(vocab_size=200), 4, "the model knows 0..199"),
        (configure(auto_map={"AutoModel": "x.Y"}), 2, "no trust_remote_code"),
        (configure(model_type="gemma3", architectures=["Gemma3"]), 2, "only model_type llama"),
        (configure(quantization_config={"quant_method": "hqq"}), 2, "quant_method 'hqq'"),
        (configure(quantization_config={"quant_method": "awq", "bits": 3}), 2, "only 4 bits"),
        (configure(rope_parameters={"rope_type": "yarn"}), 2, "rope_type='yarn'"),
        (configure(use_sliding_window=True, sliding_window=32), 2, "at most 32"),
        (configure(rope_scaling={"type": "longrope"}), 2, "rope_type='longrope'"),
        (configure(num_hidden_layers=10**9), 2, "num_hidden_layers must be at most 1024"),
        (configure(tie_word_embeddings=True), 4, "set tie_word_embeddings to false"),
        (fused, 4, "q_proj, k_proj and v_proj, each a tensor of its own"),
    ],
)
def test_a_bad_model_is_named(model, tmp_path, damage, exit_code: int, message: str) -> None:
    damage(tmp_path / "model")
    said = run(tmp_path)
    assert said.exit_code == exit_code, said.output
    assert message in said.output
    assert not list(tmp_path.rglob("perplexity.json"))


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (("--model", "no-one/nothing-here"), 4, "hf download no-one/nothing-here"),
        (("--model", "./nowhere"), 2, "there is no such directory"),
        (("--model", __file__), 2, "got the file"),
        (("--text", "nowhere.txt"), 4, "cannot be read"),
        (("--context", "129"), 2, "at most 128"),
        (("--context", "1"), 2, "--context of 2 tokens or more"),
        (("--stride", "49"), 2, "--stride between 1 and it"),
        (("--workload", "llm,assistant"), 2, "llm alone"),
        (("--workload", "assistant"), 2, "--model, --text, --context with --workload llm only"),
        (("--track", "open"), 2, "in the closed track"),
        (("--transform", "awq"), 2, "expected --calibration FILE for awq"),
        (("--calibration", "x.txt"), 2, "only with a transform that learns from text"),
        (("--resume",), 2, "without --resume"),
        (("--require-power",), 2, "--require-power with workloads that have scenarios"),
        (("--budget", "1m", "--scenario", "offline"), 2, "--scenario, --budget with workloads"),
        (("--out", __file__), 4, "test_own_model.py"),
    ],
)
def test_a_bad_request_is_named(model, tmp_path, words, exit_code: int, message: str) -> None:
    said = run(tmp_path, *words)
    assert said.exit_code == exit_code, said.output
    assert message in said.output


def test_model_and_text_are_both_needed() -> None:
    said = CliRunner().invoke(main, ["run", "--workload", "llm", "--model", "x/y"])
    assert said.exit_code == 2
    assert "--text" in said.output


def test_a_group_that_fits_no_linear_is_named(tmp_path) -> None:
    write_model(tmp_path / "model", hidden_size=48, head_dim=16)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    said = run(tmp_path)
    assert said.exit_code == 2, said.output
    assert "a multiple of 32, the smallest group, got model.layers.0" in said.output
    assert "rtn:whole_rows=true" in said.output
    assert run(tmp_path, "--transform", "rtn:whole_rows=true").exit_code == 0


def test_a_group_that_is_named_is_not_replaced(tmp_path) -> None:
    write_model(tmp_path / "model", hidden_size=96, head_dim=32)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    said = run(tmp_path, "--transform", "rtn:group=64")
    assert said.exit_code == 2, said.output
    assert "got group=64 in rtn:group=64 and model.layers.0" in said.output
    assert "with 96 inputs; take group=32" in said.output
    assert run(tmp_path).exit_code == 0


def test_a_model_larger_than_memory_is_said_before_it_starts(model, tmp_path, monkeypatch) -> None:
    from edgebench import target_cpu

    asked = []

    def shortage(weights_bytes, system):
        asked.append(weights_bytes)
        return "it needs more"

    monkeypatch.setattr(target_cpu, "memory_shortage", shortage)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")  # not even looked at
    said = run(tmp_path)
    assert said.exit_code == 4
    assert "model was not started: it needs more" in said.output
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert asked == [2 * parameters + 4 * CONTEXT * 256]


def test_a_text_of_one_token_is_named(model, tmp_path) -> None:
    (tmp_path / "text.txt").write_text("x")
    said = run(tmp_path)
    assert said.exit_code == 2
    assert "at least 2 tokens, got 1" in said.output


def test_an_empty_text_is_named_whatever_the_tokenizer_adds(model, tmp_path) -> None:
    path = tmp_path / "model" / "tokenizer.json"
    added = tokenizers.Tokenizer.from_file(str(path))
    added.post_processor = tokenizers.processors.TemplateProcessing(
        single="a $A a", special_tokens=[("a", added.token_to_id("a"))]
    )
    added.save(str(path))
    (tmp_path / "text.txt").write_text("")
    said = run(tmp_path)
    assert said.exit_code == 2
    assert "expected a text to predict" in said.output


def test_truncation_and_padding_stored_with_a_tokenizer_are_off(model, tmp_path) -> None:
    plain = json.loads(run(tmp_path, "--format", "json").stdout)["protocol"]
    path = tmp_path / "model" / "tokenizer.json"
    stored = tokenizers.Tokenizer.from_file(str(path))
    stored.enable_truncation(max_length=32)
    stored.enable_padding(length=2048)
    stored.save(str(path))
    again = json.loads(run(tmp_path, "--format", "json").stdout)["protocol"]
    assert again["tokens"] == plain["tokens"] > 32
    assert again["special_tokens"] == plain["special_tokens"]


def test_a_quantized_model_takes_no_transform(model, tmp_path) -> None:
    words = ["export", "checkpoint", tmp_path / "model", "--to", "canonical", "--out"]
    words += [tmp_path / "int4", "--quiet"]
    assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
    said = run(tmp_path, "--model", str(tmp_path / "int4"), "--transform", "rtn:group=64")
    assert said.exit_code == 2, said.output
    assert "quantized already, so --transform rtn:group=64 has nothing to do" in said.output


def test_a_model_in_the_hubs_cache_is_found_by_its_id(tmp_path, monkeypatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--owner--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    write_model(tmp_path / "blobs")
    write_tokenizer(tmp_path / "blobs")
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for path in (tmp_path / "blobs").iterdir():  # the cache's files are links to blobs
        (snapshot / path.name).symlink_to(path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    said = run(tmp_path, "--model", "owner/tiny", "--format", "json")
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["model"]["name"] == "owner/tiny"


@pytest.mark.parametrize("to", ["awq-gemm", "gptq-v1", "compressed-tensors", "canonical"])
def test_a_4_bit_checkpoint_runs_as_it_is(model, tmp_path, to: str) -> None:
    """Its codes are the export's: INT4 stays within activations' rounding of its own numbers."""
    words = [
        "export",
        "checkpoint",
        tmp_path / "model",
        "--to",
        to,
        "--out",
        tmp_path / "int4",
        "--quiet",
    ]
    assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
    said = run(tmp_path, "--model", str(tmp_path / "int4"), "--format", "json")
    assert said.exit_code == 0, said.output
    fp16, w4a16, w4a8 = json.loads(said.stdout)["results"]
    assert fp16["transform"] == f"dequantized from {to}"
    assert w4a16["transform"] == w4a8["transform"] == f"imported from {to}"
    assert w4a16["over_reference"] == pytest.approx(1, abs=1e-3)  # 16-bit activations
    assert w4a8["over_reference"] == pytest.approx(1, abs=5e-2)
    assert "fp32" in w4a16["executed_path"]  # the head, which the format leaves alone
