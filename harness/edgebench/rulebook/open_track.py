"""The open track: anything may be done to the model, and what it then is gets measured."""

from __future__ import annotations

from edgebench import profiles as p
from edgebench.rulebook.rule import OPEN_OWN, OWN, Rule

RULES = (
    Rule(
        id="O-01",
        title="Open: the whole model is filed",
        text="Where a step changed the model, int4.safetensors and open.safetensors together hold "
        "each tensor of the declared shape once, with that shape: the linear layers in INT4 or "
        "everything in fp16. Each has the ledger's sha256, and every value is finite. A changed "
        "network of images is filed whole in fp16; INT4 tensors are rtn's of it, bit for bit.",
        why="What is not filed cannot be counted.",
        source="ours: docs/open-track.md",
        what_to_do="run again, and leave the bundle as bench run wrote it",
        applies_to=OPEN_OWN,
        checks=("checker.open_track.check_filed", "checker.network.check_filed"),
    ),
    Rule(
        id="O-02",
        title="Open: the ledger follows from the tensors",
        text="Parameters, nonzero parameters, bits per weight, entropy bound, each tensor's "
        "pattern, dense and effective multiply-adds, peak memory and the stages of a coded file "
        "are the filed tensors'.",
        why="Sparsity that is declared and not there is no sparsity.",
        source="ours: docs/open-track.md; the entropy bound is Deep Compression's point (Han 2016)",
        what_to_do="run again; no number of the ledger is written by hand",
        applies_to=OPEN_OWN,
        checks=("checker.open_track.check_facts", "checker.network.check_facts"),
    ),
    Rule(
        id="O-03",
        title="Open: a step did what it says",
        text="A prune step's pattern or share is in the tensors, or its cut in the shape; behind "
        "a share step no weight has more than 2^bits values beside zero; a step "
        "that looked at data names the calibration set; the reference's shape, or the shape of the "
        "student that took its place, less all cuts is the model's.",
        why="A ledger that tells another story than the model explains nothing.",
        source="ours: docs/open-track.md",
        what_to_do="declare the steps that were taken",
        applies_to=OPEN_OWN,
        checks=("checker.open_track.check_steps", "checker.network.check_steps"),
    ),
    Rule(
        id="O-04",
        title="Open: training has a teacher and a price",
        text="Each finetune or distill step, and nothing else, has a training entry: the reference "
        "as teacher, CPU seconds above 0; examples = steps x batch of a finetune, the sha256 of "
        "its weights of a student.",
        why="Accuracy that was bought must show what it cost.",
        source="ours: docs/open-track.md",
        what_to_do="run again",
        applies_to=OPEN_OWN,
        checks=("checker.open_track.check_training",),
    ),
    Rule(
        id="O-05",
        title="What bars it from the closed track is listed",
        text="The record's not_closed is what its ledger gives: empty in the closed track, where "
        "no step changes the model and no open model is filed.",
        why="A reader must see at once why two results are not the same race.",
        source="ours: docs/open-track.md",
        what_to_do="run again",
        applies_to=OWN,
        checks=("checker.open_track.check_not_closed",),
    ),
    Rule(
        id="O-06",
        title="Open: the student is the one that is named",
        text="A distill step comes first and names the shipped student, or another by the first "
        "12 digits of its tensors' sha256. The shipped one is this installation's, with its "
        "training. Where nothing but a quantizer follows, the filed fp16 tensors and every INT4 "
        "weight are what the closed track's rules make of that student.",
        why="A student that only the ledger knows could be any model.",
        source="ours: docs/open-track.md",
        what_to_do="run again with the student that was measured",
        applies_to=OPEN_OWN,
        checks=("checker.distilled.check_student",),
    ),
    Rule(
        id="O-07",
        title="Open: a subnet is the supernet's",
        text="A nas step files the whole subnet in fp16. Its genome lies in the space; cut from "
        "the shipped supernet again, norms calibrated by numpy, every tensor is the filed one to "
        f"fp16 and {p.SUBNET_TOLERANCE:g} of its largest value (of a bias: of 1); INT4 tensors are "
        "rtn's of those, bit for bit. Counts follow from the tensors; the predicted latency is the "
        "table's sum, of every finalist too; the winner is one of them. Its latency as measured, "
        "peak memory or multiply-adds keep the limit that the step names (where no finalists are "
        "listed, its latency as predicted).",
        why="A model that was trained on is another entry than one that was found.",
        source="ours: docs/open-track.md; Once-for-All (arXiv:1908.09791)",
        what_to_do="run again, and leave the bundle as bench run wrote it",
        applies_to=OPEN_OWN,
        checks=("checker.subnet.check_subnet",),
    ),
    Rule(
        id="O-08",
        title="Open: a coded file is the model that ran",
        text="A share step files coded.bin, which decodes to the filed fp16 tensors, bit for bit; "
        "no other bundle holds one.",
        why="A size on disk counts only if what was measured comes back out of it.",
        source="ours: docs/open-track.md; Deep Compression (Han et al., ICLR 2016)",
        what_to_do="run again, and leave the bundle as bench run wrote it",
        applies_to=OPEN_OWN,
        checks=("checker.network.check_coded",),
    ),
)
