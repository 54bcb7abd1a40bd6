"""Natural loops of a program, from its branches.

A branch from b back to h makes a loop if every way to b leads through h (h dominates b); its body
is h and all that reaches b without passing h. Source: Aho, Lam, Sethi, Ullman, "Compilers", §9.6.
Code that a compiler puts out of line and that jumps back into a loop makes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Edge = tuple[int, int]


def innermost_loops(
    count: int, branches: Iterable[Edge], ends: set[int], interesting: set[int]
) -> list[set[int]]:
    """The loops that hold interesting instructions and no other loop that holds any.

    count: instructions, of which 0 is the first.   branches: (from, to).   ends: instructions whose
    next one is never reached from them.
    """
    successors: list[list[int]] = [[] for _ in range(count)]
    for i in range(count - 1):
        if i not in ends:
            successors[i].append(i + 1)
    for source, target in branches:
        successors[source].append(target)
    loops = [body for body in natural_loops(successors) if body & interesting]
    return [body for body in loops if not any(other < body for other in loops)]


def natural_loops(successors: Sequence[Sequence[int]]) -> list[set[int]]:
    """The bodies of all loops that node 0 reaches; loops of one head are one loop."""
    order = _postorder(successors)
    parents = _immediate_dominators(successors, order)
    predecessors = _predecessors(successors, order)
    rank = {node: i for i, node in enumerate(order)}
    bodies: dict[int, set[int]] = {}
    for node in order:
        for head in successors[node]:
            if rank[head] >= rank[node] and _dominates(head, node, parents):
                bodies.setdefault(head, {head}).update(_body(head, node, predecessors))
    return list(bodies.values())


def _postorder(successors: Sequence[Sequence[int]]) -> list[int]:
    """Every node that 0 reaches, each after those that are reached from it first."""
    order: list[int] = []
    seen = {0}
    stack = [(0, iter(successors[0]))]
    while stack:
        node, following = stack[-1]
        unseen = next((other for other in following if other not in seen), None)
        if unseen is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(unseen)
            stack.append((unseen, iter(successors[unseen])))
    return order


def _predecessors(
    successors: Sequence[Sequence[int]], order: Iterable[int]
) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {node: [] for node in order}
    for node in found:
        for other in successors[node]:
            found[other].append(node)
    return found


def _immediate_dominators(
    successors: Sequence[Sequence[int]], order: Sequence[int]
) -> dict[int, int]:
    """Cooper, Harvey, Kennedy, "A Simple, Fast Dominance Algorithm", 2001."""
    rank = {node: i for i, node in enumerate(order)}
    predecessors = _predecessors(successors, order)
    parents = {0: 0}
    is_changed = True
    while is_changed:
        is_changed = False
        for node in reversed(order[:-1]):  # 0 is the last
            known = [other for other in predecessors[node] if other in parents]
            parent = known[0]
            for other in known[1:]:
                parent = _meet(parent, other, parents, rank)
            if parents.get(node) != parent:
                parents[node] = parent
                is_changed = True
    return parents


def _meet(a: int, b: int, parents: dict[int, int], rank: dict[int, int]) -> int:
    while a != b:
        while rank[a] < rank[b]:
            a = parents[a]
        while rank[b] < rank[a]:
            b = parents[b]
    return a


def _dominates(head: int, node: int, parents: dict[int, int]) -> bool:
    while node not in (head, parents[node]):
        node = parents[node]
    return node == head


def _body(head: int, tail: int, predecessors: dict[int, list[int]]) -> set[int]:
    """All that reaches `tail` without passing `head`."""
    body = {head, tail}
    stack = [tail] if tail != head else []
    while stack:
        for other in predecessors[stack.pop()]:
            if other not in body:
                body.add(other)
                stack.append(other)
    return body
