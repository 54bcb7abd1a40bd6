"""`bench audit`: a bundle that keeps the rules is run again, in ways it did not prepare for."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from edgebench import __version__, layout
from edgebench.audit import TESTS
from edgebench.audit.auditee import Auditee
from edgebench.audit.case import COUNTS, Case, Claimed, Likelihood
from edgebench.audit.cast import Cast, Player
from edgebench.audit.conduct import Judged, conduct
from edgebench.audit.intervals import Interval
from edgebench.audit.libraries import right_answers, scored_library, unseen_library
from edgebench.audit.library import Library
from edgebench.audit.premises import OWN, Given, Premises, differing, incomparable_outputs, premises
from edgebench.audit.record import AuditedKernel, AuditedTest, AuditMeasure, AuditRecord
from edgebench.audit.report import FORMATS, exit_code, markdown, overall
from edgebench.audit.runs import AuditTest, Part
from edgebench.bundle import Bundle, read_bundle
from edgebench.checker import check
from edgebench.codec import encode_model, make_folder, sha256_file, write_atomic
from edgebench.derive import REFERENCE, scored_outputs
from edgebench.devices import ResolvedDevice, is_on_gpu, resolve
from edgebench.errors import RuleViolation, SpecError, unknown_name
from edgebench.findings import BundleRefused, Finding
from edgebench.lineup import ask_server
from edgebench.lock import MachineLock
from edgebench.openai.engine import External, connect
from edgebench.prepared import PreparedWorkload
from edgebench.profiles import EXTERNAL, size_class
from edgebench.progress import Progress, choose_progress
from edgebench.record import Kernel
from edgebench.spec import ExternalRequest, external_request
from edgebench.system import SystemDescription, describe_system
from edgebench.target import open_target
from edgebench.utc import utc_now

RECORD = "audit.json"
TABLE = "audit.md"
ROOT = Path("audits")
BUILT_HERE: frozenset[str] = frozenset({"fp16", "int4", "open"})
ELSEWHERE = "what answered is not built here, and this audit asks no server"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """What the command line asks for."""

    bundle: Path
    tensors: Path | None = None
    student: Path | None = None
    tests: str = ",".join(TESTS)
    out: Path | None = None
    seed: int | None = None
    url: str | None = None
    """Of the server, for a bundle of an external engine."""
    served_model: str | None = None
    allow_remote: bool = False


@dataclass(slots=True, kw_only=True)
class _Audit:
    """One audit as it goes: what is fixed."""

    premises: Premises
    cast: Cast
    device: ResolvedDevice
    system: SystemDescription
    started_utc: str
    tests: Sequence[AuditTest]
    seed: int
    progress: Progress

    @property
    def prepared(self) -> PreparedWorkload:
        return self.premises.prepared

    @property
    def bundle(self) -> Bundle:
        return self.premises.bundle


def audit_command(options: AuditOptions, *, form: str, quiet: bool) -> tuple[str, int]:
    """Audit a bundle, file `audit.json` with its table, return what to print and the exit code.

    Nothing is written before the audit ended. Raises SpecError, RuleViolation for a bundle that
    `bench check` refuses, DeviceUnavailable for one of a device that is not here, RunFailed.
    """
    if form not in FORMATS:
        raise unknown_name("audit", "format", form, FORMATS)
    tests = chosen_tests(options.tests)
    _require_folder(options)
    progress = choose_progress(quiet)
    bundle = checked_bundle(options, progress)
    out = options.out or ROOT.joinpath(bundle.record.run_id, bundle.record.workload.name,
                                       bundle.record.scenario)  # fmt: skip
    if bundle.path in (out.absolute(), *out.absolute().parents):
        raise SpecError(f"[audit] expected --out outside the bundle, got {out}; choose another")
    record = audit(bundle, tests, options, progress)
    make_folder(out)
    write_atomic(out / RECORD, encode_model(record))
    write_atomic(out / TABLE, f"{markdown(record)}\n".encode())
    progress.note(f"audit: {out / RECORD}")
    return FORMATS[form](record), exit_code(record.verdict)


def chosen_tests(names: str) -> list[AuditTest]:
    """Return the tests of a list with commas, in the table's order; SpecError names the nearest."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked:
        if name not in TESTS:
            raise unknown_name("audit", "test", name, TESTS)
    if not asked:
        raise SpecError(f"[audit] expected --tests out of {', '.join(TESTS)}, got none")
    return [test for name, test in TESTS.items() if name in asked]


