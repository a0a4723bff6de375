"""Sessions' images: on disk, bounded, and gone with the last one who refers to them."""

from __future__ import annotations

import copy
import gc
from pathlib import Path

import numpy as np
import pytest

from clipsam.data.images import ImageError
from clipsam.encoded_image import EncodedImage
from clipsam.workbench import image_store
from clipsam.workbench.compare.session import Session
from clipsam.workbench.image_store import ImageStore

SIZE = (50, 40, 3)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SIZE, np.uint8)


def own_memory() -> int:
    """Memory of this process that no file backs, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    pytest.skip("this system does not tell memory and files apart")


def test_what_is_stored_comes_back() -> None:
    store = ImageStore()
    kept = store.keep(picture(1))
    np.testing.assert_array_equal(kept.image, picture(1))
    assert kept.size == SIZE[:2] and store.bytes == picture(1).nbytes
    assert kept.shows_same(EncodedImage(picture(1))) and not kept.shows_same(store.keep(picture(2)))
    held = store.hold(picture(3))
    np.testing.assert_array_equal(held, picture(3))


def test_it_goes_with_the_last_who_refers_to_it() -> None:
    store = ImageStore()
    kept, held = store.keep(picture(1)), store.hold(picture(2))
    history = copy.deepcopy(kept.without_features())
    del kept
    gc.collect()
    assert store.bytes == 2 * held.nbytes
    del history, held
    gc.collect()
    assert store.bytes == 0
    assert not list(store._folder.iterdir())


def test_the_least_recently_used_makes_room() -> None:
    store = ImageStore(max_bytes=3 * picture(0).nbytes)
    kept = [store.keep(picture(seed)) for seed in range(3)]
    assert kept[0].image is not None
    newest = store.keep(picture(3))
    with pytest.raises(ImageError, match="no longer stored, because many others came"):
        _ = kept[1].image
    for seed, one in ((0, kept[0]), (2, kept[2]), (3, newest)):
        np.testing.assert_array_equal(one.image, picture(seed))
    assert not kept[1].shows_same(kept[0])


def test_what_is_held_is_not_deleted_for_others() -> None:
    store = ImageStore(max_bytes=2 * picture(0).nbytes)
    held = [store.hold(picture(seed)) for seed in range(2)]
    for store_more in (store.keep, store.hold):
        with pytest.raises(ImageError, match="no space for more images"):
            store_more(picture(2))
    np.testing.assert_array_equal(held[0], picture(0))


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_store, "SPARE", 10**18)
    with pytest.raises(ImageError, match="no space for more images"):
        ImageStore().keep(picture(0))


def test_ten_large_images_take_no_memory() -> None:
    """Ten times 30 MB; what a session keeps of each is a name."""
    store, sessions = ImageStore(), []
    image = np.zeros((2000, 5000, 3), np.uint8)
    before = own_memory()
    for _ in range(10):
        sessions.append(Session())
        sessions[-1].show(store.keep(image))
        assert int(sessions[-1].current_image().image.sum()) == 0
    assert own_memory() - before < 2 * image.nbytes
    assert store.bytes == 10 * image.nbytes
