"""`--calibration FILE`: each transform on each family, its record, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")

from edgebench.cli import main  # noqa: E402
from edgebench.transform import apply_transform, parse_transform  # noqa: E402
from edgebench.transform.calibration import CalibrationSet  # noqa: E402
from edgebench.transform.loaded import file_hashes, linears_of  # noqa: E402
from edgebench_kernels.checkpoints.directory import read_int4  # noqa: E402
from edgebench_kernels.engine import load_reference, weights_from_tensors  # noqa: E402
from edgebench_kernels.formats import dequantize, tensor_sha256  # noqa: E402
from tests.harness.tiny_model import TEXT, write_model  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native]

CALIBRATION = "Sphinx of black quartz, judge my vow! Pack my box with five dozen liquor jugs. " * 9
BLOCK = 128  # tokens of a block: all that the tiny models attend to
CHAINS = ("awq:group=32", "gptq:group=32", "awq:group=32+gptq", "smoothquant:group=32")


@pytest.fixture(autouse=True)
def restored_threads():
    """A run in this process sets the threads of torch and of the kernels."""
    from edgebench_kernels import native

    before = torch.get_num_threads(), native.threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    native.set_threads(before[1])


def place(tmp_path: Path, model_type: str = "qwen2", **change) -> Path:
    """A model, a text to score and one to calibrate on, in tmp_path."""
    write_model(tmp_path / "model", model_type, **change)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "calibration.txt").write_text(CALIBRATION, encoding="utf-8")
    return tmp_path


def run(folder: Path, *words: object) -> Result:
    """`bench run --workload llm` on that model; later words override."""
    given = ["--model", folder / "model", "--text", folder / "text.txt", "--context", 48]
    given += ["--out", folder / "out", "--threads", 1, "--quiet", "--format", "json"]
    command = ["run", "--workload", "llm", *given, *words]
    return CliRunner().invoke(main, [str(word) for word in command])


def calibrated(folder: Path, chain: str, *words: object) -> Result:
    return run(folder, "--transform", chain, "--calibration", folder / "calibration.txt", *words)


def sequences() -> list[list[int]]:
    """The calibration text by hand: a byte a token, blocks of all that the model attends to."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ids = tokenizer.encode(CALIBRATION).ids
    return [ids[at : at + BLOCK] for at in range(0, len(ids) - BLOCK + 1, BLOCK)]


@pytest.mark.parametrize("chain", CHAINS)
def test_a_transform_learns_from_the_text_and_the_record_says_so(tmp_path, chain: str) -> None:
    folder = place(tmp_path)
    said = calibrated(folder, chain)
    assert said.exit_code == 0, said.output
    record = json.loads(said.stdout)
    digest = hashlib.sha256(CALIBRATION.encode()).hexdigest()
    blocks = len(sequences())
    assert record["calibration"] == {
        "text_sha256": digest, "block_tokens": BLOCK, "blocks": blocks
    }  # fmt: skip
    assert "--calibration calibration.txt" in record["provenance"]["command"]
    fp16, w4a16, w4a8 = record["results"]
    assert fp16["transform"] == "none"
    assert w4a16["transform"] == w4a8["transform"] == chain
    assert 0.9 < w4a16["over_reference"] < 1.1  # norms that are not folded give 2 and more


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_what_runs_is_what_the_transform_made(tmp_path, model_type: str) -> None:
    """The engine's perplexity is that of its codes, norms and biases in plain torch."""
    change = {} if model_type == "qwen2" else {"tie_word_embeddings": True}
    folder = place(tmp_path, model_type, **change)
    said = calibrated(folder, "awq:group=32")
    assert said.exit_code == 0, said.output
    record = json.loads(said.stdout)
    weights = load_reference(folder / "model")
    made = apply_transform(
        parse_transform("awq:group=32"),
        linears_of(weights, file_hashes(folder / "model")),
        calibration=CalibrationSet(sha256="0" * 64, sequences=sequences()),
    )
    state = {name: tensor.float() for name, tensor in weights.tensors.items()}
    state |= {name: torch.from_numpy(a).float() for name, a in made.folded.replaced().items()}
    state |= {f"{name}.weight": torch.from_numpy(dequantize(t)) for name, t in made.tensors.items()}
    expected = perplexity(folder / "model", state)
    assert record["results"][1]["perplexity"] == pytest.approx(expected, rel=1e-3)
    assert record["results"][0]["perplexity"] != pytest.approx(expected, rel=1e-4)


