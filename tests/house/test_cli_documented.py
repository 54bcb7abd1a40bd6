"""Every command and option of `bench` says what it does, and the README names every command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgebench.cli import main


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every leaf command by the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(main))


def test_there_are_commands() -> None:
    assert {"run", "check", "leaderboard"} <= COMMANDS.keys()


@pytest.mark.parametrize("words", COMMANDS)
def test_help_says_what_it_does(words: str) -> None:
    shown = CliRunner().invoke(main, [*words.split(), "--help"])
    assert shown.exit_code == 0, shown.output
    assert COMMANDS[words].help, f"bench {words} has no docstring"


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_has_help(words: str) -> None:
    silent = [
        option.opts[0]
        for option in COMMANDS[words].params
        if isinstance(option, click.Option) and not option.help and not option.hidden
    ]
    assert not silent, f"bench {words}: no help on {silent}"


@pytest.mark.parametrize("words", COMMANDS)
def test_the_readme_names_it(words: str, root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert f"bench {words}" in readme, f"README.md never mentions `bench {words}`"
