"""The run specification: what the user asked for, in exact types, every name checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from edgebench.errors import RuleViolation, SpecError, harness_error, unknown_name
from edgebench.images.request import image_steps
from edgebench.meters import EVERY, METERS, MeterRequest, parse_meter
from edgebench.openai.address import Address, parse_url
from edgebench.profiles import EXTERNAL_TRANSFORM
from edgebench.record import Kernel, Profile, Scenario, Track
from edgebench.transform import TransformChain, check_calibration, parse_transform
from edgebench.transform.nas import NAME as NAS
from edgebench.transform.sharing import NAME as SHARE
from edgebench.transform.students import named
from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.errors import WorkloadError

SCENARIO_ALIASES: Mapping[str, Scenario] = {
    "single": "single-stream",
    "singlestream": "single-stream",
}
DEFAULT_WORKLOADS = "assistant,assistant@300m"
LLM = "llm"  # a model and a text of the user's own; no row of WORKLOADS, whose hashes are pinned
DEFAULT_KERNELS = "fp16,int4"
DEFAULT_TRANSFORM = "rtn"
OF_SCENARIOS = ("scenario", "profile", "budget", "meter", "require_power")
"""Options of `bench run` that a perplexity knows nothing of."""
SUTS = ("own", "openai")
DEFAULT_CONCURRENCY = 8  # requests in flight, offline
MAX_CONCURRENCY = 256  # threads of the client
DEFAULT_CONTEXT = 2048  # tokens of the published perplexities of GPTQ, AWQ and those after them
BUDGETS_S: Mapping[Profile, float | None] = {
    "quick": 360.0,  # a first leaderboard within six minutes
    "standard": None,
    "official": None,
}
FOLDER_NAME = r"[A-Za-z0-9][A-Za-z0-9@._-]{0,99}"  # record.Name


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What `--workload llm` asks for."""

    model: str
    """A directory or a hub id, as typed."""
    text: Path
    context: int
    stride: int
    calibration: Path | None = None
    """A text for transforms that learn from one."""

    @property
    def name(self) -> str:
        """How a record calls it: no folder of this machine, only the last one's name."""
        path = Path(self.model).expanduser()
        return path.resolve().name if path.is_dir() else self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalRequest:
    """What `--sut openai` asks for."""

    address: Address
    served_model: str | None
    """As the server calls it; None: the only one that it serves."""
    concurrency: int
    """Requests in flight, offline."""
    is_remote_allowed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One `bench run`: the product of workloads x scenarios, each with its kernels side by side."""

    track: Track
    device: str
    """As typed; `devices.resolve` checks it against the table and the machine."""
    workloads: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    kernels: tuple[Kernel, ...]
    transform: TransformChain
    profile: Profile
    out: Path
    organisation: str
    resume: bool
    threads: int | None
    affinity: tuple[int, ...] | None
    """CPUs to run on; None: wherever the system wants."""
    budget_s: float | None
    """Scenarios that would not fit into this much time are skipped with a reason."""
    own_model: ModelRequest | None = None
    """Given exactly when the workload is `llm`."""
    external: ExternalRequest | None = None
    """Given exactly when the kernel `external` is measured."""
    meter: MeterRequest = EVERY
    require_power: bool = False
    """Refuse to begin where no meter covers what kernels execute on."""

    @property
    def declared_transform(self) -> str:
        """What is said to have been done to the weights."""
        return str(self.transform) if self.external is None else EXTERNAL_TRANSFORM


def split_names(value: str) -> tuple[str, ...]:
    """Split a comma-separated option, keeping the order and dropping repeats."""
    names = dict.fromkeys(part.strip() for part in value.split(",") if part.strip())
    if not names:
        raise SpecError(f"[run] expected one name or several with commas, got {value!r}")
    return tuple(names)


def _known(what: str, names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    table = tuple(known)
    for name in names:
        if name not in table:
            raise unknown_name("run", what, name, table)
    return tuple(names)


def _one(what: str, name: str, known: Iterable[str]) -> str:
    return _known(what, (name,), known)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of one `bench run` as they were typed; names are not checked yet."""

    track: str = "closed"
    device: str = "auto"
    workload: str = DEFAULT_WORKLOADS
    scenario: str = "single-stream,offline"
    kernel: str = DEFAULT_KERNELS
    transform: str = DEFAULT_TRANSFORM
    profile: str = "quick"
    out: Path = Path("submissions")
    organisation: str = "unaffiliated"
    resume: bool = False
    threads: int | None = None
    affinity: str | None = None
    budget: str | None = None
    """Minutes, or a duration such as 1h30m; None is the profile's own."""
    dry_run: bool = False
    model: str | None = None
    text: Path | None = None
    context: int | None = None
    stride: int | None = None
    sut: str = "own"
    url: str | None = None
    served_model: str | None = None
    concurrency: int | None = None
    allow_remote: bool = False
    calibration: Path | None = None
    meter: str = "auto"
    require_power: bool = False


