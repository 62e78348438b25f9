"""Glyphs: images of letters that are not trivial to tell apart, and a space of small networks.

A class is a character of the Latin, Greek or Cyrillic script. An image shows one of them, in one of
the fonts of this machine, turned, sheared, scaled and moved at random, in random colours that may
be close, on a background that changes in brightness, among pieces of other characters and lines,
with noise. A part of the fonts is in the test images alone.

    python benchmarks/glyphs.py FOLDER

draws the images as `FOLDER/train/CLASS/*.jpg` and `FOLDER/test/CLASS/*.jpg`, which
`ofa-hw train --data FOLDER` reads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ofa_hw.errors import SpecError
from ofa_hw.spaces.inverted_residual import InvertedResidualNet, InvertedResidualSpace, Unit

# No two that differ by size alone, as `s` and `S`, or not at all, as Latin and Cyrillic `P`.
CLASSES: Final = "ABDEFGHJKLMNPQRTUVXYZ23456789abdefghmnqrtyΓΔΘΛΞΠΣΦΨΩβδζθλμξπφψωЖИЛЦЧШЪЫЭЮЯ"
PIXELS: Final = 64
FOLDERS: Final = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
_SUFFIXES: Final = (".ttf", ".otf")
_HELD_OUT: Final = 5  # of so many fonts one is for the test
_QUALITY: Final = 92


def space(name: str = "glyphs:space") -> InvertedResidualSpace:
    """A small MobileNetV3 for the glyphs: 2 or 3 blocks a unit, expansions 2 to 4, kernels 3 to 7.

    An image's centre, 7/8 of it, has 56 pixels: the highest resolution enlarges nothing.

    Args:
        name: Of the space.
    """
    return shaped(name)


def shaped(
    name: str,
    *,
    depths: Sequence[int] = (2, 3),
    expand_ratios: Sequence[float] = (2, 3, 4),
    kernel_sizes: Sequence[int] = (3, 5, 7),
    resolutions: Sequence[int] = (40, 48, 56),
) -> InvertedResidualSpace:
    """The space with these choices; with one of each it is a single network."""
    units = (
        #   channels, stride, activation, squeeze-excite, depths
        Unit(16, 2, "relu", False, tuple(depths)),
        Unit(24, 2, "h_swish", True, tuple(depths)),
        Unit(40, 2, "h_swish", True, tuple(depths)),
    )
    net = InvertedResidualNet(8, "h_swish", 8, "relu", units, 160, 128)
    return InvertedResidualSpace(
        name,
        net,
        resolutions=resolutions,
        kernel_sizes=kernel_sizes,
        expand_ratios=expand_ratios,
        num_classes=len(CLASSES),
    )


def find_fonts(folders: Iterable[str | Path] = FOLDERS) -> list[Path]:
    """Font files that have every class, by name; matplotlib's too where it is installed.

    Raises:
        SpecError: If there are fewer than ten, so that two are for the test.
    """
    places = [Path(folder).expanduser() for folder in folders]
    try:
        import matplotlib
    except ImportError:
        pass
    else:
        places.append(Path(matplotlib.get_data_path()) / "fonts")
    paths = {p.name: p for place in places for p in place.rglob("*") if p.suffix in _SUFFIXES}
    found = [paths[name] for name in sorted(paths) if _has_every_class(paths[name])]
    if len(found) < 10:
        raise SpecError(
            f"{len(found)} fonts in {', '.join(map(str, places))} have every character, and ten "
            "are needed; name a folder by --fonts, or install some: apt install fonts-dejavu"
        )
    return found


def _has_every_class(path: Path) -> bool:
    try:
        font = ImageFont.truetype(path, 24)
        missing = bytes(font.getmask("\U0010fffe"))
        drawn = [bytes(font.getmask(character)) for character in CLASSES]
    except OSError:
        return False
    # Symbol fonts draw nothing, or the same box, for letters.
    return all(d and d != missing and any(d) for d in drawn) and len(set(drawn)) == len(drawn)


def write_glyphs(
    folder: Path, fonts: Sequence[Path], *, train: int, test: int, seed: int = 0
) -> None:
    """Draws the images; the file `glyphs.json`, written last, says of what.

    Args:
        folder: Gets `train` and `test`; left as it is if it holds these very images already.
        fonts: To draw with; every fifth is for the test alone.
        train: Images a class.
        test: The same of the test.
        seed: Of every choice.

    Raises:
        SpecError: If the folder holds other images.
    """
    about = {
        "classes": CLASSES,
        "pixels": PIXELS,
        "train": train,
        "test": test,
        "seed": seed,
        "fonts": {p.name: hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in fonts},
        "test_fonts": [path.name for path in fonts[::_HELD_OUT]],
    }
    done = folder / "glyphs.json"
    if done.exists():
        if json.loads(done.read_text()) != about:
            raise SpecError(f"{folder} holds other images; name another folder, or remove it")
        return
    seen = [path for i, path in enumerate(fonts) if i % _HELD_OUT]
    parts = (("train", train, seen), ("test", test, list(fonts[::_HELD_OUT])))
    for stream, (part, count, chosen) in enumerate(parts):
        for label, character in enumerate(CLASSES):
            # Names that sort as the classes do, and that every file system takes.
            place = folder / part / f"{label:02}-{ord(character):04x}"
            place.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                rng = np.random.default_rng((seed, stream, label, index))
                image = draw_glyph(character, chosen, rng)
                image.save(place / f"{index:04}.jpg", quality=_QUALITY, subsampling=0)
    done.write_text(json.dumps(about, indent=1) + "\n")


def draw_glyph(character: str, fonts: Sequence[Path], rng: np.random.Generator) -> Image.Image:
    """One image of a character, in colour."""
    ground, ink = _colours(rng)
    canvas = _background(ground, rng)
    for _ in range(int(rng.integers(0, 3))):  # clutter, behind
        other = CLASSES[int(rng.integers(len(CLASSES)))]
        away = rng.choice((-1, 1), 2) * rng.uniform(0.42, 0.62, 2)
        shade = ground + (ink - ground) * rng.uniform(0.2, 0.7)
        canvas = _inked(canvas, _mask(other, fonts, rng, away), shade)
    canvas = _inked(canvas, _mask(character, fonts, rng, rng.uniform(-0.13, 0.13, 2)), ink)
    strokes = Image.new("L", (PIXELS, PIXELS))
    pen = ImageDraw.Draw(strokes)
    for _ in range(int(rng.integers(0, 2))):  # before it
        ends = rng.uniform(0, PIXELS, 4).tolist()
        pen.line(ends, int(rng.integers(120, 256)), int(rng.integers(1, 3)))
    shade = rng.uniform(0, 255, 3)
    canvas = _inked(canvas, np.asarray(strokes, np.float32) / 255, shade)
    canvas += rng.normal(0, rng.uniform(3, 12), canvas.shape)
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Of background and ink, of which the brightness differs."""
    while True:
        ground, ink = rng.uniform(0, 255, (2, 3))
        if abs(float(ground.mean() - ink.mean())) > 100:
            return ground, ink


