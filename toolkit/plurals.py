"""Numbers of things in what people read: 1 picture, 2 pictures."""


def number_of(count: int, one: str, several: str = "") -> str:
    """The count and the noun that goes with it; `several` is its plural where that is not `one` with an s."""
    return f"{count} {one if count == 1 else several or one + 's'}"
