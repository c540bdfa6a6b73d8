"""Labels that the network cannot give are matched, left uncounted or refused, and never count as errors in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset, open_data
from adaptivenet.toolkit.data.classes import IGNORE, checked_map, read_classes
from adaptivenet.toolkit.data.preprocessing import Preprocessing
from adaptivenet.toolkit.errors import DataError
from adaptivenet.toolkit.graph.graph import Cut
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

CUT = Cut(0, (1, 3, 16, 16))
PLAIN = Preprocessing(16, 16, scale=1.0)


def picture(path: Path, size: tuple[int, int] = (16, 16), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def folders(root: Path, *names: str) -> Path:
    for name in names:
        picture(root / name / "a.png")
    return root


def opened(
    path: Path,
    classes: list[str] | None = None,
    scores: tuple[int, ...] | None = None,
    recipe: Preprocessing = PLAIN,
    labels: str | None = None,
) -> Dataset:
    return open_data(path, recipe, classes, CUT, scores=scores, labels=labels)


def labels_of(data: Dataset) -> list[int]:
    assert data.labels is not None
    return [int(label) for label in data.labels]


# Class folders


def test_folders_are_matched_without_regard_to_case_spaces_and_underscores(tmp_path: Path) -> None:
    folders(tmp_path, "Traffic_Light", "stop-sign", "car")
    names = ["car", "stop sign", "traffic light", "Car "]
    assert labels_of(opened(tmp_path, [*names[:3], "lorry"])) == [2, 0, 1]
    assert labels_of(opened(tmp_path, names)) == [2, 0, 1], "exactly wins"
    with pytest.raises(DataError, match="Traffic_Light names 2 classes"):
        opened(tmp_path, ["car", "stop sign", "traffic light", "traffic_light"])


def test_two_folders_of_one_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folders Car and car are both class 'car'; merge them"):
        opened(folders(tmp_path, "car", "Car"), ["car", "bus"])


def test_folders_that_are_no_class_are_named_with_what_to_do(tmp_path: Path) -> None:
    folders(tmp_path, *"abcde", "car")
    with pytest.raises(DataError, match=r"a is not a class of this network \(a, b, c and 2 more of 6 folders\); name"):
        opened(tmp_path, ["car", "bus"])


def test_fewer_folders_than_classes_without_names_are_no_labels(tmp_path: Path) -> None:
    folders(tmp_path, "cat", "dog")
    data = opened(tmp_path, None, (1, 10))
    assert data.labels is None
    (note,) = data.notes
    assert "2 class folders, and of the network's 10 outputs it is not known which classes they are" in note
    assert "--classes" in note
    assert labels_of(opened(tmp_path, None, (1, 2))) == [0, 1]
    assert data.subset([0]).notes == data.notes


@pytest.mark.parametrize("names", [None, ["cat", "dog"], ["road", "sky"]])
def test_folders_say_nothing_of_the_classes_of_a_maps_pixels(tmp_path: Path, names: list[str] | None) -> None:
    data = opened(folders(tmp_path, "cat", "dog"), names, (1, 2, 16, 16))
    assert (len(data), data.labels) == (2, None)
    assert "2 class folders, and the network answers with a map or a picture" in data.notes[0]


def test_wordnet_folders_are_taken_in_order_only_where_all_are_there(tmp_path: Path) -> None:
    folders(tmp_path, "n01440764", "n01443537")
    data = opened(tmp_path, ["tench", "goldfish"])
    assert labels_of(data) == [0, 1]
    assert "named by WordNet" in data.notes[0]
    with pytest.raises(DataError, match="n01440764 is not a class"):
        opened(tmp_path, ["tench", "goldfish", "great white shark"])


# Lists of classes


@given(
    names=st.lists(st.text(st.characters(categories=("L", "N")), min_size=1), min_size=2, max_size=9),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    blank=st.lists(st.integers(0, 9)),
)
def test_a_byte_order_mark_blank_lines_and_line_ends_do_not_count(
    names: list[str], end: str, mark: str, blank: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = list(names)
    for place in blank:
        lines.insert(place, "  ")
    path = tmp_path_factory.getbasetemp() / "classes.txt"
    path.write_bytes((mark + end.join(lines) + end).encode())
    assert read_classes(path, (1, len(names))) == names
    with pytest.raises(DataError, match=f"has {len(names)} class names and the network gives {len(names) + 1} scores"):
        read_classes(path, (1, len(names) + 1))


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"classes\.txt cannot be read: No such file"):
        read_classes(tmp_path / "classes.txt", None)
    for content, message in ((b"\xff\xfe\x00", "not UTF-8 text"), (b"\n \n", "holds no class names")):
        (tmp_path / "classes.txt").write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_classes(tmp_path / "classes.txt", None)


# Label maps


@given(st.lists(st.integers(-3, 260), min_size=1, max_size=40), st.sampled_from([None, 2, 11, 255, 256, 300]))
def test_of_a_map_counts_what_is_a_class(values: list[int], classes: int | None) -> None:
    limit = 10**9 if classes is None else classes
    known = [0 <= value < limit and not (value == 255 and limit in (10**9, 11, 2, 255)) for value in values]
    ignorable = [value < 0 or value in (255, limit) for value in values]
    array = np.array(values)
    if any(known) and all(k or i for k, i in zip(known, ignorable)):
        expected = [value if k else IGNORE for value, k in zip(values, known)]
        assert checked_map("map", array, classes).tolist() == expected
    else:
        with pytest.raises(DataError, match=r"map: (it holds the class|none of its numbers)"):
            checked_map("map", array, classes)


def scene(root: Path, names: list[str], maps: str = "labels", ending: str = "", images: str = "images") -> Path:
    """Pictures of 24 x 20, and maps whose number at (row, column) is 1 right of the middle, 255 in the first row."""
    for name in names:
        picture(root / images / f"{name}.jpg", (24, 20))
        values = np.zeros((20, 24), np.uint8)
        values[:, 12:] = 1
        values[0] = 255
        (root / maps).mkdir(exist_ok=True, parents=True)
        Image.fromarray(values).save(root / maps / f"{name}{ending}.png")
    return root


def test_a_folder_of_pictures_and_one_of_maps_are_pictures_with_maps(tmp_path: Path) -> None:
    data = opened(scene(tmp_path, ["a", "b"]), None, (1, 2, 16, 16), Preprocessing(16, 16, resize_short=16))
    assert len(data) == 2
    assert data.label_shape == (16, 16)
    assert data.labels is not None
    assert data.labels.shape == (2, 16, 16)
    # 24 x 20 becomes 19 x 16, of which the middle 16 columns stay: the border at 9.5 of 19 is at 7.5 or 8 of 16.
    for label in data.labels:
        assert (label[0] == IGNORE).all()
        assert (label[1:, :7] == 0).all()
        assert (label[1:, 9:] == 1).all()
    found = data.label(1)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, data.labels[1])
    assert data.digest != opened(tmp_path / "images").digest


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("recipe", [PLAIN, Preprocessing(16, 16, resize_short=18)])
def test_a_map_is_turned_resized_and_cropped_as_its_picture(
    tmp_path: Path, orientation: int, recipe: Preprocessing
) -> None:
    """A picture whose left part is white, and its map, must come out alike, whatever happens to both."""
    pixels = np.zeros((20, 26, 3), np.uint8)
    pixels[:7, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png", exif=exif)
    Image.fromarray((pixels[..., 0] > 0).astype(np.uint8)).save(tmp_path / "masks" / "a.png")
    data = opened(tmp_path, None, (1, 2, 16, 16), recipe)
    white, label = data.image(0)[0, 0], data.label(0)
    if recipe is PLAIN:
        np.testing.assert_array_equal(white == 255, label)
    else:
        assert np.mean((white > 0.5) != label) < 0.06  # along the edges, where colours mix and numbers do not


def test_maps_are_fitted_to_the_networks_output(tmp_path: Path) -> None:
    data = opened(scene(tmp_path, ["a"]), None, (1, 2, 4, 8))
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels[0, 1:], [[0] * 4 + [1] * 4] * 3)


def test_maps_in_a_folder_of_another_name_and_with_an_ending(tmp_path: Path) -> None:
    scene(tmp_path, ["a", "ab"], maps="colours", ending="_L", images="left")
    data = opened(tmp_path, None, (1, 2, 16, 16), labels="colours")
    assert data.label_shape == (16, 16)
    assert opened(tmp_path / "left", None, (1, 2, 16, 16), labels=str(tmp_path / "colours")).label_shape == (16, 16)
    with pytest.raises(DataError, match="there is no folder elsewhere of label maps"):
        opened(tmp_path, None, (1, 2, 16, 16), labels="elsewhere")


def test_pairs_that_cannot_be_used(tmp_path: Path) -> None:
    scene(tmp_path, ["a", "b", "c"])
    (tmp_path / "labels" / "b.png").unlink()
    with pytest.raises(DataError, match=r"1 of the 3 pictures in .*images have no label map .* \(the first: b\)"):
        opened(tmp_path, None, (1, 2, 16, 16))
    picture(tmp_path / "labels" / "b.png", (24, 20))
    with pytest.raises(DataError, match=r"b\.png: it has the mode RGB: a label map has one channel"):
        assert opened(tmp_path, None, (1, 2, 16, 16)).labels is None
    Image.new("L", (20, 24)).save(tmp_path / "labels" / "b.png")
    with pytest.raises(DataError, match=r"b\.png: it has \(20, 24\) pixels and its picture \(24, 20\)"):
        opened(tmp_path, None, (1, 2, 16, 16)).label(1)
    Image.new("L", (24, 20), 9).save(tmp_path / "labels" / "b.png")
    with pytest.raises(DataError, match=r"b\.png: it holds the class 9; the network's classes are 0 to 1"):
        opened(tmp_path, None, (1, 2, 16, 16)).label(1)
    with pytest.raises(DataError, match="holds pictures and label maps; give"):
        opened(tmp_path.parent, None, (1, 2, 16, 16))


def test_a_pair_is_no_two_classes_unless_it_is(tmp_path: Path) -> None:
    scene(tmp_path, ["a"])
    data = opened(tmp_path, None, (1, 2))
    assert data.labels is None
    assert len(data) == 1
    assert "holds label maps, and the network gives one class for a picture" in data.notes[0]
    Image.fromarray(np.zeros((20, 24), np.uint8)).save(tmp_path / "labels" / "a.png")
    assert labels_of(opened(tmp_path, ["images", "labels"], (1, 2))) == [0, 1]


# Arrays


def test_arrays_in_memory_become_data() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 20, 18, 3), dtype=np.uint8)
    data = Dataset.from_arrays(pictures, [0, 2, 1], preprocessing=PLAIN, classes=3)
    assert labels_of(data) == [0, 2, 1]
    np.testing.assert_array_equal(data.image(1), PLAIN.apply_array(pictures[1]))
    tensors = np.ones((2, 3, 16, 16), np.float32)
    np.testing.assert_array_equal(Dataset.from_arrays(tensors).image(0), tensors[:1])
    maps = np.array([[[0, 255]], [[1, 2]]])
    assert Dataset.from_arrays(tensors, maps, classes=2).labels is not None
    assert np.asarray(Dataset.from_arrays(tensors, maps, classes=2).labels).tolist() == [[[0, -100]], [[1, -100]]]


@pytest.mark.parametrize(
    ("images", "given", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), {}, "give the network's preprocessing"),
        (np.zeros((2, 3, 8, 8), np.uint8), {"preprocessing": PLAIN}, r"must have shape \(N, H, W, 3\)"),
        (np.zeros((2, 3, 8, 8)), {}, "images have dtype float64"),
        (np.zeros((0, 3, 8, 8), np.float32), {}, "holds no images"),
        (np.zeros(3, np.float32), {}, r"must have shape \(N, channels, \.\.\.\)"),
        (np.full((1, 3, 8, 8), np.nan, np.float32), {}, "image 0 holds NaN"),
        (np.zeros((2, 3, 8, 8), np.float32), {"labels": [0]}, r"whole numbers of shape \(2,\)"),
        (np.zeros((2, 3, 8, 8), np.float32), {"labels": [0, 2], "classes": 2}, "they must lie between 0 and 1"),
        (np.zeros((2, 3, 8, 8), np.float32), {"labels": [0.0, 1.0]}, "not float64"),
    ],
)
def test_arrays_are_checked_at_the_door(images: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_arrays(images, **given)
