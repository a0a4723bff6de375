"""Upload of the project as a Space, with exactly the files that the page needs, in one commit."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path

from .bundle import CONFIG, WEIGHTS, WeightsError
from .bundle_transfer import parse_location
from .hub import upload

ROOT = Path(__file__).resolve().parents[2]
FILES = ("app.py", "requirements.txt", "README.md", "LICENSE")
FOLDERS = ("clipsam", "baselines", "checkpoints")
"""Folders that a Space needs."""


def space_files(bundles: Collection[str], root: Path = ROOT) -> dict[str, Path]:
    """Return the files to upload: path by name in the Space.

    Args:
        bundles: folder names of the bundles that the tiny preset must have.
        root: of the project.

    Raises:
        WeightsError: a file is missing or not committed, or this is an installed package.
    """
    if not (root / "app.py").is_file():
        raise WeightsError(
            f"{root} is not a clone of the project, and a Space is made from one: clone it, and "
            "run this command there"
        )
    needed = [root / name for name in (*FILES, *FOLDERS)]
    needed += [root / "checkpoints" / "tiny" / b / f for b in bundles for f in (CONFIG, WEIGHTS)]
    missing = [path.relative_to(root).as_posix() for path in needed if not path.exists()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightsError(f"{root} is incomplete and would not run: {missing[0]}{more}")
    changed = _changed(root)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise WeightsError(
            f"{changed[0]}{more} has uncommitted changes; commit or revert them first, so that the "
            "Space's version is known"
        )
    found = [root / name for name in FILES]
    for folder in FOLDERS:
        found += sorted(path for path in (root / folder).rglob("*") if path.is_file())
    names = {path.relative_to(root).as_posix(): path for path in found}
    return {name: path for name, path in names.items() if not _is_cache(name)}


def push_space(
    repo: str, bundles: Collection[str], private: bool = False, root: Path = ROOT
) -> str:
    """Create or update a Space of the project.

    Files of an earlier push that were removed from the project stay there.

    Args:
        repo: ``owner/name``.
        bundles, root: see :func:`space_files`.
        private: make the Space private if it is created.

    Returns:
        Its URL.

    Raises:
        WeightsError: the project is incomplete or not committed, or the hub refuses; the Space is
            then unchanged.
    """
    if not isinstance(parse_location(repo), str):
        raise WeightsError(f"“{repo}” is a folder, expected OWNER/NAME on the hub")
    return upload(repo, space_files(bundles, root), "The workbench", private, kind="space")


def _changed(root: Path) -> list[str]:
    """Return uncommitted files; empty if the project is not in git."""
    command = ["git", "--no-optional-locks", "status", "--porcelain", "-z", "--no-renames", "--"]
    try:
        said = subprocess.run(
            [*command, *FILES, *FOLDERS], cwd=root, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [line[3:] for line in said.split("\0") if line]


def _is_cache(name: str) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))
