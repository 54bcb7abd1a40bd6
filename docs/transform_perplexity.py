"""Measures what each transform costs in perplexity, with paired bootstrap intervals.

    python docs/transform_perplexity.py [--workload assistant] [--pairs 1000] [--state FOLDER]
        [--fresh SEED] [--device cuda]

Every scheme quantizes the reference after the workload's calibration set alone, and is scored on
the calls of scored pairs, teacher-forced (docs/transforms.md says what the columns mean); with
--fresh on pairs of the same grammar that are in no set, as many as are wanted. INT4 runs by the
kernels, `w4a16` and `w4a8`; the reference in float32, and so does W8A8, for which there is
no kernel: its activations are rounded as `int8_blocks` does. With --state, what is done is
kept there and not done again: scores, and what a search found, which awq and awq+gptq share.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgebench.prepare import WEIGHTS_FILE, calibration_set, encode_pairs
from edgebench.transform.awq import Awq
from edgebench.transform.calibrated import (
    Method,
    Outcome,
    Smoother,
    load_tensors,
    quantize,
)
from edgebench.transform.fold import Choice, GroupView
from edgebench.transform.gptq import Gptq
from edgebench.transform.grid import Grid, GridForm
from edgebench.transform.llama_layer import Layer, Prompts, rms_norm, walk
from edgebench.transform.quantized import ReferenceLinears, open_reference
from edgebench.transform.scale_groups import HEAD_GROUP, SCALE_GROUPS, ScaleGroup
from edgebench.transform.smoothquant import SmoothQuant, int8_blocks
from edgebench_kernels import native
from edgebench_kernels.engine import (
    DecodeEngine,
    LlamaWeights,
    PathChoice,
    build_int4,
    load_reference,
    with_norms,
)
from edgebench_kernels.engine.arithmetic import Int4Path
from edgebench_kernels.formats import dequantize
from edgebench_workloads.catalog import find

RESAMPLES = 10_000
AT_ONCE = 1000  # sequences through a layer at once, in float32
BATCH = {"cpu": 32, "cuda": 256}  # sequences through the kernels at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One row: how weights and activations are rounded, and the row that it is held against."""

    name: str
    plain: str
    method: Method | None = None
    weight_bits: int = 4
    activation_bits: int = 16


def schemes() -> list[Scheme]:
    """The rows of the table, each plain one before those held against it."""
    rows = [Scheme(name="fp16", plain="fp16")]
    for bits, group in ((4, 128), (4, None), (3, 128), (3, None)):
        form, size = GridForm(group=group, bits=bits), group or "K"
        plain = f"W{bits} G={size} rtn"
        for name, method in {
            "rtn": Method(form=form),
            "awq": Method(form=form, smoother=Awq()),
            "gptq": Method(form=form, rounder=Gptq()),
            "awq+gptq": Method(form=form, smoother=Awq(), rounder=Gptq()),
        }.items():
            rows.append(Scheme(name=f"W{bits} G={size} {name}", plain=plain, method=method))
    for name, path, bits in (("W8A8", "w8a8", 8), ("W4A8 G=128", "w4a8", 4)):
        smooth = Method(form=GridForm(), smoother=SmoothQuant(path=path))
        for label, method in (("plain", Method(form=GridForm())), ("smoothquant", smooth)):
            rows.append(
                Scheme(
                    name=f"{name} {label}",
                    plain=f"{name} plain",
                    method=method,
                    weight_bits=bits,
                    activation_bits=8,
                )
            )
    return rows


