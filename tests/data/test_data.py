"""Pictures become the tensors that they should, and whatever cannot be used is named."""

from __future__ import annotations

import json
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.errors import DataError, PreprocessingError
from adaptivenet.toolkit.graph.graph import Cut
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

CUT = Cut(0, (1, 3, 16, 16))
RECIPE = Preprocessing(16, 16, resize_short=20, mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.5))
PLAIN = Preprocessing(16, 16, scale=1.0)


def noise(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, height: int = 24, width: int = 32, seed: int = 0, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(height, width, seed)).save(path, **options)
    return path


def image_folder(root: Path, classes: dict[str, int]) -> Path:
    for number, (name, count) in enumerate(classes.items()):
        for index in range(count):
            save(root / name / f"{index}.png", seed=100 * number + index)
    return root


def read(path: Path, recipe: Preprocessing | None = RECIPE, classes: list[str] | None = None) -> Dataset:
    return open_data(path, recipe, classes, CUT)


def refusal(path: Path, recipe: Preprocessing | None = RECIPE, classes: list[str] | None = None) -> str:
    """The one-line error with which the data, or its first image, is refused. It names the path."""
    with pytest.raises(DataError) as caught:
        read(path, recipe, classes).image(0)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Preprocessing


def test_a_wide_crop_takes_all_of_a_picture_of_its_form() -> None:
    recipe = Preprocessing(12, 16, resize_short=12)
    assert recipe.apply_array(noise(36, 48)).shape == (1, 3, 12, 16)
    with pytest.raises(DataError, match="12 x 16 pixels when its short side is 12, smaller than the crop of 16 x 12"):
        recipe.apply_array(noise(48, 36))


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    crop=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    extra=st.integers(0, 30),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
@settings(deadline=None, max_examples=200)
def test_preprocessing_is_resize_and_centre_crop_as_torchvision_defines_them(
    height: int, width: int, crop: tuple[int, int], extra: int, interpolation: str
) -> None:
    short = min(crop) + extra
    recipe = Preprocessing(*crop, short, "center", interpolation, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pixels = noise(height, width)

    # torchvision: the short side becomes `short`, the long side int(short * long / short_before); then the crop
    # begins at round((side - crop) / 2.0), a half to the even number.
    size = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    if size[1] < crop[0] or size[0] < crop[1]:
        with pytest.raises(DataError, match=f"{size[0]} x {size[1]} pixels when its short side is {short}, smaller"):
            recipe.apply_array(pixels)
        return
    picture = np.asarray(Image.fromarray(pixels).resize(size, resample))
    top, left = round((size[1] - crop[0]) / 2.0), round((size[0] - crop[1]) / 2.0)
    cropped = picture[top : top + crop[0], left : left + crop[1]].astype(np.float64)
    expected = (cropped / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]

    tensor = recipe.apply_array(pixels)
    assert tensor.dtype == np.float32
    assert tensor.shape == (1, 3, *crop)
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor[0].transpose(1, 2, 0), expected, atol=2e-6)
    np.testing.assert_array_equal(recipe.apply(Image.fromarray(pixels)), tensor)


def test_without_resizing_the_picture_is_only_cropped() -> None:
    pixels = noise(16, 20)
    np.testing.assert_array_equal(PLAIN.apply_array(pixels)[0].transpose(1, 2, 0), pixels[:, 2:18])
    with pytest.raises(DataError, match="20 x 15 pixels, smaller than the crop of 16 x 16"):
        PLAIN.apply_array(noise(15, 20))


def test_grey_transparent_and_palette_pictures_become_rgb() -> None:
    grey = Image.fromarray(noise(16, 16)[:, :, 0])
    tensor = PLAIN.apply(grey)[0]
    for channel in tensor:
        np.testing.assert_array_equal(channel, np.asarray(grey))
    picture = Image.fromarray(noise(16, 16))
    transparent = picture.copy()
    transparent.putalpha(7)
    np.testing.assert_array_equal(PLAIN.apply(transparent), PLAIN.apply(picture))
    palette = picture.quantize(32)
    np.testing.assert_array_equal(PLAIN.apply(palette), PLAIN.apply(palette.convert("RGB")))
    black_and_white = grey.convert("1")
    assert set(np.unique(PLAIN.apply(black_and_white))) == {0.0, 255.0}


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    pixels = noise(16, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(pixels, -1)
    np.testing.assert_array_equal(read(tmp_path, PLAIN).image(0), PLAIN.apply_array(upright))


def test_sixteen_bits_a_channel_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20), 3000, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert "more than 8 bits a channel" in refusal(tmp_path)


