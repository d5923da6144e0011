"""Size of a picture, read from its first bytes, before any decoder is trusted with the rest."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from atrouscaffe.errors import DataError

__all__ = ["Header", "looks_like_picture", "read_header"]

PNG = b"\x89PNG\r\n\x1a\n"
SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers that carry the frame's size
MAX_PARTS = 2**20  # chunks or segments that are walked; a real picture has at most some thousands
STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # JPEG markers without a segment


class Header(NamedTuple):
    """What the first bytes of a picture say.

    Attributes
    ----------
    kind : str
        ``"PNG"``, ``"JPEG"``, ``"BMP"``, ``"PNM"``, ``"GIF"``, ``"WebP"``, ``"TIFF"`` or ``"JPEG 2000"``.
    height, width : int
        Pixels, as stored (EXIF orientation not applied).
    complete : bool
        False where the format marks its end and the mark is missing.
    """

    kind: str
    height: int
    width: int
    complete: bool = True


def read_header(data: bytes | memoryview) -> Header:
    """Return kind and size of the encoded picture `data`.

    Raises
    ------
    DataError
        Not a picture of a known kind, or its header ends early; the message says what it looks like.
    """
    data = bytes(data)
    for magic, reader in _READERS:
        if data.startswith(magic) and (magic != b"RIFF" or data[8:12] == b"WEBP"):
            try:
                header = reader(data)
            except (struct.error, IndexError):
                raise DataError(f"truncated picture: its header ends after {len(data)} bytes; copy it again") from None
            if header.height < 1 or header.width < 1:
                raise DataError(f"{header.kind} picture of {header.width}x{header.height} pixels; expected 1x1 or more")
            return header
    raise DataError("not a picture: expected JPEG, PNG, BMP, PPM/PGM, GIF, WebP, TIFF or JPEG 2000, got "
                    f"{_guess(data)}")


def looks_like_picture(data: bytes) -> bool:
    """Whether a file that begins with `data`, 16 bytes, is of a known kind of picture."""
    return any(data.startswith(magic) and (magic != b"RIFF" or data[8:12] == b"WEBP") for magic, _ in _READERS)


def _guess(data: bytes) -> str:
    """Say in words what bytes that are no picture look like."""
    head = data[:512].lstrip().lower()
    if not data:
        return "an empty file"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML or XML page (a download that failed?)"
    if head.startswith(b"version https://git-lfs"):
        return "a Git-LFS pointer (run git lfs pull)"
    if data.startswith(b"\x89HDF"):
        return "an HDF5 file"
    if data.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        return "a compressed archive"
    if b"\0" not in data[:512]:
        try:
            data[:512].decode("utf-8")
            return "a text file"
        except UnicodeDecodeError as error:
            if error.start > 500:
                return "a text file"
    return f"{len(data)} bytes of something else"


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise DataError("damaged PNG: the first chunk is not IHDR")
    width, height = struct.unpack(">II", data[16:24])
    at, complete = 8, False
    for _ in range(MAX_PARTS):
        if at + 12 > len(data):
            break
        length, name = struct.unpack(">I4s", data[at : at + 8])
        at += 12 + length
        if name == b"IEND":
            complete = at <= len(data)
            break
    return Header("PNG", height, width, complete)


def _jpeg(data: bytes) -> Header:
    at, size = 2, None
    for _ in range(MAX_PARTS):
        at = data.find(b"\xff", at)  # leftovers between segments are skipped, as decoders do
        if at < 0:
            raise DataError("damaged JPEG: it has no scan")
        marker = data[at + 1]
        at += 1 if marker == 0xFF else 2
        if marker == 0xFF:
            continue
        if marker in STANDALONE:
            continue
        if marker == 0xD9:
            raise DataError("damaged JPEG: it ends before its first scan")
        length = struct.unpack(">H", data[at : at + 2])[0]
        if marker in SOF:
            size = struct.unpack(">HH", data[at + 3 : at + 7])
        if marker == 0xDA:
            break
        at += max(2, length)
    else:
        raise DataError(f"damaged JPEG: more than {MAX_PARTS} segments before its first scan")
    if size is None:
        raise DataError("damaged JPEG: a scan begins before the frame's size is given")
    return Header("JPEG", size[0], size[1], data.find(b"\xff\xd9", at) >= 0)


def _bmp(data: bytes) -> Header:
    if struct.unpack("<I", data[14:18])[0] == 12:
        width, height = struct.unpack("<HH", data[18:22])
    else:
        width, height = struct.unpack("<ii", data[18:26])
    return Header("BMP", abs(height), abs(width))


def _pnm(data: bytes) -> Header:
    found = re.match(rb"P[1-6](?:\s+|#[^\n]*\n)+(\d{1,9})(?:\s+|#[^\n]*\n)+(\d{1,9})\s", data[:65536])
    if not found:
        raise DataError("damaged PPM/PGM/PBM: expected 'P6 width height', got something else")
    return Header("PNM", int(found[2]), int(found[1]))


def _gif(data: bytes) -> Header:
    width, height = struct.unpack("<HH", data[6:10])
    return Header("GIF", height, width)


def _webp(data: bytes) -> Header:
    complete = struct.unpack("<I", data[4:8])[0] + 8 <= len(data)
    kind = data[12:16]
    if kind == b"VP8X":
        low = struct.unpack("<6B", data[24:30])
        width, height = (1 + low[i] + (low[i + 1] << 8) + (low[i + 2] << 16) for i in (0, 3))
    elif kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        width, height = (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (n & 0x3FFF for n in struct.unpack("<HH", data[26:30]))
    else:
        raise DataError("damaged WebP: no VP8 chunk behind the header")
    return Header("WebP", height, width, complete)


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    at = struct.unpack(order + "I", data[4:8])[0]
    count = struct.unpack(order + "H", data[at : at + 2])[0]
    found: dict[int, int] = {}
    for i in range(count):
        entry = data[at + 2 + 12 * i : at + 14 + 12 * i]
        tag, kind = struct.unpack(order + "HH", entry[:4])
        if tag in (256, 257):  # ImageWidth, ImageLength as SHORT or LONG
            found[tag] = struct.unpack(order + ("H" if kind == 3 else "I"), entry[8 : 10 if kind == 3 else 12])[0]
    if len(found) < 2:
        raise DataError("damaged TIFF: its first directory gives no width and height")
    return Header("TIFF", found[257], found[256])


def _jp2(data: bytes) -> Header:
    at = data[:4096].find(b"ihdr")
    if at < 0:
        raise DataError("damaged JPEG 2000: no image header box")
    height, width = struct.unpack(">II", data[at + 4 : at + 12])
    return Header("JPEG 2000", height, width)


_READERS = (
    (PNG, _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"BM", _bmp),
    *((f"P{digit}".encode(), _pnm) for digit in range(1, 7)),
    (b"GIF8", _gif),
    (b"RIFF", _webp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"\0\0\0\x0cjP  \r\n\x87\n", _jp2),
)
