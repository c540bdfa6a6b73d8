"""A page's html, read back."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta"}
# What must stay text wherever it is put.
HOSTILE = "</script><img src=x onerror=alert(1)>\"' --> <!-- ${title} $title &amp; \u2028\u202e"


class Page(HTMLParser):
    """The tags of a page, their attributes and the text outside and inside of scripts; every tag must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        (self.scripts if inside == "script" else self.text).append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())
