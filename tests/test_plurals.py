"""Numbers of things, and what is printed of one."""

from adaptivenet.toolkit.plurals import number_of


def test_one_of_anything_is_told_in_the_singular() -> None:
    assert [number_of(count, "picture") for count in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]
    assert [number_of(count, "file was", "files were") for count in (1, 3)] == ["1 file was", "3 files were"]
