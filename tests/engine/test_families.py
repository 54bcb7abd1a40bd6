"""Mistral, Qwen2, Qwen3 and scaled RoPE compute what transformers computes, fp16 and INT4 alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels import native  # noqa: E402
from edgebench_kernels.engine import (  # noqa: E402
    RegimeChoice,
    build_fp16,
    build_int4,
    load_reference,
    parse_config,
    weights_from_tensors,
)
from edgebench_kernels.formats import choose_group, dequantize  # noqa: E402
from edgebench_kernels.quantize import quantize_rtn  # noqa: E402

pytestmark = pytest.mark.torch

TOLERANCE = 1e-4  # fp32 rounding, summed in another order
ROOM = {"max_batch": 4, "max_length": 48, "cell": "fp32"}
SHAPE = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,  # so that waves are long, short and between
}
MODELS = {
    "mistral": ("mistral", {"sliding_window": 48}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 24}),
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 3.0}}),
    "llama3": ("llama", {"rope_parameters": LLAMA3}),
}


@dataclass(frozen=True, slots=True)
class Case:
    """A model of transformers in fp32, and its fp16 weights on disk."""

    model: object
    directory: Path


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> dict[str, Case]:
    """One small model of each kind; every parameter random, biases and norms too."""
    from transformers import AutoConfig, AutoModelForCausalLM

    made = {}
    for seed, (name, (model_type, change)) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        config = AutoConfig.for_model(model_type, **{**SHAPE, **change})
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            parameter.data = (parameter.data + 0.1 * torch.randn_like(parameter)).half().float()
        directory = tmp_path_factory.mktemp(name)
        model.half().save_pretrained(directory)
        # Loaded again: the frequencies of RoPE went through fp16 with the weights.
        loaded = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        made[name] = Case(loaded.eval(), directory)
    return made


@pytest.fixture(params=list(MODELS))
def case(request, cases) -> Case:
    return cases[request.param]


def rows_of(count: int, length: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(count * 100 + length)
    return torch.randint(0, 97, (count, length), generator=generator).tolist()


@torch.inference_mode()
def logits_of(model, row):
    return model(torch.tensor([row])).logits[0]


def assert_equals(engine, model) -> None:
    """Teacher forcing over a batch, then a prefill and decode steps."""
    rows = rows_of(3, 40)
    logits = engine.forward_all(torch.tensor(rows), [40] * 3)
    for row, got in zip(rows, logits, strict=True):
        assert float((got - logits_of(model, row)).abs().max()) <= TOLERANCE
    last = engine.prefill(torch.tensor(rows)[:, :30], [30] * 3)
    for step in range(3):
        for row, got in zip(rows, last, strict=True):
            expected = logits_of(model, row[: 30 + step])[-1]
            assert float((got - expected).abs().max()) <= TOLERANCE, f"step {step}"
        last = engine.decode(torch.tensor([row[30 + step] for row in rows]))


@pytest.mark.parametrize("ops", ["torch", "native"])
def test_fp16_equals_transformers(case, ops: str) -> None:
    if ops == "native" and not native.is_available():
        pytest.skip("the kernels are not compiled")
    weights = load_reference(case.directory)
    assert_equals(build_fp16(weights, RegimeChoice.uniform("fp32"), ops=ops, **ROOM), case.model)


@pytest.mark.native
@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_int4_equals_its_own_dequantized_weights(cases, name: str) -> None:
    """w4a16 rounds activations to 16 bits: 1e-4 of the largest logit, times layers and products."""
    weights = load_reference(cases[name].directory)
    quantized = {
        key: quantize_rtn(tensor.numpy(), choose_group(tensor.shape[1]))
        for key, tensor in weights.linears().items()
    }
    replaced = dict(weights.tensors)
    for key, tensor in quantized.items():
        if key in replaced:
            replaced[key] = torch.from_numpy(dequantize(tensor)).half()
    ids, lengths = torch.tensor(rows_of(2, 20)), [20, 20]
    reference = build_fp16(
        weights_from_tensors(weights.config, replaced), RegimeChoice.uniform("fp32"), **ROOM
    )
    if weights.config.is_tied:  # the head is quantized, the embedding is not
        reference.linears["lm_head"] = lambda x: (
            x @ torch.from_numpy(dequantize(quantized["lm_head.weight"])).T
        )
    expected = reference.forward_all(ids, lengths)
    got = build_int4(weights, quantized, **ROOM).forward_all(ids, lengths)
    assert float((got - expected).abs().max()) <= 5e-3 * float(expected.abs().max())


def test_longer_rows_than_a_sliding_window_are_refused(cases) -> None:
    weights = load_reference(cases["mistral"].directory)
    with pytest.raises(ValueError, match=r"last 48 tokens \(sliding_window\).*got 49"):
        build_fp16(weights, RegimeChoice.uniform("fp32"), max_length=49)


@pytest.mark.parametrize(
    ("name", "missing"),
    [("qwen2", "self_attn.k_proj.bias"), ("qwen3", "self_attn.q_norm.weight")],
)
def test_what_a_family_adds_must_be_there(cases, name: str, missing: str) -> None:
    weights = load_reference(cases[name].directory)
    tensors = dict(weights.tensors)
    del tensors[f"model.layers.1.{missing}"]
    with pytest.raises(ValueError, match=rf"{missing} is missing"):
        weights_from_tensors(weights.config, tensors)


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_gpus_refuse_what_their_kernels_lack(model_type: str) -> None:
    from edgebench_kernels.cuda.step_kernels import check_shape

    config = parse_config({**SHAPE, "model_type": model_type, "head_dim": 16})
    with pytest.raises(ValueError, match=r"GPU kernels have no .*Qwen.*device='cpu'"):
        check_shape(config)