def _background(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3): a plane that rises somewhere, with coarse blobs."""
    rise = np.linspace(-1, 1, PIXELS)
    angle = rng.uniform(0, 2 * np.pi)
    plane = np.cos(angle) * rise[:, None] + np.sin(angle) * rise
    blobs = Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8)).resize(
        (PIXELS, PIXELS), Image.Resampling.BICUBIC
    )
    varied = plane * rng.uniform(0, 25) + (np.asarray(blobs) / 127.5 - 1) * rng.uniform(0, 30)
    return colour + varied[..., None]


def _mask(
    character: str, fonts: Sequence[Path], rng: np.random.Generator, away: np.ndarray
) -> np.ndarray:
    """Coverage (H, W) from 0 to 1 of a character turned, sheared, scaled and moved by `away`."""
    font = _font(fonts[int(rng.integers(len(fonts)))])
    left, top, right, bottom = font.getbbox(character)
    glyph = Image.new("L", (2 * PIXELS, 2 * PIXELS))
    at = (PIXELS - (left + right) / 2, PIXELS - (top + bottom) / 2)
    ImageDraw.Draw(glyph).text(at, character, 255, font)
    # From a pixel of the image back to one of the glyph, which is drawn about 1 image tall.
    angle, shear = rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2)
    scale = np.array([rng.uniform(1.25, 2.1), 0])
    scale[1] = scale[0] * rng.uniform(0.8, 1.25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = np.diag(scale) @ np.array([[1, shear], [0, 1]]) @ turn
    shift = PIXELS - back @ (PIXELS / 2 + away * PIXELS)
    coefficients = (*back[0], shift[0], *back[1], shift[1])
    warped = glyph.transform(
        (PIXELS, PIXELS), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(warped, np.float32) / 255


_fonts: dict[Path, ImageFont.FreeTypeFont] = {}


def _font(path: Path) -> ImageFont.FreeTypeFont:
    if path not in _fonts:
        _fonts[path] = ImageFont.truetype(path, round(1.3 * PIXELS))
    return _fonts[path]


def _inked(canvas: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return canvas + (colour - canvas) * mask[..., None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fonts", nargs="+", default=FOLDERS, help="folders of fonts")
    parser.add_argument("--train", type=int, default=110, help="training images a class")
    parser.add_argument("--test", type=int, default=40, help="test images a class")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    fonts = find_fonts(arguments.fonts)
    write_glyphs(
        arguments.folder, fonts, train=arguments.train, test=arguments.test, seed=arguments.seed
    )
    print(f"{len(CLASSES)} classes in {len(fonts)} fonts")


if __name__ == "__main__":
    main()