def _require_folder(options: AuditOptions) -> None:
    folders = (
        (options.bundle, "a bundle"),
        (options.tensors, "--tensors"),
        (options.student, "--student"),
    )
    for path, what in folders:
        if path is not None and not path.is_dir():
            raise SpecError(f"[audit] expected {what} to be a folder, got {path}; check the path")


def checked_bundle(options: AuditOptions, progress: Progress) -> Bundle:
    """Read a bundle that keeps every rule; RuleViolation says which one it breaks.

    Raises SpecError, before the check has taken its time, for what cannot be run again here.
    """
    path, tensors = options.bundle, options.tensors
    try:
        bundle = read_bundle(path)
    except BundleRefused as err:
        raise _broken(path, [err.finding]) from err
    _require_server(bundle, options.url)
    with progress.stage("bench check") as update:
        errors = [one for one in check(path, tensors=tensors) if one.severity == "error"]
        update(1, 1)
    if errors:
        raise _broken(path, errors)
    return bundle


def _broken(path: Path, errors: Sequence[Finding]) -> RuleViolation:
    more = f" ({len(errors) - 1} more: bench check {path})" if len(errors) > 1 else ""
    return RuleViolation(
        f"[audit] expected a bundle that passes bench check; nothing was run: {errors[0]}{more}"
    )


def _require_server(bundle: Bundle, url: str | None) -> None:
    """SpecError unless a server is given exactly where the bundle is an external engine's."""
    record = bundle.record
    is_external = record.external is not None or EXTERNAL in (one.kernel for one in record.results)
    if is_external and url is None:
        raise SpecError(
            "[audit] expected --url http://HOST:PORT of the server, whose engine the bundle "
            "measured and does not hold; start it as it was and give its address"
        )
    if url is not None and not is_external:
        raise SpecError(
            "[audit] expected --url with a bundle of an external engine only, got one of our own "
            "kernels, which are built here; omit it"
        )


def _request(bundle: Bundle, options: AuditOptions) -> ExternalRequest | None:
    """The server to ask, with as many requests in flight as the bundle had; None: none is asked."""
    external = bundle.record.external
    if options.url is None or external is None:
        return None
    return external_request(
        options.url,
        served_model=options.served_model,
        concurrency=external.concurrency,
        is_remote_allowed=options.allow_remote,
    )


def audit_device(bundle: Bundle) -> ResolvedDevice:
    """Find the device that the bundle's kernels ran on; DeviceUnavailable where it is not here."""
    host = bundle.record.host
    return resolve(host.device if is_on_gpu(host.executed_on) else "cpu")


def audit(
    bundle: Bundle, tests: Sequence[AuditTest], options: AuditOptions, progress: Progress
) -> AuditRecord:
    """Build what the bundle ran, run every test on every kernel, and record what came."""
    started = utc_now()
    device = audit_device(bundle)
    target = open_target(device.backend)
    seed = secrets.randbits(48) if options.seed is None else options.seed
    request = _request(bundle, options)
    served = None if request is None else connect(request)  # before minutes are spent
    with MachineLock() as lock, target.errors(), ExitStack() as at_end:
        system = target.described(describe_system())
        for text in differing(bundle.system, system):
            progress.note(f"not the bundle's system: {text}")
        has = Given(tensors=options.tensors, student=options.student)
        given = premises(bundle, system, target, has, progress)
        external = ask_server(request, served, given.prepared, progress, at_end)
        results = bundle.record.results
        kernels = [one.kernel for one in results if _is_at_hand(one.kernel, external)]
        own = [kernel for kernel in kernels if kernel in BUILT_HERE]
        with progress.stage(f"{bundle.record.workload.name}: packing and probing") as update:
            engines = target.engines(given.prepared, own)
            update(1, 1)
        going = _Audit(
            premises=given,
            cast=Cast(
                prepared=given.prepared,
                engines=engines,
                external=external,
                scenario=bundle.record.scenario,
                paths={one.kernel: one.executed_path for one in results},
                seed=seed,
            ),
            device=device,
            system=system,
            started_utc=started,
            tests=tests,
            seed=seed,
            progress=progress,
        )
        audited, unaudited = _audit_kernels(going, kernels), _elsewhere(going, kernels)
        other_runs_seen = lock.check()
    return _recorded(going, audited, unaudited, other_runs_seen)