def test_a_very_elongated_picture_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(DataError, match="too elongated"):
        Preprocessing(224, 224, resize_short=256).apply_array(np.zeros((1, 5000, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "pixels", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)]
)
def test_pixels_of_another_form(pixels: Any) -> None:
    with pytest.raises(DataError, match="must be uint8 of shape"):
        RECIPE.apply_array(pixels)


def test_preprocessing_survives_json() -> None:
    assert Preprocessing.from_json(json.loads(json.dumps(RECIPE.to_json()))) == RECIPE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 0),
        ("height", 16.0),
        ("width", True),
        ("width", 1 << 30),
        ("resize_short", 15),
        ("resize_short", "20"),
        ("crop", "random"),
        ("interpolation", "nearest"),
        ("interpolation", []),
        ("mean", [0.5, 0.5]),
        ("mean", 0.5),
        ("mean", ["0.5", 0.5, 0.5]),
        ("std", [1.0, 0.0, 1.0]),
        ("std", [1.0, float("nan"), 1.0]),
        ("scale", 0),
        ("scale", float("inf")),
    ],
)
def test_senseless_preprocessing(field: str, value: object) -> None:
    with pytest.raises(PreprocessingError, match=f"preprocessing: {field} is"):
        Preprocessing.from_json({**RECIPE.to_json(), field: value})
    with pytest.raises(PreprocessingError, match=f"preprocessing: {field} is"):
        replace(RECIPE, **{field: value})


def test_preprocessing_with_missing_or_unknown_fields() -> None:
    for document in ({}, {**RECIPE.to_json(), "colour": "bgr"}, None, [1]):
        with pytest.raises(PreprocessingError, match="exactly the fields"):
            Preprocessing.from_json(document)


# Folders of pictures


def test_image_folder_labels_by_sorted_name_or_by_class(tmp_path: Path) -> None:
    image_folder(tmp_path, {"rose": 2, "daisy": 3})
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.md").write_text("not a picture")
    data = read(tmp_path)
    assert len(data) == 5
    np.testing.assert_array_equal(data.labels, [0, 0, 0, 1, 1])
    assert [data.subset([4, 0]).label(index) for index in (0, 1)] == [1, 0]
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    np.testing.assert_array_equal(read(tmp_path, classes=["tulip", "rose", "daisy"]).labels, [2, 2, 2, 1, 1])
    np.testing.assert_array_equal(data.image(3), RECIPE.apply_array(noise(24, 32, seed=0)))


def test_pictures_deeper_inside_a_class_are_found(tmp_path: Path) -> None:
    save(tmp_path / "rose" / "garden" / "a.JPG", format="JPEG")
    assert len(read(tmp_path)) == 1


def test_a_folder_that_is_not_a_class(tmp_path: Path) -> None:
    image_folder(tmp_path, {"rose": 1})
    assert "rose is not a class of this network" in refusal(tmp_path, classes=["crane", "maillot"])
    assert "rose names 2 classes" in refusal(tmp_path, classes=["rose", "rose"])


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / f"{index}.png", seed=index)
    data = read(tmp_path, classes=["a", "b"])
    assert data.labels is None
    assert data.label(0) is None
    np.testing.assert_array_equal(data.image(2), RECIPE.apply_array(noise(24, 32, seed=2)))


def test_pictures_beside_folders_are_ambiguous(tmp_path: Path) -> None:
    image_folder(tmp_path, {"rose": 1})
    save(tmp_path / "stray.png")
    assert "both pictures (stray.png) and folders (rose)" in refusal(tmp_path)


