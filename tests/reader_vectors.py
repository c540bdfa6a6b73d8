"""The documents in `vectors/readers.json`, which the readers in Python, C++ and Kotlin all accept or refuse alike.

After a change to a reader, `python tests/reader_vectors.py` writes them anew, with what the runner's reader in C++ says
(`make runner` builds it). A manifest is given as changes to a good one, and is signed anew after them, as an attacker
would do. The words of Python's refusals are its JSON Schema library's; C++ and Kotlin say the same.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from adaptivenet.toolkit.documents import parse_json
from adaptivenet.toolkit.pack.manifest import manifest_digest

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).parent / "vectors" / "readers.json"
CHECK = ROOT / "build" / "runner" / "host" / "tests" / "runner-check"
_ABOUT = (
    "Documents for readers; texts are in hexadecimal digits. `manifests` are changes to `good`, to be signed anew, "
    "`texts` are whole manifests; `error` is what the reader says, or null. `json` has the SHA-256 of a text's "
    "canonical form, or null where it is refused. Written by tests/reader_vectors.py."
)
MOST = 2**53 - 1
DB = {"unit": "dB", "worst": 0, "best": 60}
NAMES = ["../b0", "/b0", "..", ".b0", "-b", "_b", "b0\n", "b\x1b[31m", "", "b 0", "é", "b\\0", "b" * 64, "b" * 65]
LINES = ["\n", "a\tb", "\x1b[31m", "\x7f", "\x80", "a\x9f", "\xa0 \u2028 😀", "", "é" * 4096, "é" * 4097]
TITLES = ["é" * 200, "é" * 201, "😀" * 200]
OTHERS: list[Any] = [None, True, 1.0, "", [], {}, [{}], -1]


def artifact(digit: str) -> dict[str, Any]:
    file = f"blobs/{digit * 64}.onnx"
    return {"onnx": {"file": file, "bytes": 100, "layout": "contiguous", "max_abs_error": 1e-7, "tolerance": 1e-4}}


def block(name: str, start: int, end: int, kind: str) -> dict[str, Any]:
    fields = {"name": name, "start": start, "end": end, "kind": kind, "source": "", "params": 1, "macs": 2}
    return {**fields, "artifacts": artifact("a")}


def good_manifest() -> dict[str, Any]:
    """The one that is changed: four original blocks and three others, with a tap at cut 1."""
    shapes = [[1, 3, 2, 2], [1, 50], [1, 4], [1, 2, 2], [1, 5]]
    return {
        "format": "adaptivenet-pack",
        "version": 2,
        "name": "tiny",
        "cuts": [{"index": at, "shape": shape, "dtype": "float32"} for at, shape in enumerate(shapes)],
        "taps": [1],
        "blocks": [
            *(block(f"o{at}", at, at + 1, "original") for at in range(4)),
            {**block("p0", 0, 1, "pruned"), "ratio": 0.5, "loss": 0.125, "precision": "int8", "twin_of": "o0"},
            block("m1", 1, 3, "merged"),
            block("m3", 2, 4, "merged"),
        ],
        "metrics": {
            "top1": {"operands": ["output", "label"], "sums": ["correct", "count"], "artifacts": artifact("b")},
        },
        "preprocessing": {
            "height": 2,
            "width": 2,
            "resize_short": 3,
            "crop": "center",
            "interpolation": "bilinear",
            "mean": [0.5, 0, -1.5],
            "std": [0.25, 0.5, 1],
            "scale": 1 / 255,
        },
        "classes": ["daisy", "poppy", "rose", "tulip", "violet"],
        "provenance": {"license": "Apache-2.0"},
    }


Change = list[Any]  # [place, value], or [place] to remove what is there


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of everything in a document that is no list or object, and of these."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*at, key)
        yield from places(each, (*at, key))


def manifest_changes(rng: random.Random) -> Iterator[tuple[str, list[Change]]]:
    """Named changes, good and bad."""
    good = good_manifest()
    onnx = ["blocks", 0, "artifacts", "onnx"]
    yield "nothing", []
    for place in [[], ["cuts", 0], ["blocks", 0], onnx, ["metrics", "top1"], ["preprocessing"]]:
        yield f"another field in {place}", [[[*place, "extra"], 1]]
        found = good
        for key in place:
            found = found[key]
        for key in found:
            yield f"without {key} in {place}", [[[*place, key]]]
    leaves = [place for place in places(good) if place[0] not in ("format", "version")]
    for place in leaves:
        if place[:1] != ("blocks",) or place[1:2] in [(), (0,), (4,)]:
            for other in rng.sample(OTHERS, 2):
                yield f"{other!r} at {list(place)}", [[list(place), other]]
    for name in NAMES:
        yield f"a block called {name[:9]!r}", [[["blocks", 5, "name"], name]]
        yield f"a kind called {name[:9]!r}", [[["blocks", 5, "kind"], name]]
        yield f"a metric called {name[:9]!r}", [[["metrics", name], good["metrics"]["top1"]]]
        yield f"a sum called {name[:9]!r}", [[["metrics", "top1", "sums", 0], name]]
    for line in LINES:
        for place in (["blocks", 0, "source"], ["classes", 0], ["provenance", "license"]):
            yield f"{line[:9]!r} at {place}", [[place, line]]
        yield f"provenance of {line[:9]!r}", [[["provenance", line], "x"]]
    for title in [*LINES[:8], *TITLES]:
        yield f"a pack called {title[:9]!r}", [[["name"], title]]
    a = "a" * 64
    files = ["../", "blobs/../../", "blobs/../blobs/", "/blobs/", "blobs//", "", "Blobs/"]
    files = [f"{folder}{a}.onnx" for folder in files] + [
        f"blobs/{a.upper()}.onnx",
        f"blobs/{a}.so",
        f"blobs/{a}.onnx\n",
    ]
    files += [f"blobs/{a}.onnx\0", f"blobs/{a}", f"blobs/{a}a.onnx", f"blobs/{a}onnx", f"blobs/{a[1:]}g.onnx", "blobs/"]
    for file in [*files, f"blobs/{a}.pte", f"blobs/{'0' * 64}.onnx"]:
        yield f"a file called {file[:40]!r}", [[[*onnx, "file"], file]]
    numbers: list[tuple[list[Any], list[Any]]] = [
        (["blocks", 0, "macs"], [0, MOST]),
        ([*onnx, "bytes"], [0, 1, MOST]),
        (["cuts", 1, "shape"], [[2147483647] * 8, [1] * 9, [1, 0], [1, 2147483648], [1, 16.0]]),
        (["blocks", 4, "ratio"], [1, None, 1.0000000000000002, -1e-300, -0.0]),
        (["blocks", 4, "loss"], [1e300, -1, None]),
        (["preprocessing", "std", 1], [0, -0.0, 5e-324]),
        (["preprocessing", "mean"], [[0, 0], [0, 0, 0, 0]]),
        (["preprocessing", "resize_short"], [16384, 16385, 2, 1, None]),
        (["preprocessing", "height"], [1, 3]),
        (["preprocessing"], [None]),
        (["classes"], [[], None, ["same", "same"]]),
        (["metrics"], [{}]),
        (["metrics", "top1", "operands"], [[], ["label", "label"], ["secret"], ["label", "oracle", "output"]]),
        (["metrics", "top1", "score"], [DB, {**DB, "best": 0}, {**DB, "best": 1e-9}, {**DB, "kind": "mean"}, {}, None]),
        (["metrics", "top1", "score"], [{**DB, "worst": -1e9, "best": 1e9}, {**DB, "worst": 60.0, "best": 60}]),
        (["metrics", "top1", "score"], [{**DB, "worst": -1000000001}, {**DB, "best": 1.7e308}, {**DB, "best": "60"}]),
        (["metrics", "top1", "score"], [{"unit": "dB", "best": 1}, [], "share", {**DB, "best": None}]),
        (["cuts", 0, "dtype"], ["float16", "float64"]),
        (["cuts", 0, "shape"], [[2, 3, 2, 2]]),
        (["cuts", 0, "index"], [1]),
        (["cuts"], [[good["cuts"][0]]]),
        (["blocks", 0, "kind"], ["pruned"]),
        (["blocks", 0, "end"], [0, MOST, 2]),
        (["blocks", 0, "start"], [4294967296, 1]),
        (["blocks", 0, "name"], ["o1"]),
        (["blocks", 5, "kind"], ["whole", "resized", "also"]),
        (["blocks", 4, "precision"], ["float32", "int4"]),
        (["blocks", 4, "twin_of"], ["o1", "p0", "not-here", "no name", None]),
        (["taps"], [[2], [0], [4], [1, 1], [], [4294967297], [3, 1]]),
        (
            ["blocks", 2, "reads"],
            [[0], [0, 1], [], [1, 0], [0, 0], [2], [3], [-1], [4294967297], [0.0], ["0"], None, 0],
        ),
        (["blocks", 3, "reads"], [[0, 1], [2], [1, 2]]),
        (["blocks", 6, "reads"], [[0], [0, 1]]),
        ([*onnx, "max_abs_error"], [1e-4, 1.1e-4, None]),
        ([*onnx, "made_from"], [None, "0" * 64, "0" * 64 + "\n", "0" * 63, ""]),
        ([*onnx, "snr_db"], [None, 12.5, -3, "loud"]),
        ([*onnx, "layout"], ["nhwc", "channels_last"]),
        (["trained_on"], ["", "AAAAAAA", "AAAAAAAA", "AAAA-AAA", 3]),
        (
            ["blocks", 0, "artifacts", "executorch"],
            [{**good["blocks"][0]["artifacts"]["onnx"], "file": f"blobs/{a}.pte"}],
        ),
        (["blocks", 0, "artifacts", "tvm"], [good["blocks"][0]["artifacts"]["onnx"]]),
        (["blocks", 0, "artifacts"], [{}]),
    ]
    for unit in ["", "share", "µm²", "é" * 16, "😀" * 16, "é" * 17, "d\nB", "\x1b[31m", "\x9f", "\u2028", 3, None]:
        yield f"a unit of {str(unit)[:9]!r}", [[["metrics", "top1", "score"], {**DB, "unit": unit}]]
    for sums in (["a"], ["a", "b", "c"], ["a", "b", "c", "d"]):
        changes = [[["metrics", "top1", "sums"], sums], [["metrics", "top1", "score"], DB]]
        yield f"a score of {len(sums)} sums", changes
    for place, values in numbers:
        for value in values:
            yield f"{str(value)[:30]} at {place}", [[place, value]]
    row = [{"name": "ids", "shape": [1, 4], "dtype": "int64"}, {"name": "mask", "shape": [1], "dtype": "bool"}]
    for what, inputs, first in [
        ("in a row", row, [1, 5]),
        ("that are one", row[:1], [1, 4]),
        ("that are none", [], [1, 5]),
        ("too many for their cut", row, [1, 4]),
        ("too few for their cut", row, [1, 6]),
        ("in three dimensions", row, [5, 1, 1]),
        ("of 2^62 numbers", [{**row[0], "shape": [2147483647] * 8}], [1, 5]),
        ("of one name", [row[0], {**row[1], "name": "ids"}], [1, 5]),
        ("of a type that none has", [{**row[0], "dtype": "float16"}, row[1]], [1, 5]),
        ("without a type", [{"name": "ids", "shape": [1, 5]}], [1, 5]),
    ]:
        yield f"inputs {what}", [[["inputs"], inputs], [["preprocessing"], None], [["cuts", 0, "shape"], first]]
    yield (
        "inputs in a row of whole numbers",
        [
            [["inputs"], row],
            [["preprocessing"], None],
            [["cuts", 0], {"index": 0, "shape": [1, 5], "dtype": "int64"}],
        ],
    )
    for one, other in [([1, 4], [1]), ([3, 1, 1], [1, 2]), ([1, 4], [1, 2]), ([2147483647] * 8, [1, 2])]:
        outputs = [{"name": "boxes", "shape": one}, {"name": "", "shape": other}]
        yield f"outputs of {one} and {other}", [[["outputs"], outputs]]
        yield (
            f"outputs of {one} and {other}, in three dimensions",
            [[["outputs"], outputs], [["cuts", 4, "shape"], [5, 1, 1]]],
        )


def changed(changes: list[Change]) -> dict[str, Any]:
    """The good manifest with these changes, signed."""
    manifest = copy.deepcopy(good_manifest())
    for place, *value in changes:
        holder: Any = manifest
        for key in place[:-1]:
            holder = holder[key]
        if value:
            holder[place[-1]] = copy.deepcopy(value[0])
        else:
            del holder[place[-1]]
    return {**manifest, "digest": manifest_digest(manifest)}


def texts() -> list[bytes]:
    """Manifests that are wrong before their schema is looked at."""
    signed = json.dumps(changed([]), ensure_ascii=False)
    return [
        signed.encode(),
        json.dumps(changed([]), indent=4).encode(),
        *(signed.replace(one, other).encode() for one, other in [("daisy", "daisx"), ('"macs": 2', '"macs": 3')]),
        signed.replace("1e-07", "0.0000001").encode(),
        signed.replace("1e-07", "0.0000002").encode(),
        *(signed.replace('"version": 2', f'"version": {other}').encode() for other in ("2.0", "1", "3", '"2"', "null")),
        b"",
        b" " * 1000,
        b"[]",
        b"{}",
        b'{"format": "cheese", "version": 9}',
        b'{"format": "adaptivenet-pack"}',
        b'{"format": "adaptivenet-pack", "version": 2}',
        b'{"format": "adaptivenet-pack", "version": 2, "version": 2}',
        b'{"format": "adaptivenet-pack", "loss": 1e999}',
        b'{"format": "adaptivenet-pack", "params": 9007199254740992}',
        b"\xef\xbb\xbf" + signed.encode(),
        b"\xff\xfe{\x00}\x00",
        signed.encode()[:-1],
        signed.encode() + b"\0",
        b"[" * 70,
    ]


def json_texts(rng: random.Random) -> list[bytes]:
    """JSON that is easily read in two ways, and some that is none."""
    doubles = [value for value in (struct.unpack("<d", rng.randbytes(8))[0] for _ in range(300)) if abs(value) < 1e308]
    doubles += [
        float(np.float32(rng.lognormvariate(-16, 3))) for _ in range(100)
    ]  # errors of float32, as manifests have
    doubles += [2.0**power for power in range(-1074, 1024, 61)] + [10.0**power for power in range(-320, 308, 13)]
    doubles += [0.1, 0.30000000000000004, 1e15, 9999999999999998.0, 1e16, 1e22, 1e23, 2.0**-44, 2.2250738585072014e-308]
    doubles += [5e-324, 1.7976931348623157e308, 9007199254740993.0, 1 / 255, 123456789012345.6, 0.0001, 0.00001, 2e-3]
    good = [
        json.dumps(doubles),
        '{"b": [1, {}, []], "a": null, "B": true}',
        '{"😀": 1, "Ａ": 2, "é": 3, "z": 4, "": 5, "\\ue000": 6}',
        r'"\"\\\/\b\f\n\r\t\u0000\u001f\u007f\u0080\u2028é\ud83d\ude00"',
        "[0, -0, -12, 9007199254740991, -9007199254740991, 0.0, -0.0, -0e5, 1e0, 1.50, 100E-2, -2.5e+1, 1e-999]",
        '[{"a": 1}, {"a": {"a": 2}}]',
        "[" * 64 + "]" * 64,
        " 3\r\n\t",
    ]
    bad = [
        "",
        " ",
        "{",
        "[",
        "]",
        "[1,]",
        '{"a":1,}',
        "{a:1}",
        "{'a':1}",
        '{"a"}',
        '{"a":}',
        "[1 2]",
        "1 2",
        "01",
        "+1",
    ]
    bad += [".5", "5.", "1e", "0x10", "--1", "- 1", "tru", "True", "// c\n1", '"a', r'"\x"', r'"\u12"', '"\t"', '"\n"']
    bad += ["\v1", "[1]]", "{}{}", "NaN", "-Infinity", "1e999", "1.8e308", "9007199254740992", "-9007199254740992"]
    bad += [
        "9" * 400,
        r'"\ud800"',
        r'"\udc00"',
        r'"\ud800\ud800"',
        r'"\ud800x"',
        '{"a": 1, "a": 1}',
    ]
    bad += [
        '{"a": 1, "\\u0061": 1}',
        '{"b": {"": 1, "x": 2, "": {}}}',
        "[,1]",
        "[1,,2]",
        '{"a":1,,"b":2}',
        "nul",
        "1\0",
    ]
    raw = [b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b'"\x80"', b'"\xc0\xaf"', b'"\xe0\x80\xaf"', b'"\xed\xa0\x80"']
    raw += [b'"\xf4\x90\x80\x80"', b'"\xff"', b'"\xc3"', b'"\xe2\x82"', b'{"\xc3\x28": 1}', b'"\xef\xbb\xbf"']
    return [text.encode() for text in [*good, *bad]] + raw


def ask_runner(what: str, documents: list[bytes]) -> list[str]:
    """What the runner's reader says to each: `ok`, or the kind of the error and its words."""
    with tempfile.TemporaryDirectory() as folder:
        for at, document in enumerate(documents):
            (Path(folder) / str(at)).write_bytes(document)
        command = [str(CHECK), what, *map(str, range(len(documents)))]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=300)
    return done.stdout.decode().split("\n")[:-1]


def error_in(answer: str) -> str | None:
    return None if answer == "ok" else answer.removeprefix("PackError: ")


def canonical_digest(text: bytes) -> str | None:
    """By Python; None where the text is refused."""
    try:
        value = parse_json(text)
        again = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return None
    return hashlib.sha256(again).hexdigest()


def main() -> None:
    """Writes the file."""
    if not CHECK.exists():
        raise SystemExit(f"{CHECK} was not found: build the runner first (make runner)")
    rng = random.Random(0)
    changes = list(manifest_changes(rng))
    answers = ask_runner("manifest", [json.dumps(changed(each)).encode() for _, each in changes])
    raw = texts()
    document = {
        "about": _ABOUT,
        "good": good_manifest(),
        "manifests": [
            {"name": name, "changes": each, "error": error_in(answer)}
            for (name, each), answer in zip(changes, answers, strict=True)
        ],
        "texts": [
            {"text": text.hex(), "error": error_in(answer)}
            for text, answer in zip(raw, ask_runner("manifest", raw), strict=True)
        ],
        "json": [{"text": text.hex(), "sha256": canonical_digest(text)} for text in json_texts(rng)],
    }
    FILE.write_text(json.dumps(document, ensure_ascii=False, indent=0, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
