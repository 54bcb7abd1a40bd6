"""The audit: re-runs what a bundle claims with intent to catch; one file and one row for each test.

`bench check` reads what was filed; an audit runs the system again, in ways that a cheat did not
prepare for. A test plans runs and judges what came of them, over the load generator's callbacks, so
whatever answers them can be audited.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.audit.caching import Caching
from edgebench.audit.claims import Claims
from edgebench.audit.length import Length
from edgebench.audit.outputs import OutputsTest
from edgebench.audit.perturbed import Perturbed
from edgebench.audit.runs import AuditTest
from edgebench.audit.seeds import Seeds
from edgebench.audit.tokens import Tokens
from edgebench.audit.unseen import Unseen

# In this order: caching meets a server that has seen no scored question yet.
TESTS: Mapping[str, AuditTest] = {
    test.name: test
    for test in (
        Caching(), OutputsTest(), Seeds(), Tokens(), Length(), Perturbed(), Unseen(), Claims(),
    )
}  # fmt: skip