def parse_run(options: RunOptions) -> RunSpec:
    """Check every name of a `bench run` and build its spec; SpecError names the nearest match."""
    workloads = _known("workload", split_names(options.workload), (*WORKLOADS, LLM))
    scenarios = tuple(SCENARIO_ALIASES.get(name, name) for name in split_names(options.scenario))
    external = _external(workloads, options)
    transform = parse_transform(options.transform)
    kernels = _kernels(options, _candidate(transform, external))
    if re.fullmatch(FOLDER_NAME, options.organisation) is None:
        raise SpecError(
            "[run] expected organisation to be a folder name of letters, digits, '.', '_' and '-', "
            f"got {options.organisation!r}"
        )
    profile = cast(Profile, _one("profile", options.profile, get_args(Profile)))
    if options.dry_run and (options.resume or LLM in workloads):
        raise SpecError(
            "[run] expected --dry-run without --resume and with workloads that have scenarios, "
            "not llm: it plans what a new run would measure"
        )
    spec = RunSpec(
        track=cast(Track, _one("track", options.track, get_args(Track))),
        device=options.device,
        workloads=workloads,
        scenarios=cast("tuple[Scenario, ...]", _known("scenario", scenarios, get_args(Scenario))),
        kernels=cast("tuple[Kernel, ...]", kernels),
        transform=transform,
        profile=profile,
        out=options.out,
        organisation=options.organisation,
        resume=options.resume,
        threads=options.threads,
        affinity=None if options.affinity is None else parse_cpus(options.affinity),
        budget_s=BUDGETS_S[profile] if options.budget is None else parse_budget(options.budget),
        own_model=_own_model(workloads, options),
        external=external,
        meter=parse_meter(options.meter, METERS),
        require_power=options.require_power,
    )
    _check_track(spec)
    spec = replace(spec, transform=named(spec.transform))
    _check_kinds(spec)
    if spec.own_model is not None:
        is_given = spec.own_model.calibration is not None
        check_calibration("run", spec.transform, is_given=is_given)
    return spec


def _candidate(transform: TransformChain, external: ExternalRequest | None) -> str:
    """The kernel that is compared with fp16."""
    if external is not None:
        return "external"
    return "int4" if transform.rounding is not None else "open"


def _kernels(options: RunOptions, candidate: str) -> tuple[str, ...]:
    """The reference and the candidate, in the order asked for."""
    kernels = _known("kernel", split_names(options.kernel), get_args(Kernel))
    if options.kernel == DEFAULT_KERNELS:
        kernels = ("fp16", candidate)
    if set(kernels) != {"fp16", candidate}:
        raise SpecError(
            "[run] expected the reference fp16 and a kernel to compare with it, because a bundle "
            f"holds both, got {options.kernel!r}; use --kernel fp16,{candidate} (int4 where the "
            "transform quantizes, open where it leaves the open track's model in fp16), or --sut "
            "openai, whose kernel is called external"
        )
    return kernels


def _own_model(workloads: tuple[str, ...], options: RunOptions) -> ModelRequest | None:
    """What `llm` needs, all of it; None for other workloads, which take none of it."""
    given = {
        "--model": options.model,
        "--text": options.text,
        "--context": options.context,
        "--stride": options.stride,
        "--calibration": options.calibration,
    }
    if LLM not in workloads:
        typed = [name for name, value in given.items() if value is not None]
        if typed:
            raise SpecError(f"[run] expected {', '.join(typed)} with --workload llm only")
        return None
    if workloads != (LLM,) or options.track != "closed" or options.resume:
        raise SpecError(
            "[run] expected --workload llm alone, in the closed track and without --resume: it "
            "measures a perplexity, which no bundle holds"
        )
    typed = [name for name in OF_SCENARIOS if getattr(options, name) != getattr(RunOptions(), name)]
    if typed:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
        raise SpecError(
            f"[run] expected {words} with workloads that have scenarios, got --workload llm, which "
            "times nothing; omit it"
        )
    if options.model is None or options.text is None:
        raise SpecError(
            "[run] expected --workload llm with --model, a directory or a hub id, and --text, a "
            "UTF-8 file to predict"
        )
    context = DEFAULT_CONTEXT if options.context is None else options.context
    stride = context if options.stride is None else options.stride
    if context < 2 or not 1 <= stride <= context:
        raise SpecError(
            "[run] expected --context of 2 tokens or more and a --stride between 1 and it, "
            f"got {context} and {stride}"
        )
    return ModelRequest(
        model=options.model,
        text=options.text,
        context=context,
        stride=stride,
        calibration=options.calibration,
    )


