"""A seeded generator of odd image files: valid ones in unusual forms, and damaged ones."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIZE = (24, 36)
"""(height, width) of most of them."""


@dataclass(frozen=True)
class OddImage:
    """A file.

    Attributes:
        name: what is odd, with the ending of the file.
        content: its bytes.
        pixels: what it shows, uint8 (H, W, 3), where that is known; a reader may refuse it only if
            it is ``None``.
        tolerance: how far levels may be off, for compressed ones.
    """

    name: str
    content: bytes
    pixels: np.ndarray | None = None
    tolerance: int = 0


def photograph(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return smooth colours that survive compression, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(x * a + y * b) for a, b in rng.uniform(-0.2, 0.2, (3, 2))]
    return (128 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


def odd_images(seed: int) -> Iterator[OddImage]:
    """Yield some 600 files, always the same for a seed."""
    rng = np.random.default_rng(seed)
    yield from _valid(rng)
    yield from _turned(rng)
    yield from _extreme_sizes(rng)
    yield from _damaged(rng)
    yield from _lies(rng)
    yield from _strangers(rng)


def encode(pixels: np.ndarray | Image.Image, form: str, **options: object) -> bytes:
    """Return an image as a file of a format."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def _valid(rng: np.random.Generator) -> Iterator[OddImage]:
    """Unusual but valid: modes, depths, compressions."""
    for number in range(12):
        pixels = photograph(int(rng.integers(10**6)))
        grey = pixels[..., 0]
        repeated = np.repeat(grey[..., None], 3, axis=2)
        for form, options in (
            ("PNG", {}),
            ("PNG", {"optimize": True}),
            ("BMP", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "tiff_adobe_deflate"}),
            ("PPM", {}),
            ("WEBP", {"lossless": True}),
        ):
            yield OddImage(
                f"{form}{number}.{form.lower()}", encode(pixels, form, **options), pixels
            )
        for form, options, tolerance in (
            ("JPEG", {"quality": 95, "subsampling": 0}, 16),
            ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 16),
            ("JPEG2000", {}, 4),
        ):
            content = encode(pixels, form, **options)
            yield OddImage(f"{form}{number}.jpg", content, pixels, tolerance)
        yield OddImage(f"grey{number}.png", encode(grey, "PNG"), repeated)
        bits = np.where(grey > 127, 255, 0).astype(np.uint8)
        yield OddImage(
            f"bit{number}.png",
            encode(Image.fromarray(grey > 127), "PNG"),
            np.repeat(bits[..., None], 3, axis=2),
        )
        deep = encode(Image.fromarray(grey.astype(np.uint16) * 257), "PNG")
        yield OddImage(f"deep{number}.png", deep, None)
        opaque = np.dstack([pixels, np.full(SIZE, 255, np.uint8)])
        yield OddImage(f"opaque{number}.png", encode(opaque, "PNG"), pixels)
        clear = np.dstack([pixels, np.zeros(SIZE, np.uint8)])
        yield OddImage(f"clear{number}.png", encode(clear, "PNG"), np.full_like(pixels, 255))
        palette = Image.fromarray(grey // 4 * 4).quantize(64)
        shown = np.asarray(palette.convert("RGB"))
        yield OddImage(f"palette{number}.gif", encode(palette, "GIF"), shown)
        yield OddImage(f"palette{number}.png", encode(palette, "PNG"), shown)


TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}
"""How a camera stored an upright picture, by EXIF orientation (TIFF 6.0, tag 274)."""


def _turned(rng: np.random.Generator) -> Iterator[OddImage]:
    """All orientations, and EXIF blocks that are damaged."""
    for turn, stored in TURNS.items():
        pixels = photograph(int(rng.integers(10**6)))
        exif = Image.Exif()
        exif[0x0112] = turn
        content = encode(np.ascontiguousarray(stored(pixels)), "PNG", exif=exif)
        yield OddImage(f"turned{turn}.png", content, pixels)
    for number in range(24):
        pixels = photograph(int(rng.integers(10**6)))
        block = b"Exif\0\0" + rng.bytes(int(rng.integers(0, 60)))
        content = encode(pixels, "JPEG", quality=95, subsampling=0, exif=block)
        yield OddImage(f"exif{number}.jpg", content, pixels, 16)


def _extreme_sizes(rng: np.random.Generator) -> Iterator[OddImage]:
    for size in ((1, 1), (1, 2), (2, 1), (1, 4000), (4000, 1), (3, 999), (17, 1)):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        for form in ("PNG", "BMP", "TIFF"):
            yield OddImage(f"{size[0]}x{size[1]}.{form.lower()}", encode(pixels, form), pixels)


def _damaged(rng: np.random.Generator) -> Iterator[OddImage]:
    """Cut off, overwritten, or with parts moved: any answer, or one sentence."""
    pixels = photograph(0)
    forms = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
    files = {form: encode(pixels, form) for form in forms}
    for form, content in files.items():
        for number in range(12):
            cut = int(rng.integers(0, len(content)))
            yield OddImage(f"cut{number}.{form.lower()}", content[:cut])
        for number in range(24):
            broken = bytearray(content)
            for place in rng.integers(0, len(content), int(rng.integers(1, 12))):
                broken[place] = int(rng.integers(256))
            yield OddImage(f"broken{number}.{form.lower()}", bytes(broken))
        head = bytearray(content)
        for number in range(8):
            head[4 : 4 + 2 * number] = rng.bytes(2 * number)
            yield OddImage(f"head{number}.{form.lower()}", bytes(head))
        middle = len(content) // 2
        yield OddImage(f"swapped.{form.lower()}", content[middle:] + content[:middle])
        yield OddImage(f"tail.{form.lower()}", content + rng.bytes(500))


def _lies(rng: np.random.Generator) -> Iterator[OddImage]:
    """Sizes that are not true, and little files of many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    for width, height in ((0, 0), (0, 5), (2**31 - 1, 1), (60_000, 60_000), (2**31, 2**31)):
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        data = zlib.compress(rng.bytes(100))
        parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
        yield OddImage(f"{width}x{height}.png", b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    for width, height in ((2**15, 2**15), (65_535, 65_535), (0, 7)):
        bitmap = bytearray(encode(photograph(1), "BMP"))
        bitmap[18:26] = struct.pack("<ii", width, height)
        yield OddImage(f"{width}x{height}.bmp", bytes(bitmap))
        yield OddImage(f"{width}x{height}.ppm", b"P6 %d %d 255\n" % (width, height) + bytes(99))


def _strangers(rng: np.random.Generator) -> Iterator[OddImage]:
    """Something else by another name, among it formats that are rarely opened."""
    starts = {
        "empty": b"",
        "text": b"this is no picture",
        "html": b"<!doctype html><html></html>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pdf": b"%PDF-1.4\n",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "ftex": b"FTEX",
        "icns": b"icns",
        "psd": b"8BPS\0\1",
        "zip": b"PK\3\4",
        "gzip": b"\x1f\x8b",
        "elf": b"\x7fELF",
        "dds": b"DDS |\0\0\0",
        "fits": b"SIMPLE  =                    T",
        "wmf": b"\xd7\xcd\xc6\x9a\0\0",
        "cur": b"\0\0\2\0\1\0",
        "ico": b"\0\0\1\0\1\0",
        "mpeg": b"\0\0\1\xb3",
        "xbm": b"#define a_width 9\n#define a_height 9\n",
        "qoi": b"qoif",
    }
    for name, start in starts.items():
        for number in range(2):
            yield OddImage(f"{name}{number}.png", start + rng.bytes(200 * number))
