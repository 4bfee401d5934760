"""What the pages tell a reader to type exists: commands, options, settings, pictures, and a place in the index."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from editcritic.plugin.cli.app import app
from editcritic.server.__main__ import _parser

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
COMMANDS: Any = typer.main.get_command(app)
SERVER_FLAGS = {flag for action in _parser()._actions for flag in action.option_strings}
TAKES_THE_SERVERS = {"serve", "studio"}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def typed(text: str) -> Iterator[list[str]]:
    """The words of every `editcritic ...` that a page shows, in a block or in a line."""
    fences = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    blocks = "\n".join(code for kind, code in fences if kind in ("", "console", "sh")).replace("\\\n", " ")
    inline = re.findall(r"(?<!`)`(editcritic [^`\n]+)`", text)
    for line in [*blocks.splitlines(), *inline]:
        for part in re.split(r"\s(?:&&|\|)\s", line):
            found = re.search(r"(?:^|[\s/])editcritic ([a-z].*)", part.partition(" # ")[0])
            if found and not part.lstrip().startswith("editcritic listens"):
                lexer = shlex.shlex(found[1], posix=True, punctuation_chars=False)
                lexer.whitespace_split, lexer.commenters = True, "#"
                yield list(lexer)


def unknown_in(words: list[str]) -> list[str]:
    """Commands and options that there are none of."""
    command, names = COMMANDS, []
    while words and hasattr(command, "commands"):
        name = words.pop(0).rstrip(",")
        if name not in command.commands:
            return [" ".join([*names, name])]
        names.append(name)
        command = command.commands[name]
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    known |= {"--help"} | (SERVER_FLAGS if names[0] in TAKES_THE_SERVERS else set())
    asked = [word.partition("=")[0].rstrip(",)") for word in words if re.match(r"--?[a-z]", word)]
    return [f"{' '.join(names)} {flag}" for flag in asked if flag not in known]


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_of_a_page_exist(page: str) -> None:
    assert [told for words in typed(text_of(page)) for told in unknown_in(words)] == []


def test_a_command_that_does_not_exist_is_noticed() -> None:
    page = "```console\n$ editcritic edit --picture a\n$ X=1 editcritic mend a\n```\n`editcritic score --json --fast`"
    assert [told for words in typed(page) for told in unknown_in(words)] == [
        "edit --picture",
        "mend",
        "score --fast",
    ]


@pytest.mark.parametrize("page", PAGES)
def test_pictures_of_a_page_exist_and_say_what_they_show(page: str) -> None:
    shown = re.findall(r"<img ([^>]*)>", text_of(page))
    for attributes in shown:
        source, alt = (re.search(rf'{name}="([^"]+)"', attributes) for name in ("src", "alt"))
        assert source, attributes
        assert ((ROOT / page).parent / source[1]).exists(), source[1]
        assert alt, f"{source[1]} has no words for those who do not see it"
        assert len(alt[1]) > 20
    for alt, path in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text_of(page)):
        assert alt, path


@pytest.mark.parametrize("page", PAGES)
def test_places_within_pages_exist(page: str) -> None:
    for target, place in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text_of(page)):
        file = ROOT / page if not target else (ROOT / page).parent / target
        if file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert place in {anchor(each) for each in headings}, f"{target}#{place}"


def anchor(heading: str) -> str:
    """A heading's anchor as the usual hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def test_every_page_has_a_line_in_the_index() -> None:
    listed = re.findall(r"^- \[[^\]]+\]\((\w[\w-]*\.md)\): ", text_of("docs/README.md"), re.MULTILINE)
    there = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(listed) == there
    assert len(listed) == len(set(listed))


def test_every_question_that_names_an_issue_names_project_and_number() -> None:
    entries = re.findall(r"^\*\*[^*]+\*\*(?: \(([^)]*)\))?", text_of("docs/faq.md"), re.MULTILINE)
    named = [entry for entry in entries if "#" in entry]
    assert len(named) > 25
    for entry in named:
        assert re.match(r"[A-Za-z][\w./ -]+ #\d+", entry), entry


@pytest.mark.parametrize("page", PAGES)
def test_no_line_begins_with_a_number_sign_that_is_no_heading(page: str) -> None:
    assert (
        re.findall(
            r"^ {0,3}#+[^# \n].*$", re.sub(r"^ *```.*?^ *```", "", text_of(page), flags=re.M | re.S), re.M
        )
        == []
    )


def test_the_readme_fits_and_begins_with_what_it_is() -> None:
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 140
    first_screen = "\n".join(lines[:45])
    assert "<img" in first_screen
    assert "`make demo`" in first_screen
    assert "`make test`" in first_screen
