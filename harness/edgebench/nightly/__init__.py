"""Nightly regression runs: head against a pinned baseline, in pairs of fresh processes.

suite.toml -> cells -> session (ABBA pairs) -> night (verdicts, drift control, false discoveries)
night -> history.jsonl -> creep;   selftest plants known slow-downs and counts what is called
"""
