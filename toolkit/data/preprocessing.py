"""How a picture becomes the tensor that a network reads: resize, crop, normalise. It travels in the pack, so that every
device prepares a picture in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite, prod
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from ..errors import DataError, PreprocessingError

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation: what shows the picture upright
_SIDE_LIMIT = 16384
_PIXEL_LIMIT = 1 << 27  # a picture of 1 x 5000 pixels, resized to a short side of 256, must not fill the memory

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the input of a network: a float32 tensor `(1, 3, height, width)`, channels R, G, B.

    The picture is turned upright (EXIF orientation), converted to RGB, resized so that its short side is
    `resize_short` pixels (None: not resized), cropped in the centre to `height` x `width`, and normalised:
    `(pixel * scale - mean) / std`, pixels 0 to 255. Resizing and cropping round as torchvision's `Resize` and
    `CenterCrop` do. Where the crop is no square, neither may be what is cropped: `resize_short` is at least the crop's
    short side. Raises PreprocessingError for values that make no sense.
    """

    height: int
    width: int
    resize_short: int | None = None
    crop: str = "center"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    scale: float = 1 / 255

    def __post_init__(self) -> None:
        least = min(self.height, self.width) if _is_side(self.height) and _is_side(self.width) else 0
        rules = {
            "height": (_is_side(self.height), f"a whole number of pixels, 1 to {_SIDE_LIMIT}"),
            "width": (_is_side(self.width), f"a whole number of pixels, 1 to {_SIDE_LIMIT}"),
            "resize_short": (
                self.resize_short is None or (_is_side(self.resize_short) and self.resize_short >= least),
                f"null, or a whole number of pixels from the crop's short side to {_SIDE_LIMIT}",
            ),
            "crop": (self.crop == "center", "'center'"),
            "interpolation": (self.interpolation in list(_FILTERS), " or ".join(map(repr, _FILTERS))),
            "mean": (_are_three(self.mean), "three finite numbers"),
            "std": (_are_three(self.std) and min(self.std) > 0, "three numbers above 0"),
            "scale": (_is_finite(self.scale) and self.scale > 0, "a number above 0"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise PreprocessingError(f"preprocessing: {name} is {getattr(self, name)!r}; it must be {rule}")

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain data: the `preprocessing` object of a pack's manifest."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, document: Any) -> Preprocessing:
        """The recipe from `to_json`'s form. Raises PreprocessingError for missing, unknown or senseless values."""
        names = {field.name for field in fields(cls)}
        if not isinstance(document, Mapping) or set(document) != names:
            raise PreprocessingError(
                f"preprocessing must be an object with exactly the fields {', '.join(sorted(names))}"
            )
        lists = {name: tuple(value) for name, value in document.items() if isinstance(value, list)}
        return cls(**{**document, **lists})

    def apply(self, picture: Image.Image) -> FloatArray:
        """The tensor `(1, 3, height, width)` for a picture of any size and 8-bit mode; alpha is dropped.

        Raises DataError for a picture with more than 8 bits a channel (converting it would clip it), for one that is
        smaller than the crop when it is to be cropped, and for one too elongated to resize.
        """
        if picture.mode.startswith(("I", "F")):
            raise DataError(f"a picture has mode {picture.mode!r}, more than 8 bits a channel; convert it to 8-bit RGB")
        upright = _turned(picture, _orientation(picture)).convert("RGB")
        pixels = np.asarray(self._cropped(self._resized(upright, _FILTERS[self.interpolation])), dtype=np.float32)
        mean, std = np.asarray(self.mean, dtype=np.float32), np.asarray(self.std, dtype=np.float32)
        tensor = (pixels * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])

    def apply_array(self, pixels: npt.NDArray[np.uint8]) -> FloatArray:
        """The tensor `(1, 3, height, width)` for RGB pixels, uint8 `(H, W, 3)`. Raises DataError for another form."""
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise DataError(f"a picture must be uint8 of shape (H, W, 3): got {pixels.dtype} of shape {pixels.shape}")
        return self.apply(Image.fromarray(np.ascontiguousarray(pixels)))

    def apply_map(self, values: npt.NDArray[np.int32], picture: Image.Image) -> npt.NDArray[np.int32]:
        """Numbers that belong to the pixels of `picture`, int32 `(H, W)`, turned, resized and cropped as it is.

        Resizing takes the nearest number. The result is of shape `(height, width)`. Raises what `apply` raises.
        """
        turned = _turned(Image.fromarray(values), _orientation(picture))
        return np.asarray(self._cropped(self._resized(turned, Image.Resampling.NEAREST)), dtype=np.int32)

    def _cropped(self, picture: Image.Image) -> Image.Image:
        if picture.width < self.width or picture.height < self.height:
            when, what_helps = "", ", and the preprocessing does not resize; use larger pictures"
            if self.resize_short is not None:
                when = f" when its short side is {self.resize_short}"
                what_helps = "; use pictures of its form, or a larger resize_short"
            raise DataError(
                f"a picture is {picture.width} x {picture.height} pixels{when}, smaller than the crop of "
                f"{self.width} x {self.height}{what_helps}"
            )
        # Python's round() and torchvision's agree: a half goes to the even number.
        left, top = round((picture.width - self.width) / 2), round((picture.height - self.height) / 2)
        return picture.crop((left, top, left + self.width, top + self.height))

    def _resized(self, picture: Image.Image, resampling: Image.Resampling) -> Image.Image:
        if self.resize_short is None:
            return picture
        width, height = picture.size
        short = min(width, height)
        size = (self.resize_short * width // short, self.resize_short * height // short)
        if prod(size) > _PIXEL_LIMIT:
            raise DataError(f"a picture of {width} x {height} pixels is too elongated to resize; crop it first")
        return picture if size == picture.size else picture.resize(size, resampling)


def _orientation(picture: Image.Image) -> object:
    """What the EXIF data says of how the picture lies; None where there is none or it is damaged."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a tag of another type raises whatever Pillow meets first, and spoils no picture
        return None


def _turned(picture: Image.Image, orientation: object) -> Image.Image:
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _SIDE_LIMIT


def _are_three(values: Any) -> bool:
    return isinstance(values, Sequence) and len(values) == 3 and all(map(_is_finite, values))


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)