@torch.inference_mode()
def perplexity(directory: Path, state) -> float:
    """Of TEXT by transformers with these weights, lm_head its own; windows of 48 tokens."""
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(directory)
    config.tie_word_embeddings = False
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.load_state_dict(state)
    ids = Tokenizer.from_file(str(directory / "tokenizer.json")).encode(TEXT).ids
    nats, count = 0.0, 0
    for at in range(0, len(ids) - 47, 48):
        row = torch.tensor([ids[at : at + 48]])
        likely = model(row).logits[0].double().log_softmax(-1)
        nats -= float(likely[:-1].gather(1, row[0, 1:, None]).sum())
        count += 47
    return float(np.exp(nats / count))


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    ("to", "chain"),
    [("awq-gemm", "awq:group=32"), ("compressed-tensors", "awq:group=32,symmetric=true+gptq")],
)
def test_an_export_holds_the_folded_norms(tmp_path, model_type: str, to: str, chain: str) -> None:
    folder = place(tmp_path, model_type)
    words = [
        "export",
        "checkpoint",
        folder / "model",
        "--to",
        to,
        "--out",
        folder / "out",
        "--quiet",
    ]
    words += ["--transform", chain, "--calibration", folder / "calibration.txt"]
    said = CliRunner().invoke(main, [str(word) for word in words])
    assert said.exit_code == 0, said.output
    _, checkpoint = read_int4(folder / "out")
    linears = linears_of(load_reference(folder / "model"), file_hashes(folder / "model"))
    names = tuple(name for name in linears.names if name != "lm_head")
    linears = type(linears)(weights=linears.weights, sha256=linears.sha256, names=names)
    made = apply_transform(
        parse_transform(chain),
        linears,
        calibration=CalibrationSet(sha256="0" * 64, sequences=sequences()),
    )
    assert {n: tensor_sha256(t) for n, t in checkpoint.quantized.items()} == {
        n: tensor_sha256(t) for n, t in made.tensors.items()
    }
    for name, array in made.folded.replaced().items():
        assert np.array_equal(checkpoint.tensors[name].numpy(), array), name
    changed = [
        name
        for name in made.folded.replaced()
        if not torch.equal(checkpoint.tensors[name], linears.tensor(name))
    ]
    assert len(changed) >= 2  # exponent 0, which a search may choose, folds nothing
    assert "model.norm.weight" not in made.folded.replaced()  # lm_head stays as it was
    reads = weights_from_tensors(
        linears.config(),
        dict(checkpoint.tensors)
        | {f"{n}.weight": torch.from_numpy(dequantize(t)) for n, t in checkpoint.quantized.items()},
    )
    state = {name: tensor.float() for name, tensor in reads.tensors.items()}
    reference = {name: tensor.float() for name, tensor in linears.weights.tensors.items()}
    rough, exact = (perplexity(folder / "model", one) for one in (state, reference))
    assert rough == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (TEXT, f"shares {len(TEXT.encode()) - 31} such runs (100 % of it), the first at token 0 "),
        (  # 51 bytes: 20 runs of 32; of 251 tokens: 220 runs
            CALIBRATION[:200] + TEXT[11:60],
            "shares 20 such runs (10 % of it), the first at token 200 (token 11 of the scored "
            "text): 'rown fox jumps over the lazy dog'",
        ),
        (TEXT[:9], "shares no 9 tokens in a row"),
    ],
)
def test_a_text_that_overlaps_the_scored_one_is_refused(
    tmp_path, calibration: str, message: str
) -> None:
    folder = place(tmp_path)
    (folder / "calibration.txt").write_text(calibration, encoding="utf-8")
    said = calibrated(folder, "gptq:group=32")
    assert said.exit_code == 2
    assert message in said.output
    assert "calibrate on another text" in said.output
    assert not list(folder.rglob("perplexity.json"))


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def write(name: str, data: bytes):
    return lambda folder: (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("chain", "damage", "exit_code", "message"),
    [
        ("awq", remove("calibration.txt"), 4, "cannot be read"),
        ("awq", write("calibration.txt", b"\xff\xfe"), 4, "is not UTF-8"),
        ("awq", write("calibration.txt", b"x"), 2, "at least 2 tokens, got 1"),
        ("awq", remove("model/tokenizer.json"), 4, "no tokenizer.json"),
        ("awq:samples=6", lambda folder: None, 2, "expected samples to be 1..5, got 6"),
        ("rtn", lambda folder: None, 2, "only with a transform that learns from text"),
        ("awq:group=48", lambda folder: None, 2, "expected group to be one of"),
        ("gptq", write("model/model.safetensors", b"\x80\x04pickle"), 4, "not a whole safetensors"),
    ],
)
def test_bad_input_is_named(tmp_path, chain: str, damage, exit_code: int, message: str) -> None:
    folder = place(tmp_path)
    damage(folder)
    said = calibrated(folder, chain)
    assert said.exit_code == exit_code, said.output
    assert message in said.output
    assert not list(folder.rglob("perplexity.json"))


