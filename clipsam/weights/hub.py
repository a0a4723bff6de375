"""The hub of published weights: its cache on this machine, download and upload.

``huggingface_hub`` sends requests, resumes broken connections, manages the cache, which other
programs share, and uploads. This module adds: resuming the download of an earlier command,
verification of checksums, a check of the free disk space, and errors in plain words.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers

from .bundle import WeightsError
from .files import file_hash

ATTEMPTS = 5
"""Number of times a download is resumed after a server error or a lost connection."""
PAUSE = 2.0
"""Delay before resuming, seconds."""
SPARE = 50_000_000
"""Disk space that a download leaves free, bytes."""

RANGE_REFUSED, SERVER_ERROR = 416, 500
"""HTTP status codes: range not satisfiable, and the first server error."""

_CHECKSUMS = {64: "sha256", 40: "git"}
"""Hash algorithm of the hub's checksums, by their number of hexadecimal digits."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub describes it.

    Attributes:
        repo: ``owner/name``.
        name: of the file in the repository.
        commit: of the repository.
        size: bytes.
        checksum: SHA-256, or git's hash for small files; also its name in the cache.
    """

    repo: str
    name: str
    commit: str
    size: int
    checksum: str

    @property
    def _folder(self) -> str:
        return repo_folder_name(repo_id=self.repo, repo_type="model")

    @property
    def _blob(self) -> Path:
        return Path(constants.HF_HUB_CACHE) / self._folder / "blobs" / self.checksum

    @property
    def _partial(self) -> Path:
        """Path during the download; `hf cache` recognises such files as unfinished."""
        return self._blob.with_name(f"{self.checksum}.incomplete")

    @property
    def _lock(self) -> Path:
        """Path of the lock, next to the hub's own locks, which are taken while it is held."""
        name = f"{self.checksum}.download.lock"
        return Path(constants.HF_HUB_CACHE) / ".locks" / self._folder / name

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to be downloaded."""
        try:
            done = self._partial.stat().st_size
        except FileNotFoundError:  # not begun, or just now put in its place
            done = 0
        if self._blob.exists():
            return 0
        return self.size - done if done <= self.size else self.size


def find_cached(repo: str, name: str, commit: str | None = None) -> Path | None:
    """Find a complete file in the cache, by default of the last commit seen, without network."""
    found = try_to_load_from_cache(repo, name, revision=commit)
    return Path(found) if isinstance(found, str) else None


def drop_if_damaged(path: Path) -> bool:
    """Remove a file from the cache if its content differs from its checksum.

    Returns:
        Whether it was damaged. If the cache has no links, the checksum is unknown and the file is
        assumed to be intact.
    """
    if not path.is_symlink():
        return False
    blob = path.parent / path.readlink()
    kind = _CHECKSUMS.get(len(blob.name))
    if kind is None or file_hash(blob, kind) == blob.name:
        return False
    path.unlink()
    blob.unlink()
    return True


def look_up(repo: str, names: tuple[str, ...]) -> RemoteFile:
    """Query the hub for the first of some files that a repository contains.

    Raises:
        WeightsError: it has none, or the hub does not respond or refuses.
    """
    for name in names:
        found = find_remote(repo, name)
        if found is not None:
            return found
    raise WeightsError(f"{repo} at {constants.ENDPOINT} has no {' or '.join(names)}")


def find_remote(repo: str, name: str) -> RemoteFile | None:
    """Query the hub for a file; ``None`` if the repository does not contain it.

    Raises:
        WeightsError: the hub does not respond or refuses.
    """
    try:
        found = get_hf_file_metadata(hf_hub_url(repo, name), retry_on_errors=True)
    except RemoteEntryNotFoundError:
        return None
    except (HTTPError, OSError) as error:
        raise _explain_error(error, repo, name) from None
    checksum = found.etag or ""
    known = len(checksum) in _CHECKSUMS and re.fullmatch("[0-9a-f]+", checksum)
    if found.size is None or found.commit_hash is None or not known:
        raise WeightsError(
            f"{constants.ENDPOINT} returns no size, commit or checksum of {name} of {repo}, so it "
            "is not a model hub; check HF_ENDPOINT and proxies"
        )
    return RemoteFile(repo, name, found.commit_hash, found.size, checksum)


def fetch(file: RemoteFile) -> None:
    """Download a file to the cache, resuming an earlier download.

    The file is written atomically after verification; concurrent processes wait for each other.

    Raises:
        WeightsError: the download failed.
    """
    blob = file._blob
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        file._lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(file._lock):
            if not blob.exists():
                _download(file)
                _check(file)
                file._partial.replace(blob)
            # The content is there: this only gives it its name.
            hf_hub_download(file.repo, file.name)
    except (HTTPError, OSError) as error:
        raise _explain_error(error, file.repo, file.name) from None


def upload(
    repo: str,
    files: Mapping[str, Path | bytes],
    message: str,
    private: bool,
    kind: Literal["model", "space"] = "model",
) -> str:
    """Upload files to a repository in one commit, creating it if needed.

    Args:
        repo: ``owner/name``.
        files: content by name in the repository.
        message: of the commit.
        private: make the repository private if it is created; otherwise its owner's default.
        kind: of the repository; a Space runs Gradio.

    Returns:
        Its URL.

    Raises:
        WeightsError: the upload failed. Files appear all at once or not at all, and uploaded parts
            need not be sent again.
    """
    if get_token() is None:
        raise WeightsError(
            f"{repo} needs a token; create one with write access at "
            f"{constants.ENDPOINT}/settings/tokens and set HF_TOKEN to it"
        )
    api = HfApi()
    try:
        sdk = "gradio" if kind == "space" else None
        api.create_repo(repo, repo_type=kind, space_sdk=sdk, private=private or None, exist_ok=True)
        additions = [CommitOperationAdd(name, content) for name, content in files.items()]
        api.create_commit(repo, additions, commit_message=message, repo_type=kind)
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise _explain_upload_error(error, repo) from None
    return f"{constants.ENDPOINT}/{'spaces/' if kind == 'space' else ''}{repo}"


def check_space(needed: int, folder: Path) -> None:
    """Check the free disk space.

    Raises:
        WeightsError: fewer than ``needed`` bytes and a reserve are free.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        raise WeightsError(
            f"{folder} needs {needed / 1e6:,.0f} MB, but only {free / 1e6:,.0f} MB are free; free "
            "some space, or set HF_HOME to a larger disk"
        )


