"""Images of every kind that Pillow knows: their colours are right, or they are refused in one line."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmpi.learning.datasets import DataError
from fedmpi.learning.datasets.folders import visible
from fedmpi.learning.datasets.images import decode_images

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def _decode(path: Path, size: int = 16) -> np.ndarray:
    return decode_images([path], size, stretch=True)[0]


def _refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        _decode(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
@pytest.mark.parametrize("largest", [4095, 65535])
def test_grey_values_of_16_bits_are_refused(tmp_path: Path, name: str, largest: int) -> None:
    values = np.linspace(0, largest, 256).reshape(16, 16).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    assert "has values of more than 8 bits" in _refusal(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_of_32_bits_are_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(RAMP.astype(dtype)).save(tmp_path / "a.tif")
    assert "has values of more than 8 bits" in _refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA", "P"])
def test_grey_of_8_bits_is_read_as_it_is_in_every_mode(tmp_path: Path, mode: str) -> None:
    Image.fromarray(RAMP).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(_decode(tmp_path / "a.png"), np.stack([RAMP] * 3))


def test_black_and_white_is_black_and_white(tmp_path: Path) -> None:
    pattern = RAMP % 2 == 0
    Image.fromarray(pattern).save(tmp_path / "a.png")
    assert np.array_equal(_decode(tmp_path / "a.png")[1], pattern * np.uint8(255))


def test_colours_of_16_bits_keep_their_upper_8(tmp_path: Path) -> None:
    """Pillow reads them so; written by hand, as it does not write them."""
    rows = b"".join(b"\0" + np.repeat(row.astype(">u2") * 257, 3).tobytes() for row in RAMP)
    header = np.array([16, 16], dtype=">u4").tobytes() + bytes([16, 2, 0, 0, 0])
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert np.array_equal(_decode(tmp_path / "a.png")[0], RAMP)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_one_transparent_pixel_is_refused(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RAMP).convert(mode)
    alpha = Image.new("L", (16, 16), 255)
    alpha.putpixel((3, 5), 254)
    image.putalpha(alpha)
    image.save(tmp_path / "a.png")
    assert "has transparent pixels" in _refusal(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_transparent_colour_is_refused_where_it_occurs(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.minimum(RAMP, 200)).convert(mode)
    for name, value in (("in.png", 100), ("out.png", 250)):
        image.save(tmp_path / name, transparency=(value,) * 3 if mode == "RGB" else value)
    assert "has transparent pixels" in _refusal(tmp_path / "in.png")
    assert np.array_equal(_decode(tmp_path / "out.png")[0], np.minimum(RAMP, 200))


@pytest.mark.parametrize("orientation", range(10))
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    """Against Pillow's own way of doing that; 0 and 9 are no orientations."""
    from PIL import ImageOps

    corner = np.zeros((8, 12, 3), dtype=np.uint8)
    corner[:4, :6] = (250, 20, 20)
    corner[4:, :6] = (20, 250, 20)
    image = Image.fromarray(corner)
    image.getexif()[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=image.getexif(), quality=100)
    with Image.open(tmp_path / "a.jpg") as saved:
        upright = ImageOps.exif_transpose(saved).convert("RGB").resize((16, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(_decode(tmp_path / "a.jpg"), np.asarray(upright).transpose(2, 0, 1))


@pytest.mark.parametrize("factor", [1, 2])
def test_too_many_pixels_are_an_error_and_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int
) -> None:
    """Pillow warns of more than its limit, and raises an error of more than twice that."""
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 255 // factor // factor)
    assert "decompression bomb" in _refusal(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.tif", "a.bmp"])
@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str, seed: int) -> None:
    path, draw = tmp_path / name, np.random.default_rng(seed)
    Image.fromarray(draw.integers(256, size=(16, 16, 3)).astype(np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    for place in draw.integers(len(content), size=1 + seed):
        content[place] = draw.integers(256)
    path.write_bytes(content[: len(content) - seed % 3 * len(content) // 4])
    try:
        found = _decode(path)
    except DataError as error:
        refusal = str(error)
    else:
        assert found.shape == (3, 16, 16)
        return
    assert refusal.startswith(f"{path}: ")


def test_hidden_names(tmp_path: Path) -> None:
    hidden = [".a.png", "._b.png", ".git", "Thumbs.db", "THUMBS.DB", "desktop.ini", "__MACOSX", "@eaDir"]
    data = ["10", "a.png", "b.", "n01440764", "thumbs.png"]
    assert visible(tmp_path / name for name in [*reversed(data), *hidden]) == [
        tmp_path / name for name in data
    ]