def test_a_group_that_divides_no_k_is_named(tmp_path) -> None:
    folder = place(tmp_path, hidden_size=48, head_dim=16)
    for chain in ("awq", "gptq", "smoothquant"):
        said = calibrated(folder, chain)
        assert said.exit_code == 2, said.output
        assert "a multiple of 32, the smallest group, got model.layers.0" in said.output


def test_calibration_is_asked_for_where_it_is_needed(tmp_path) -> None:
    folder = place(tmp_path)
    said = run(folder, "--transform", "awq")
    assert said.exit_code == 2
    assert "expected --calibration FILE for awq" in said.output
    words = ["export", "checkpoint", folder / "model", "--to", "awq-gemm", "--out", folder / "out"]
    said = CliRunner().invoke(main, [*map(str, words), "--transform", "gptq:group=32"])
    assert said.exit_code == 2
    assert "expected --calibration FILE for gptq" in said.output
    assert not (folder / "out").exists()


def test_a_quantized_model_is_not_calibrated(tmp_path) -> None:
    folder = place(tmp_path)
    words = [
        "export",
        "checkpoint",
        folder / "model",
        "--to",
        "gptq-v2",
        "--out",
        folder / "int4",
        "--quiet",
    ]
    assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
    said = calibrated(folder, "awq", "--model", folder / "int4")
    assert said.exit_code == 2
    assert "quantized already" in said.output


@pytest.mark.parametrize("command", ["run", "export"])
def test_what_quantizing_needs_is_said_before_it_starts(tmp_path, monkeypatch, command) -> None:
    """The weights would fit; the calibration's activations and the Hessian do not."""
    from edgebench import estimate

    folder = place(tmp_path)
    (folder / "model" / "model.safetensors").write_bytes(b"")  # not even looked at
    asked = []

    def shortage(needed, system):
        asked.append(needed)
        return "it needs more" if len(asked) == (2 if command == "run" else 1) else None

    monkeypatch.setattr(estimate, "shortage_of", shortage)
    if command == "run":
        said = calibrated(folder, "awq:group=32+gptq")
    else:
        words = [
            "export",
            "checkpoint",
            folder / "model",
            "--to",
            "awq-gemm",
            "--out",
            folder / "out",
        ]
        words += ["--calibration", folder / "calibration.txt", "--transform", "awq:group=32+gptq"]
        said = CliRunner().invoke(main, list(map(str, words)))
    assert said.exit_code == 4, said.output
    assert "of model was not started: it needs more" in said.output
    for part in ("weights", "one layer in fp32", "calibration activations", "a Hessian"):
        assert part in said.output