def test_missing_path_empty_folder_and_a_file_of_another_kind(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing")
    (tmp_path / "rose").mkdir()
    assert "holds no pictures" in refusal(tmp_path)
    picture = save(tmp_path / "one.png")
    assert "neither a folder nor" in refusal(picture)


def test_truncated_jpeg_is_named(tmp_path: Path) -> None:
    good = save(tmp_path / "photo.jpg", 200, 200, quality=95)
    good.write_bytes(good.read_bytes()[:-2000])
    message = refusal(tmp_path)
    assert "photo.jpg" in message
    assert "truncated" in message


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    assert "photo.jpg is not a picture that can be read" in refusal(tmp_path)


def test_a_picture_that_disappears_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    data = read(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png"):
        data.image(0)
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        assert data.digest


def test_pictures_need_preprocessing_that_fits_the_network(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    assert "no preprocessing is known" in refusal(tmp_path, None)
    assert "makes float32 (1, 3, 8, 8), but the network reads float32 (1, 3, 16, 16)" in refusal(
        tmp_path, Preprocessing(8, 8)
    )


# Arrays


def test_npz_of_pictures_and_of_tensors(tmp_path: Path) -> None:
    pictures = np.stack([noise(24, 32, seed) for seed in range(4)])
    np.savez(tmp_path / "pictures.npz", images=pictures, labels=np.array([3, 1, 0, 2], dtype=np.uint8))
    data = read(tmp_path / "pictures.npz", classes=["a", "b", "c", "d"])
    np.testing.assert_array_equal(data.labels, [3, 1, 0, 2])
    np.testing.assert_array_equal(data.image(2), RECIPE.apply_array(pictures[2]))

    tensors = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
    np.savez_compressed(tmp_path / "tensors.npz", images=tensors)
    np.save(tmp_path / "tensors.npy", tensors)
    for name in ("tensors.npz", "tensors.npy"):
        data = read(tmp_path / name, recipe=None)
        assert data.labels is None
        assert data.label(0) is None
        assert len(data) == 4
        np.testing.assert_array_equal(data.image(1), tensors[1:2])


def test_the_caller_may_change_an_image(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 3, 16, 16), dtype=np.float32))
    data = read(tmp_path / "x.npy")
    data.image(0)[:] = 0
    assert data.image(0).min() == 1


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("name", ["bomb.npz", "bomb.npy", "raw.npy", "raw.npz"])
def test_pickled_objects_are_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    objects = np.array([Bomb()], dtype=object)
    if name == "bomb.npz":
        np.savez(tmp_path / name, images=objects, labels=np.array([0]))
    elif name == "bomb.npy":
        np.save(tmp_path / name, objects)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(objects))
    assert "cannot be read as numpy arrays" in refusal(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def array(shape: tuple[int, ...], dtype: Any = np.float32, value: float = 0) -> npt.NDArray[Any]:
    return np.full(shape, value, dtype=dtype)


BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "no images": ({"pictures": array((2, 3, 16, 16))}, "has no array 'images'; it holds pictures"),
    "no image at all": ({"images": array((0, 3, 16, 16))}, "holds no images"),
    "tensor shape": ({"images": array((2, 3, 8, 16))}, "must have shape (N, 3, 16, 16), not (2, 3, 8, 16)"),
    "one number": ({"images": array(())}, "must have shape (N, 3, 16, 16), not ()"),
    "picture shape": ({"images": array((2, 3, 16, 16), np.uint8)}, "must have shape (N, H, W, 3)"),
    "dtype": ({"images": array((2, 3, 16, 16), np.float64)}, "images have dtype float64"),
    "NaN": ({"images": array((2, 3, 16, 16), value=np.nan)}, "image 0 holds NaN"),
    "label count": ({"images": array((2, 3, 16, 16)), "labels": np.array([0])}, "of shape (2,)"),
    "label dtype": ({"images": array((2, 3, 16, 16)), "labels": np.array([0.0, 1.0])}, "not float64"),
    "label too large": ({"images": array((2, 3, 16, 16)), "labels": np.array([0, 2])}, "from 0 to 2; they must"),
    "label negative": ({"images": array((2, 3, 16, 16)), "labels": np.array([-1, 0])}, "from -1 to 0; they must"),
    "label overflow": ({"images": array((1, 3, 16, 16)), "labels": np.array([2**64 - 1], np.uint64)}, "they must"),
}


