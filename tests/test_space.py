"""The Space's settings stand in one place and are what the README's front matter says."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def test_front_matter_equals_space_yaml():
    front_matter = (ROOT / "README.md").read_text().split("---\n")[1]
    settings = yaml.safe_load((ROOT / "Space.yaml").read_text())
    assert yaml.safe_load(front_matter) == settings
    assert (ROOT / settings["app_file"]).is_file()