def _download(file: RemoteFile) -> None:
    """Download the rest of an unfinished file."""
    partial = file._partial
    if partial.exists() and partial.stat().st_size > file.size:
        partial.unlink()
    url = hf_hub_url(file.repo, file.name, revision=file.commit)
    # Compressed on the way, a file could not be taken up in the middle.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    for remaining in reversed(range(ATTEMPTS)):
        if partial.exists() and partial.stat().st_size == file.size:
            return
        try:
            with partial.open("ab") as target:
                http_get(
                    url,
                    target,
                    resume_size=target.tell(),
                    headers=headers,
                    displayed_filename=f"{file.repo}: {file.name}",
                )
            return
        except HTTPError as error:
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
            if status == RANGE_REFUSED:
                partial.unlink()
            elif status is not None and status < SERVER_ERROR:
                raise
            if not remaining:
                raise
            time.sleep(PAUSE)


def _check(file: RemoteFile) -> None:
    """Verify a download.

    Raises:
        WeightsError: the content differs from the announced one; it is deleted.
    """
    size = file._partial.stat().st_size
    found = file_hash(file._partial, _CHECKSUMS[len(file.checksum)])
    if size != file.size or found != file.checksum:
        file._partial.unlink()
        raise WeightsError(
            f"{file.name} of {file.repo}: expected {file.size:,} bytes with the checksum "
            f"{file.checksum}, but {constants.ENDPOINT} sent {size:,} bytes with {found}; they "
            "were deleted; try again"
        )


def _explain_error(error: BaseException, repo: str, name: str) -> WeightsError:
    """Explain a failed request in one sentence."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    where, status = constants.ENDPOINT, None
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
    if isinstance(error, GatedRepoError) or status == 403:
        text = (
            f"{where} denies access to {repo}; accept its terms there, and set HF_TOKEN to a token "
            "with read access"
        )
    elif isinstance(error, RepositoryNotFoundError) or status in (401, 404):
        text = f"{where} has no {repo}, or it needs a token with read access; set HF_TOKEN"
        if isinstance(error, RevisionNotFoundError | RemoteEntryNotFoundError):
            text = f"{repo} at {where} has no {name}"
    elif status == 429:
        text = f"{where} allows no more requests for now; wait some minutes and try again"
    elif status is not None:
        text = f"{where} failed to send {name} of {repo} (HTTP {status}); try again later"
    elif isinstance(error, OfflineModeIsEnabled):
        text = f"HF_HUB_OFFLINE is set, and {name} of {repo} is not in {constants.HF_HUB_CACHE}"
    elif isinstance(error, FileMetadataError):
        text = f"{where} is not a model hub; check HF_ENDPOINT and proxies"
    elif isinstance(error, HTTPError):
        text = (
            f"{where} cannot be reached for {name} of {repo} ({type(error).__name__}); check the "
            "network, HF_ENDPOINT and proxies; what was downloaded is kept"
        )
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        text = f"The disk of {constants.HF_HUB_CACHE} is full; free some space and try again"
    else:
        text = f"{name} of {repo} cannot be written to {constants.HF_HUB_CACHE} ({error})"
    return WeightsError(text)


def _explain_upload_error(error: Exception, repo: str) -> WeightsError:
    """Explain a failed upload in one sentence."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, HTTPError | OSError):
        error = error.__cause__
    where, status = constants.ENDPOINT, None
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
    if status in (401, 403, 404):
        text = (
            f"{where} denies write access to {repo}; set HF_TOKEN to a token with write access of "
            f"a member of {repo.partition('/')[0]}"
        )
    elif status is not None:
        return _explain_error(error, repo, "the upload")
    elif isinstance(error, OfflineModeIsEnabled):
        text = f"HF_HUB_OFFLINE is set, so {repo} cannot be uploaded"
    elif isinstance(error, HTTPError):
        text = (
            f"{where} cannot be reached for the upload of {repo} ({type(error).__name__}); check "
            "the network, HF_ENDPOINT and proxies"
        )
    elif isinstance(error, json.JSONDecodeError):
        text = (
            f"{where} does not answer as a hub of models: check HF_ENDPOINT and proxies, or try "
            "again later"
        )
    elif isinstance(error, ValueError):
        text = f"{where} rejects the upload of {repo}: {' '.join(str(error).split())}"
    else:
        # Later versions of huggingface_hub send large files by xet whether the server has it or not
        text = (
            f"The upload of {repo} to {where} failed ({' '.join(str(error).split())}); try again; "
            "if the server does not support xet, set HF_HUB_DISABLE_XET=1"
        )
    return WeightsError(text)
