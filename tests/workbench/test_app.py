"""``app.py`` says in one sentence what is wrong."""

from __future__ import annotations

import socket
import sys

import pytest

import app


def test_a_busy_port_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["app.py", "--host", "127.0.0.1", "--port", str(port)])
        with pytest.raises(SystemExit) as exit_info:
            app.main()
    assert f"Cannot listen on 127.0.0.1:{port}" in str(exit_info.value)
    assert "\n" not in str(exit_info.value)
