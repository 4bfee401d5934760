"""What passes between us and GIMP's Script-Fu server, and where its menu entries go; no GIMP is needed."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import closing
from pathlib import Path

import pytest

from editcritic.plugin.cli import main
from editcritic.plugin.gimp.document import find_image
from editcritic.plugin.gimp.installing import SCRIPT, scripts_folder
from editcritic.plugin.gimp.script_fu import ScriptFu, quoted, unquoted
from editcritic.v1.errors import InvalidInput, NotFound, ProtocolError, ServerUnavailable


class FakeGimp:
    """Answers each request with the next of some bytes; keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.asked: list[str] = []
        self._answers = answers
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with (
            closing(self._listening),
            self._listening.accept()[0] as connection,
            connection.makefile("rb") as asked,
        ):
            for answer in self._answers:
                magic, length = struct.unpack(">cH", asked.read(3))
                assert magic == b"G"
                self.asked.append(asked.read(length).decode())
                connection.sendall(answer)


def value(text: str, failed: int = 0) -> bytes:
    data = text.encode()
    return b"G" + bytes([failed]) + struct.pack(">H", len(data)) + data


def test_an_expression_goes_and_its_value_comes_back() -> None:
    fake = FakeGimp(value("3\n"), value("Error: unbound variable: x", 1), value("after"))
    with ScriptFu(port=fake.port) as gimp:
        assert gimp.evaluate("(+ 1 2)") == "3"
        with pytest.raises(InvalidInput, match="GIMP says: unbound variable: x"):
            gimp.evaluate("x")
        assert gimp.evaluate("(ä)") == "after"
        with pytest.raises(InvalidInput, match="65,535 bytes"):
            gimp.evaluate("x" * 70_000)
    assert fake.asked == ["(+ 1 2)", "x", "(ä)"]


def test_what_is_no_gimp_is_told_from_one_that_ended() -> None:
    with ScriptFu(port=FakeGimp(b"HTTP/1.1 400 Bad").port) as gimp, pytest.raises(ProtocolError):
        gimp.evaluate("x")
    with ScriptFu(port=FakeGimp(b"G\x00\x00\x09cut").port) as gimp, pytest.raises(ServerUnavailable):
        gimp.evaluate("x")


def test_without_gimp_it_says_how_to_start_it(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServerUnavailable, match="Filters > editcritic > Let editcritic in"):
        ScriptFu(port=port)


@pytest.mark.parametrize("host", ["192.0.2.7", "example.org", "0.0.0.0"])
def test_another_machine_is_refused(host: str) -> None:
    with pytest.raises(InvalidInput, match="on this machine"):
        ScriptFu(host)


@pytest.mark.parametrize("text", ["plain", 'a "quoted" \\ one', '") (gimp-quit 0) ("', "ümläut", ""])
def test_a_text_stays_one_text_whatever_it_holds(text: str) -> None:
    inner = quoted(text)
    assert unquoted(inner) == text
    assert not inner[1:-1].replace("\\\\", "").replace('\\"', "").count('"')


def test_a_line_end_ends_no_expression() -> None:
    assert quoted("a\nb\x00c") == '"a b c"'


def test_an_image_is_named_where_there_are_several() -> None:
    two = (value("(2 1)"), value('"cat.png"'), value('"dog \\"x\\".png"'))
    with ScriptFu(port=FakeGimp(*two).port) as gimp:
        assert find_image(gimp, "cat.png").number == 2
    with ScriptFu(port=FakeGimp(*two).port) as gimp:
        assert find_image(gimp, "1").name == 'dog "x".png'
    with ScriptFu(port=FakeGimp(*two).port) as gimp, pytest.raises(NotFound, match=r"'cat.png' \(2\), "):
        find_image(gimp)
    with (
        ScriptFu(port=FakeGimp(value("()")).port) as gimp,
        pytest.raises(NotFound, match="open in GIMP: none"),
    ):
        find_image(gimp)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GIMP2_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["editcritic", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_menu_entries_are_put_in_brought_up_to_date_and_taken_out(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = scripts_folder() / SCRIPT
    assert script.is_relative_to(home)
    assert run("install", "gimp", monkeypatch=monkeypatch) == 0
    text = script.read_text(encoding="utf-8")
    assert "script-fu-editcritic-open" in text
    script.write_text("older")
    assert run("install", "gimp", monkeypatch=monkeypatch) == 0
    assert script.read_text(encoding="utf-8") == text
    other = script.with_name("other.scm")
    other.write_text("; someone else's")
    assert run("install", "gimp", "--remove", monkeypatch=monkeypatch) == 0
    assert (script.exists(), other.exists()) == (False, True)
    assert run("install", "gimp", "--remove", monkeypatch=monkeypatch) == 0


def test_a_command_without_gimp_ends_as_one_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    assert run("gimp", "judge", f"--port={port}", monkeypatch=monkeypatch) == 3