def _recorded(
    going: _Audit,
    audited: list[AuditedKernel],
    unaudited: list[AuditedKernel],
    other_runs_seen: bool,
) -> AuditRecord:
    bundle, given = going.bundle, going.premises
    record = bundle.record
    return AuditRecord(
        run_id=record.run_id,
        bundle_sha256=sha256_file(bundle.path / layout.CHECKSUMS),
        track=record.track,
        organisation=record.organisation,
        workload=record.workload.name,
        disclosure=record.workload.disclosure,
        scenario=record.scenario,
        transform=next((r.transform for r in record.results if r.kernel in OWN), "none"),
        system_claimed=record.system,
        system=going.system.name,
        differences=list(given.differences),
        executed_on=going.device.executed_on,
        threads=given.threads,
        other_runs_seen=other_runs_seen,
        seed=going.seed,
        tool_version=__version__,
        started_utc=going.started_utc,
        finished_utc=utc_now(),
        verdict=overall(
            [test.verdict for one in audited for test in one.tests], is_whole=not unaudited
        ),
        kernels=audited + unaudited,
    )


def _is_at_hand(kernel: Kernel, external: External | None) -> bool:
    return kernel in BUILT_HERE or (kernel == EXTERNAL and external is not None)


def _audit_kernels(going: _Audit, kernels: Sequence[Kernel]) -> list[AuditedKernel]:
    scenario = going.bundle.record.scenario
    counts = COUNTS[size_class(going.bundle.record.workload.name), scenario]
    questions = max(counts.answers, going.prepared.scored_count // 2)
    unseen = unseen_library(going.prepared, questions, going.seed)
    audited = []
    for kernel in kernels:
        player = going.cast.player(kernel)
        parts: dict[Part, Auditee] = {"submitted": player.auditee}
        if kernel != REFERENCE:
            parts["reference"] = going.cast.player(REFERENCE).auditee
        case = _case(going, player, unseen)
        with going.progress.stage(f"audit of {kernel}") as update:
            judged = conduct(case, going.tests, parts, update)
        audited.append(
            AuditedKernel(
                kernel=kernel,
                executed_path=player.executed_path,
                tests=[_filed(one) for one in judged],
            )
        )
    return audited


def _elsewhere(going: _Audit, kernels: Sequence[Kernel]) -> list[AuditedKernel]:
    """Say of every other kernel of the bundle that nothing of it was audited."""
    return [
        AuditedKernel(
            kernel=one.kernel,
            executed_path=one.executed_path,
            tests=[
                AuditedTest(
                    test=test.name,
                    catches=test.catches,
                    verdict="not applicable",
                    note=ELSEWHERE,
                    runs=0,
                    queries=0,
                    measures=[],
                )
                for test in going.tests
            ],
        )
        for one in going.bundle.record.results
        if one.kernel not in kernels
    ]


def _case(going: _Audit, player: Player, unseen: Library | None) -> Case:
    record, kernel = going.bundle.record, player.kernel
    return Case(
        kernel=kernel,
        scenario=record.scenario,
        scored=scored_library(going.prepared),
        unseen=unseen,
        counts=COUNTS[size_class(record.workload.name), record.scenario],
        batch_size=player.batch_size,
        published_seed=record.seeds.sample_index,
        seed=going.seed,
        claimed=_claimed(going, player),
        reference="fp16 is the reference" if kernel == REFERENCE else None,
    )


def _claimed(going: _Audit, player: Player) -> Claimed:
    bundle, kernel = going.bundle, player.kernel
    reason = incomparable_outputs(bundle, kernel, going.system, player.executed_path)
    result = next(one for one in bundle.record.results if one.kernel == kernel)
    speedup, untimed = None, None
    if going.premises.differences:
        untimed = "another system than the bundle's: no time is compared with it"
    elif kernel == EXTERNAL and result.executed_path != player.executed_path:
        untimed = "another server than the bundle's: no time is compared with it"
    elif bundle.record.scenario == "offline":
        untimed = "an offline round is the whole set: bench run repeats them"
    elif result.speedup is None or result.speedup_ci95 is None:
        untimed = "the bundle claims no speedup of this kernel"
    else:
        low, high = result.speedup_ci95
        speedup = Interval(value=result.speedup, low=low, high=high)
    calls = right_answers(going.prepared)
    return Claimed(
        outputs=scored_outputs(bundle.samples, kernel),
        incomparable=reason,
        likelihood={
            row.sample: Likelihood(call=tuple(calls[row.sample]), nats=row.nll_nats)
            for row in bundle.nll
            if row.kernel == kernel
        },
        speedup=speedup,
        untimed=untimed or "",
    )


def _filed(judged: Judged) -> AuditedTest:
    return AuditedTest(
        test=judged.test,
        catches=judged.catches,
        verdict=judged.verdict,
        note=judged.note[:2000],
        runs=judged.runs,
        queries=judged.queries,
        measures=[AuditMeasure(**asdict(measure)) for measure in judged.measures],
    )