class Remembered:
    """A smoother whose answers are kept: asked again, in the same order, it does not search."""

    def __init__(self, inner: Smoother) -> None:
        self.inner = inner
        self.answers: list[tuple[Tensor, ...]] = []
        self._at = 0

    def handles(self, group: ScaleGroup) -> bool:
        """As the smoother itself."""
        return self.inner.handles(group)

    def search(self, view: GroupView) -> Choice:
        """See Smoother."""

        def found() -> tuple[Tensor, ...]:
            choice = self.inner.search(view)
            return choice.scale, torch.tensor(choice.exponent, dtype=torch.float64)

        scale, exponent = self._answer(found)
        return Choice(scale=scale, exponent=float(exponent))

    def grid(self, name: str, weight: Tensor, x: Tensor, form: GridForm) -> Grid:
        """See Smoother."""

        def found() -> tuple[Tensor, ...]:
            grid = self.inner.grid(name, weight, x, form)
            return grid.scale, grid.zero

        scale, zero = self._answer(found)
        return Grid(scale=scale, zero=zero, form=form)

    def _answer(self, find: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        if self._at == len(self.answers):
            self.answers.append(tuple(part.clone() for part in find()))
        self._at += 1
        return self.answers[self._at - 1]


class RoughLayer(Layer):
    """A layer whose linears see their inputs through 8 bits, in blocks as the path has them."""

    block: int | None = None

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x [S, K] -> [S, N]."""
        k = x.shape[1]
        return super().linear(name, int8_blocks(x, k if self.block is None else self.block))


class Model:
    """The reference as a scheme leaves it, one layer at a time."""

    def __init__(
        self,
        reference: ReferenceLinears,
        scheme: Scheme,
        outcome: Outcome | None,
        device: torch.device,
    ) -> None:
        self.reference, self.scheme, self.outcome = reference, scheme, outcome
        self.config, self.device = reference.config(), device

    def layer(self, prefix: str, names: Sequence[str] = ()) -> Layer:
        """The layer below a prefix, or one of these named tensors."""
        if names:
            tensors = {name: load_tensors(self.reference, name, self.device)[""] for name in names}
        else:
            tensors = load_tensors(self.reference, prefix, self.device)
        kind = RoughLayer if self.scheme.activation_bits == 8 else Layer
        layer = kind(self.config, tensors)
        if isinstance(layer, RoughLayer) and self.scheme.weight_bits == 4:
            layer.block = GridForm().group
        if self.outcome is not None:
            self._change(prefix, layer, self.outcome)
        return layer

    def _change(self, prefix: str, layer: Layer, outcome: Outcome) -> None:
        """Put in what the outcome has for a layer: norms, and weights of 4 or 8 bits."""
        groups = (HEAD_GROUP,) if prefix == "" else SCALE_GROUPS
        for group in groups:
            feeder = prefix + group.feeder
            for name in group.readers:
                if self.scheme.weight_bits == 4:
                    rough = self._placed(dequantize(outcome.tensors[prefix + name]))
                else:
                    weight = layer.weight(name)
                    if feeder in outcome.scales:
                        weight = weight * self._placed(outcome.scales[feeder])
                    rough = int8_blocks(weight, weight.shape[1])
                layer.replace(name, rough)
            if feeder in outcome.norms:
                layer.replace(group.feeder, self._placed(outcome.norms[feeder]).float())

    def _placed(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def log_probabilities(
    model: Model, ids: Sequence[Sequence[int]], positions: Sequence[Tensor]
) -> Tensor:
    """Log-probabilities f32 [asked, V] on the CPU of the tokens behind these places of each row."""
    parts = []
    for first in range(0, len(ids), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        parts.append(_log_probabilities(model, ids[some], positions[some]))
    return torch.cat(parts)


def _log_probabilities(
    model: Model, ids: Sequence[Sequence[int]], positions: Sequence[Tensor]
) -> Tensor:
    config, device = model.config, model.device
    lengths = [len(row) for row in ids]
    starts = np.cumsum([0, *lengths])
    asked = torch.cat([at + int(start) for at, start in zip(positions, starts, strict=False)])
    embedding = load_tensors(model.reference, "model.embed_tokens.weight", device)[""]
    hidden = embedding[torch.tensor([token for row in ids for token in row]).to(device)].float()
    prompts = Prompts(config, lengths, device)
    for index in range(config.layers):
        hidden = walk(model.layer(f"model.layers.{index}."), hidden, prompts)
    head = model.layer("", ["model.norm.weight", "lm_head.weight"])
    x = rms_norm(hidden[asked.to(device)], head.weight("model.norm"), config.rms_norm_eps)
    return F.log_softmax(head.linear("lm_head", x), dim=-1).cpu()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Sums over each pair's call tokens, in nats: the call's NLL, and H(p, q)."""

    nll: NDArray[np.float64]
    cross: NDArray[np.float64]
    tokens: NDArray[np.float64]


class Bench:
    """What all schemes share: the reference, its calibration set and the scored pairs."""

    def __init__(self, options: argparse.Namespace) -> None:
        workload_name, pairs, samples = options.workload, options.pairs, options.samples
        state, self.device = options.state, torch.device(options.device)
        workload = find(workload_name)
        directory = workload.reference_directory()
        self.directory = directory
        self.reference = open_reference(directory / WEIGHTS_FILE, workload.reference_sha256)
        self.calibration = calibration_set(workload, directory).first(samples)
        kind = workload.scored() if options.fresh is None else workload.unseen(pairs, options.fresh)
        _, prompts, calls = encode_pairs(directory, kind[:pairs])
        self.ids = [(p + c)[:-1] for p, c in zip(prompts, calls, strict=True)]
        self.positions = [
            torch.arange(len(p) - 1, len(p) - 1 + len(c))
            for p, c in zip(prompts, calls, strict=True)
        ]
        self.target = torch.tensor([token for call in calls for token in call])
        self.row = np.repeat(np.arange(len(calls)), [len(call) for call in calls])
        self.state = state
        self.model_tag = f"{workload_name.replace('@', '-')}-{samples}"
        drawn = "" if options.fresh is None else f"-fresh-{options.fresh}"
        self.tag = f"{workload_name.replace('@', '-')}-{pairs}{drawn}-{samples}"
        self.reference_log_p: Tensor | None = None

    def kept(self, scheme: Scheme) -> Path | None:
        """The file in the state folder that a scheme's scores go into."""
        name = "".join(c if c.isalnum() else "-" for c in scheme.name)
        return self.state / f"{self.tag}-{name}.npz" if self.state else None

    def scores(self, scheme: Scheme) -> Scores:
        """Quantize and score one scheme, or take it from the state folder."""
        kept = self.kept(scheme)
        if kept is not None and kept.exists():
            stored = np.load(kept)
            return Scores(nll=stored["nll"], cross=stored["cross"], tokens=stored["tokens"])
        start = time.monotonic()
        outcome = None
        if scheme.method is not None:
            outcome = self._quantized(scheme, scheme.method)
        quantized_s = time.monotonic() - start
        scores = self._score(scheme, outcome)
        peak_GiB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        told = f"quantized in {quantized_s:.0f} s, all {time.monotonic() - start:.0f} s"
        print(f"{scheme.name}: {told}, peak {peak_GiB:.1f} GiB", file=sys.stderr, flush=True)
        if kept is not None:
            np.savez(kept, nll=scores.nll, cross=scores.cross, tokens=scores.tokens)
        return scores

    def _quantized(self, scheme: Scheme, method: Method) -> Outcome:
        """The reference by a method, whose searches are kept."""
        if method.smoother is None:
            return quantize(self.reference, self.calibration, method, device=self.device)
        smoother = Remembered(method.smoother)
        form = method.form
        searched = f"{form.bits}-{form.group}-{method.smoother}"
        name = "".join(c if c.isalnum() else "-" for c in searched)
        kept = self.state / f"{self.model_tag}-{name}.pt" if self.state else None
        if kept is not None and kept.exists():
            smoother.answers = torch.load(kept, weights_only=True, map_location=self.device)
        method = replace(method, smoother=smoother)
        outcome = quantize(self.reference, self.calibration, method, device=self.device)
        if kept is not None:
            torch.save(smoother.answers, kept)
        return outcome

    def _score(self, scheme: Scheme, outcome: Outcome | None) -> Scores:
        log_p = self._log_p()
        log_q = log_p if outcome is None else self._run(scheme, outcome)
        nll = -log_q.gather(1, self.target[:, None])[:, 0]
        cross = -(log_p.exp() * log_q).sum(1)
        nll_sums, cross_sums = (
            np.bincount(self.row, weights=part.double().numpy()) for part in (nll, cross)
        )
        counts = np.bincount(self.row).astype(np.float64)
        return Scores(nll=nll_sums, cross=cross_sums, tokens=counts)

    def _log_p(self) -> Tensor:
        """What the reference answers, computed once."""
        if self.reference_log_p is None:
            kept = self.state / f"{self.tag}-log-p.pt" if self.state else None
            if kept is not None and kept.exists():
                self.reference_log_p = torch.load(kept, weights_only=True)
            else:
                self.reference_log_p = self._run(schemes()[0], None)
                if kept is not None:
                    torch.save(self.reference_log_p, kept)
        return self.reference_log_p

    def _run(self, scheme: Scheme, outcome: Outcome | None) -> Tensor:
        if outcome is not None and scheme.weight_bits == 4:
            return self._by_kernels(outcome, "w4a16" if scheme.activation_bits == 16 else "w4a8")
        with torch.inference_mode():
            model = Model(self.reference, scheme, outcome, self.device)
            return log_probabilities(model, self.ids, self.positions).clone()

    def _by_kernels(self, outcome: Outcome, path: Int4Path) -> Tensor:
        """As `log_probabilities`, by the INT4 engine that `bench run` measures."""
        weights = with_norms(load_reference(self.directory), outcome.norms)
        length, batch = max(map(len, self.ids)), BATCH[self.device.type]
        engine: DecodeEngine
        if self.device.type == "cpu":
            engine = build_int4(
                weights, outcome.tensors, path, max_batch=batch, max_length=length, cell="fp32"
            )
        else:
            engine = _gpu_engine(weights, outcome, path, batch, length)
        rows = []
        for first in range(0, len(self.ids), batch):
            some = self.ids[first : first + batch]
            lengths = [len(ids) for ids in some]
            padded = torch.zeros(len(some), max(lengths), dtype=torch.int64)
            for row, ids in zip(padded, some, strict=True):
                row[: len(ids)] = torch.tensor(ids)
            logits = engine.forward_all(padded, lengths)
            for row, at in zip(logits, self.positions[first : first + batch], strict=False):
                rows.append(F.log_softmax(row[at], dim=-1))
        return torch.cat(rows)


def _gpu_engine(
    weights: LlamaWeights, outcome: Outcome, path: Int4Path, batch: int, length: int
) -> DecodeEngine:
    from edgebench_kernels.cuda.engine_build import build_int4_on, pack_int4_on, resident
    from edgebench_kernels.cuda.engine_state import Room
    from edgebench_kernels.cuda.launcher import launcher_of

    launcher = launcher_of("cuda")
    weights = resident(weights, launcher)
    packed = pack_int4_on(launcher, weights, outcome.tensors)
    room = Room(max_batch=batch, max_length=length)
    return build_int4_on(launcher, weights, packed, PathChoice.of(path), room)


def interval(
    own: NDArray[np.float64], other: NDArray[np.float64], tokens: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Difference in nats per token and its 95 % interval, of pairs drawn for both."""
    change = own - other
    draws = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES // 1000):
        at = draws.integers(0, len(tokens), (1000, len(tokens)))
        means.append(change[at].sum(1) / tokens[at].sum(1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(change.sum() / tokens.sum()), float(low), float(high)


def words(difference: tuple[float, float, float]) -> str:
    """Millionths of a nat per token: '-123 [-150, -97]'."""
    value, low, high = (1e6 * part for part in difference)
    return f"{value:+.0f} [{low:+.0f}, {high:+.0f}]"


def row(scheme: Scheme, scores: dict[str, Scores]) -> str:
    """One line of the table."""
    own, plain, base = scores[scheme.name], scores[scheme.plain], scores["fp16"]
    tokens = own.tokens
    seen, expected = (float(np.exp(s.sum() / tokens.sum())) for s in (own.nll, own.cross))
    cells: list[str] = [scheme.name, f"{seen:.5f}", f"{expected:.5f}"]
    kinds: list[Callable[[Scores], NDArray[np.float64]]] = [lambda s: s.nll, lambda s: s.cross]
    is_base = scheme.name == "fp16"
    cells += ["-" if is_base else words(interval(k(own), k(base), tokens)) for k in kinds]
    is_plain = scheme.name == scheme.plain
    cells += ["-" if is_plain else words(interval(k(own), k(plain), tokens)) for k in kinds]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Parse, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", default="assistant")
    parser.add_argument("--pairs", type=int, default=1000, help="pairs to score")
    parser.add_argument("--fresh", type=int, metavar="SEED", help="pairs in no set, of this seed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--samples", type=int, default=128, help="calibration pairs")
    parser.add_argument(
        "--schemes", default="", metavar="A,B", help="only rows of these names or with this text"
    )
    parser.add_argument("--state", type=Path, help="folder to keep finished rows in")
    parser.add_argument("--kept", action="store_true", help="only what --state holds already")
    options = parser.parse_args()
    if options.device == "cpu":  # a second pool of another size would fight torch
        native.set_threads(torch.get_num_threads())
    if options.state is not None:
        options.state.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    table = schemes()
    texts, names = options.schemes.split(","), {scheme.name for scheme in table}
    parts = [text for text in texts if text not in names]
    wanted = [s for s in table if s.name in texts or any(part in s.name for part in parts)]
    if options.kept:
        wanted = [s for s in wanted if (path := bench.kept(s)) is not None and path.exists()]
    needed = {name for s in wanted for name in (s.name, s.plain, "fp16")}
    scores = {s.name: bench.scores(s) for s in table if s.name in needed}
    columns = ["perplexity", "expected", "over fp16", "expected", "over plain", "expected"]
    print("differences in millionths of a nat per token, with 95 % intervals", file=sys.stderr)
    print(f"| scheme | {' | '.join(columns)} |")
    print("| --- |" + " --- |" * len(columns))
    for scheme in (s for s in table if s.name in needed):
        print(row(scheme, scores))


if __name__ == "__main__":
    main()