def parse_budget(text: str) -> float:
    """Read a budget, in seconds: minutes as a plain number, or 20m, 1h30m, 90s, 1.5h."""
    number = r"(\d{1,6}(?:\.\d{1,6})?)"
    plain = re.fullmatch(number, text.strip())
    parts = re.fullmatch(f"(?:{number}h)?(?:{number}m)?(?:{number}s)?", text.strip())
    seconds = 60.0 * float(plain[1]) if plain else 0.0
    if parts:
        each = zip(parts.groups(), (3600.0, 60.0, 1.0), strict=True)
        seconds += sum(float(value) * unit_s for value, unit_s in each if value)
    if seconds <= 0:
        raise SpecError(
            "[run] expected --budget to be minutes or a duration such as 20m, 1h30m or 90s, more "
            f"than nothing, got {text!r}"
        )
    return seconds


def _external(workloads: tuple[str, ...], options: RunOptions) -> ExternalRequest | None:
    """What `--sut openai` needs, all of it; None for our own engine, which takes none of it."""
    given = {
        "--url": options.url,
        "--served-model": options.served_model,
        "--concurrency": options.concurrency,
        "--allow-remote": options.allow_remote or None,
    }
    if _one("system under test", options.sut, SUTS) == "own":
        typed = [name for name, value in given.items() if value is not None]
        if typed:
            raise SpecError(f"[run] expected {', '.join(typed)} with --sut openai only")
        return None
    if options.url is None:
        raise SpecError("[run] expected --sut openai with --url http://HOST:PORT of a server")
    if len(workloads) != 1 or workloads == (LLM,):
        raise SpecError(
            "[run] expected --sut openai with one workload, whose model the server holds, got "
            f"{','.join(workloads)}; name it with --workload"
        )
    if options.transform != DEFAULT_TRANSFORM:
        raise SpecError(
            f"[run] expected no --transform with --sut openai, got {options.transform!r}: what was "
            "done to a server's weights cannot be checked, so it is not declared either"
        )
    concurrency = DEFAULT_CONCURRENCY if options.concurrency is None else options.concurrency
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise SpecError(
            f"[run] expected --concurrency between 1 and {MAX_CONCURRENCY}, got {concurrency}"
        )
    return external_request(
        options.url,
        served_model=options.served_model,
        concurrency=concurrency,
        is_remote_allowed=options.allow_remote,
    )


def external_request(
    url: str, *, served_model: str | None, concurrency: int, is_remote_allowed: bool
) -> ExternalRequest:
    """Read the address of a server; SpecError for another machine's where that is not allowed."""
    address = parse_url(url)
    if not (address.is_loopback or is_remote_allowed):
        raise SpecError(
            f"[openai] expected a server on this machine, got {url}: another machine's speed would "
            "stand beside this one's reference; --allow-remote measures it all the same"
        )
    return ExternalRequest(
        address=address,
        served_model=served_model,
        concurrency=concurrency,
        is_remote_allowed=is_remote_allowed,
    )


def parse_cpus(text: str) -> tuple[int, ...]:
    """Read a list of CPUs as taskset does: '0,2-3'; ascending, without repeats."""
    cpus: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if first > last:
            raise SpecError(f"[run] expected --affinity to be CPUs such as 0,2-3, got {text!r}")
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


def _check_track(spec: RunSpec) -> None:
    """Refuse, before any work, what no bundle of this track could be: RuleViolation (exit 5)."""
    changes = [step.name for step in spec.transform.changes]
    if spec.track == "closed" and changes:
        raise RuleViolation(
            f"[W-07] expected post-training quantization in the closed track, got "
            f"{'+'.join(changes)}; submit to the open track (--track open)"
        )
    if spec.track == "open":
        closed_only = [name for name in spec.workloads if WORKLOADS[name].closed_only]
        if closed_only:
            raise RuleViolation(
                f"[W-08] expected workloads of the open track, got {', '.join(closed_only)}: a "
                "widened model is redundant by construction, so it runs in the closed track only; "
                "use --workload assistant"
            )


def _kind_of(name: str) -> str:
    try:
        return WORKLOADS[name].kind
    except WorkloadError as error:  # its task.toml cannot be read
        raise harness_error(error) from error


def _check_kinds(spec: RunSpec) -> None:
    """Refuse, before any work, steps that a workload's kind of model does not take: SpecError."""
    images = [name for name in spec.workloads if name != LLM and _kind_of(name) == "images"]
    if images:
        image_steps(spec.transform)
    own = [name for name in (NAS, SHARE) if name in spec.transform.names]
    if not own:
        return
    without = [name for name in spec.workloads if name not in images]
    if without:
        raise SpecError(
            f"[{own[0]}] expected workloads of images, got {', '.join(without)}; use --workload "
            "wake"
        )