@pytest.mark.parametrize(("arrays", "reason"), BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_arrays_of_the_wrong_form(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    assert reason in refusal(tmp_path / "data.npz", classes=["a", "b"])


def test_damaged_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=array((2, 3, 16, 16)))
    content = (tmp_path / "data.npz").read_bytes()
    for damaged in (content[: len(content) // 2], b"", content.replace(b"'<f4'", b"'<x4'")):
        assert damaged != content
        (tmp_path / "data.npz").write_bytes(damaged)
        assert "cannot be read as numpy arrays" in refusal(tmp_path / "data.npz")


def test_a_small_picture_in_an_array_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", array((1, 8, 8, 3), np.uint8))
    assert "image 0: a picture is 8 x 8 pixels" in refusal(tmp_path / "small.npy", PLAIN)


# Choosing images


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Forty images; the label of each is its number."""
    path = tmp_path_factory.mktemp("data") / "numbered.npz"
    images = np.arange(40, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 16, 16), dtype=np.float32)
    np.savez(path, images=images, labels=np.arange(40))
    return open_data(path, None, None, CUT)


def numbers(data: Dataset) -> list[int]:
    assert data.labels is not None
    assert [int(data.image(index)[0, 0, 0, 0]) for index in range(len(data))] == data.labels.tolist()
    return [int(label) for label in data.labels]


@given(
    weights=st.lists(st.integers(1, 10), min_size=1, max_size=4),
    whole=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_a_split_is_disjoint_and_deterministic(numbered: Dataset, weights: list[int], whole: bool, seed: int) -> None:
    total = sum(weights) if whole else sum(weights) + 5
    parts = [weight / total for weight in weights]
    split = [numbers(part) for part in numbered.split(parts, seed)]
    together = [number for part in split for number in part]
    assert len(set(together)) == len(together)
    assert not whole or sorted(together) == list(range(40))
    assert all(abs(len(part) - share * 40) <= 1 for part, share in zip(split, parts, strict=True))
    assert [numbers(part) for part in numbered.split(parts, seed)] == split


def test_a_split_is_the_same_everywhere(numbered: Dataset) -> None:
    generator = random.Random(7)
    keys = [generator.random() for _ in range(40)]
    (half,) = numbered.split([0.5], seed=7)
    assert numbers(half) == sorted(range(40), key=keys.__getitem__)[:20]
    assert numbers(half) != numbers(numbered.split([0.5], seed=8)[0])


def test_a_smaller_take_begins_a_larger_one(numbered: Dataset) -> None:
    large = numbers(numbered.take(30, seed=3))
    assert len(set(large)) == 30
    assert numbers(numbered.take(10, seed=3)) == large[:10]


def test_subsets_of_subsets(numbered: Dataset) -> None:
    assert numbers(numbered.subset([5, 3, 9]).subset([2, 0])) == [9, 5]


def test_choices_that_cannot_be_made(numbered: Dataset) -> None:
    for count in (0, 41):
        with pytest.raises(DataError, match=f"{count} cannot be taken"):
            numbered.take(count, seed=0)
    for parts in ([], [0.5, 0.6], [0.5, 0], [-0.1], [float("nan")]):
        with pytest.raises(DataError, match="cannot split into"):
            numbered.split(parts, seed=0)
    with pytest.raises(DataError, match=r"too few for a part of 0\.01"):
        numbered.split([0.01, 0.99], seed=0)
    for index in (-1, 40):
        with pytest.raises(DataError, match=f"there is no number {index}"):
            numbered.subset([index])


def test_the_digest_follows_content_labels_and_order_but_not_names(tmp_path: Path) -> None:
    data = read(image_folder(tmp_path / "a", {"rose": 2, "tulip": 1}))
    same = read(image_folder(tmp_path / "b", {"alpha": 2, "beta": 1}))
    assert data.digest == same.digest
    assert data.subset([0, 1, 2]).digest == data.digest
    others = [
        data.subset([1, 0, 2]),
        data.subset([0, 1]),
        read(tmp_path / "a", classes=["tulip", "rose"]),
        read(tmp_path / "a" / "rose"),
    ]
    assert len({data.digest, *(other.digest for other in others)}) == 5
    save(tmp_path / "b" / "beta" / "0.png", seed=999)
    assert read(tmp_path / "b").digest != data.digest
