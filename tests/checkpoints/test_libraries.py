"""What the formats' own libraries write is read, and what is written they load, with equal logits.

Runs where the libraries are installed (`pip install edgebench[formats]`); the other tests pack by
the formats' descriptions alone.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from edgebench.command_checkpoint import Quantizing, convert  # noqa: E402
from edgebench.progress import choose_progress  # noqa: E402
from edgebench_kernels.checkpoints import FORMATS  # noqa: E402
from edgebench_kernels.checkpoints.directory import (  # noqa: E402
    Int4Checkpoint,
    read_int4,
    write_int4,
)
from edgebench_kernels.checkpoints.files import read_json  # noqa: E402
from edgebench_kernels.checkpoints.layout import Grouping  # noqa: E402
from edgebench_kernels.engine import load_reference  # noqa: E402
from edgebench_kernels.formats import (  # noqa: E402
    choose_group,
    dequantize,
    tensor_sha256,
    unpack_codes,
)
from edgebench_kernels.quantize import quantize_rtn  # noqa: E402

pytestmark = pytest.mark.torch

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture
def model_directory(tmp_path) -> Path:
    """A small Llama with random weights, fp16."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.half().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def exported(directory: Path, to: str, transform: str, out: Path) -> Int4Checkpoint:
    """What `bench export checkpoint` made of the model by a transform that folds norms."""
    from tests.harness.tiny_model import write_tokenizer

    write_tokenizer(directory)
    text = directory.with_name("calibration.txt")
    # Bytes below the vocabulary's 96 only: the tokenizer's letters from '!' on.
    text.write_text("".join(chr(33 + (7 * i * i + i) % 60) for i in range(2000)))
    how = Quantizing(transform=transform, calibration=text)
    convert(str(directory), to, out, how=how, progress=choose_progress(quiet=True))
    return read_int4(out)[1]


def quantized(directory: Path, *, symmetric: bool) -> Int4Checkpoint:
    """Every linear but lm_head, rounded."""
    weights = load_reference(directory)
    tensors = {
        name.removesuffix(".weight"): quantize_rtn(
            weight.numpy(), choose_group(weight.shape[1]), symmetric=symmetric
        )
        for name, weight in weights.linears().items()
        if name != "lm_head.weight"
    }
    rest = {
        name: tensor
        for name, tensor in weights.tensors.items()
        if name.removesuffix(".weight") not in tensors
    }
    return Int4Checkpoint(
        config=read_json(directory / "config.json"), quantized=tensors, tensors=rest
    )


@torch.inference_mode()
def logits_of(model):
    ids = torch.arange(40)[None] * 7 % SHAPE["vocab_size"]
    return model(ids).logits.float()


def dequantized_model(directory: Path, checkpoint: Int4Checkpoint, dtype):
    """The same model with plain weights, each what its codes stand for."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(directory, dtype=dtype)
    for name, tensor in checkpoint.quantized.items():
        model.get_submodule(name).weight.data = torch.from_numpy(dequantize(tensor)).to(dtype)
    for name, tensor in checkpoint.tensors.items():  # norms that carry scales
        model.get_parameter(name).data = tensor.to(dtype)
    return model.eval()


@pytest.mark.formats
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_transformers_loads_compressed_tensors_with_equal_logits(model_directory, tmp_path) -> None:
    pytest.importorskip("compressed_tensors", reason="needs the extra 'formats'")
    from transformers import AutoModelForCausalLM

    checkpoint = quantized(model_directory, symmetric=True)
    write_int4(checkpoint, FORMATS["compressed-tensors"], tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float16).eval()
    expected = dequantized_model(model_directory, checkpoint, torch.float16)
    assert torch.equal(logits_of(loaded), logits_of(expected))


@pytest.mark.formats
@pytest.mark.filterwarnings("ignore")
def test_transformers_loads_an_export_with_folded_norms(model_directory, tmp_path) -> None:
    pytest.importorskip("compressed_tensors", reason="needs the extra 'formats'")
    from transformers import AutoModelForCausalLM

    chain = "awq:group=32,symmetric=true+gptq"
    checkpoint = exported(model_directory, "compressed-tensors", chain, tmp_path / "out")
    norms = [name for name in checkpoint.tensors if "layernorm" in name]
    before = load_reference(model_directory).tensors
    assert any(not torch.equal(checkpoint.tensors[name], before[name]) for name in norms)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float16).eval()
    expected = dequantized_model(model_directory, checkpoint, torch.float16)
    assert torch.equal(logits_of(loaded), logits_of(expected))


@pytest.mark.formats
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("symmetric", [True, False])
def test_what_compressed_tensors_packs_is_read(symmetric: bool) -> None:
    pytest.importorskip("compressed_tensors", reason="needs the extra 'formats'")
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    weight = torch.randn(24, 96, generator=torch.Generator().manual_seed(0)).half()
    tensor = quantize_rtn(weight.numpy(), 32, symmetric=symmetric)
    codes = torch.from_numpy(unpack_codes(tensor)).to(torch.int8) - 8
    zero = torch.from_numpy(tensor.zero).to(torch.int8) - 8
    parts = {
        "weight_packed": pack_to_int32(codes, 4).numpy(),
        "weight_scale": tensor.scale,
        "weight_shape": torch.tensor(weight.shape).numpy(),
    }
    if not symmetric:
        parts["weight_zero_point"] = pack_to_int32(zero, 4, packed_dim=0).contiguous().numpy()
    read = FORMATS["compressed-tensors"].decode(parts, Grouping(group=None, is_symmetric=False))
    assert tensor_sha256(read) == tensor_sha256(tensor)


@pytest.mark.filterwarnings("ignore")
def test_transformers_loads_awq_gemm_with_equal_weights_and_logits(
    model_directory, tmp_path
) -> None:
    """Its kernel multiplies in another order and rounds to fp16; a wrong code is a whole step."""
    pytest.importorskip("gptqmodel", reason="needs gptqmodel, through which transformers loads AWQ")
    from transformers import AutoModelForCausalLM

    checkpoint = quantized(model_directory, symmetric=False)
    write_int4(checkpoint, FORMATS["awq-gemm"], tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float16).eval()
    for name, tensor in checkpoint.quantized.items():
        with torch.inference_mode():
            weight = loaded.get_submodule(name)(torch.eye(tensor.shape[1]).half()).T.float()
        expected = torch.from_numpy(dequantize(tensor))
        assert float((weight - expected).abs().max()) <= 2**-10 * float(expected.abs().max())
    expected = logits_of(dequantized_model(model_directory, checkpoint, torch.float16))
    difference = float((logits_of(loaded) - expected).abs().max())
    assert difference <= 5e-3 * float(expected.abs().max())  # two layers of fp16 products
