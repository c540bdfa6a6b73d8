"""The runner's readers, in C++, accept and refuse the same documents as the readers here.

Valid documents are spoilt in thousands of ways, always the same ones, and put to both.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.documents import _object, parse_json
from adaptivenet.toolkit.errors import PackError, PlanError
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut
from adaptivenet.toolkit.pack.manifest import FORMAT, VERSION, manifest_digest, parse_manifest
from adaptivenet.toolkit.pack.pack import Artifact, BlockPack
from adaptivenet.toolkit.pack.trained_on import TrainedOn
from adaptivenet.toolkit.pack.writer import Metric, describe
from adaptivenet.toolkit.plan.plan import LABEL, Plan, compile_plan
from adaptivenet.toolkit.plan.prefix_cache import PrefixCache
from packs import CLASSES, PREPROCESSING
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "build" / "runner" / "host" / "tests" / "runner-check"

if not CHECK.exists():
    pytest.skip(
        "the runner is not built: cmake --preset host -S android_runner && cmake --build build/runner/host",
        allow_module_level=True,
    )

# Two taps, heads of several lengths, blocks of every kind, and some that read cuts besides where they start.
GRAPH = BlockGraph(
    [
        Cut(0, (1, 3, 16, 16)),
        Cut(1, (1, 4, 8, 8)),
        Cut(2, (1, 6)),
        Cut(3, (1, 4), "uint8"),
        Cut(4, (1, 3)),
        Cut(5, (1, 5)),
    ],
    [
        *(
            Block(f"o{at}", at, at + 1, "original", f"features.{at}", params=10 * at, macs=100, reads=reads)
            for at, reads in enumerate([(), (), (0, 1), (), (0,)])
        ),
        Block("p0", 0, 1, "pruned", ratio=0.5, loss=0.125),
        Block("m1", 1, 3, "merged", loss=0.0),
        Block("s1", 1, 2, "skip"),
        Block("m3", 3, 5, "merged", reads=(0, 1)),
        Block("p4", 4, 5, "pruned", ratio=1.0),
    ],
    [1, 3],
)
OPERANDS = {"top1": ("output", "label"), "agreement": ("output", "oracle"), "distance": ("oracle", "output", "label")}


def artifacts(letter: str, error: float | None = 1e-7) -> dict[str, Artifact]:
    return {
        "executorch": Artifact(f"blobs/{letter * 64}.pte", 100, "channels_last", error, 1e-4),
        "onnx": Artifact(f"blobs/{letter * 64}.onnx", 200, "contiguous", error, None, "0" * 64),
    }


def signed(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "digest": manifest_digest(manifest)}


def good_manifest() -> dict[str, Any]:
    manifest = describe(
        GRAPH,
        {block.name: artifacts("a") for block in GRAPH.blocks},
        {name: Metric(operands, artifacts("b", None)) for name, operands in OPERANDS.items()},
        PREPROCESSING,
        CLASSES,
        {"model": "tests", "licence": "Apache-2.0 ©"},
        (("boxes", (1, 4)), ("scores", (1,))),
        TrainedOn().with_pictures([b"one picture", b"another one"]),
    )
    return signed({"format": FORMAT, "version": VERSION, "name": "tiny", **manifest})


# Spoiling

NUMBERS = [0, 1, -1, 2, 3, 5, 16, 17, 65, 2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**53 - 1, -(2**53) + 1]
FLOATS = [0.0, -0.0, 1.0, 0.5, 1.0000000000000002, -1e-300, 1e-4, 1.1e-4, 1e300, 5e-324, 2.0]
TEXTS = [
    "",
    "x",
    "../x",
    "o0\n",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "é" * 200,
    "é" * 201,
    "x" * 65,
    "X" * 64,
    "0" * 64,
    "a\u2028b",
    "😀",
]
WORDS = ["original", "output", "oracle", "label", "float32", "center", "null", "run", "free", "score", "executorch"]
WORDS += ["recall", "keep", "drop", "kept"]
OTHERS = [None, True, False, [], {}, [[]], [None], {"": 1}, [1, 2], ["x"]]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a document, without the document itself."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, entry in entries for place in [(*at, key), *places(entry, (*at, key))]]


def value_at(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        document = document[key]
    return document


def changed(rng: random.Random, value: Any) -> Any:
    """Something like `value`: what is nearly right reaches the deeper checks."""
    if isinstance(value, bool) or value is None:
        return rng.choice([None, True, False, 0, ""])
    if isinstance(value, int):
        return rng.choice([value + 1, value - 1, -value, float(value), 2 * value, value + 2**32, str(value)])
    if isinstance(value, float):
        return rng.choice([-value, int(value), value + 1, value * 1e9, str(value)])
    if isinstance(value, str):
        at = rng.randint(0, len(value))
        return rng.choice(
            [value + "\n", value[:at] + value[at + 1 :], value[:at] + "\x9f" + value[at:], value.upper(), [value]]
        )
    if isinstance(value, list):
        more = rng.choice([*value, None]) if value else 1
        return rng.choice([value[1:], value[:-1], value[::-1], [*value, more], value * 2, [], dict.fromkeys("a", 1)])
    return rng.choice([{**value, "extra": 1}, dict(list(value.items())[1:]), {}, [value], list(value)])


def spoilt(rng: random.Random, document: Any) -> Any:
    """A copy of `document` with one to three changes."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        everywhere = places(document)
        if not everywhere:
            break
        place = rng.choice(everywhere)
        holder, key = value_at(document, place[:-1]), place[-1]
        match rng.randrange(7):
            case 0:
                del holder[key]
            case 1:
                holder[key] = copy.deepcopy(rng.choice(rng.choice([NUMBERS, FLOATS, TEXTS, WORDS, OTHERS])))
            case 2:
                holder[key] = copy.deepcopy(value_at(document, rng.choice(everywhere)))
            case 3 if isinstance(holder, list):
                holder.insert(rng.randint(0, len(holder)), copy.deepcopy(holder[key]))
            case 4 if isinstance(holder, list):
                other = rng.randrange(len(holder))
                holder[key], holder[other] = holder[other], holder[key]
            case 5 if isinstance(holder, dict):
                holder[rng.choice([*TEXTS, *WORDS, *holder])] = holder.pop(key)
            case _:
                holder[key] = changed(rng, holder[key])
    return document


TOKENS = [
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc2\x85",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\\u0000",
    b"\t",
    b"//",
]
TOKENS += [b"NaN", b"-Infinity", b"1e999", b"1e-999", b"-0", b"-0.0", b"00", b"9007199254740992", b"9007199254740991"]
TOKENS += [b"1.", b".1", b"1E5", b",", b"]", b"{", b'"', b'{"a":1,"a":2}', b"nul", b" ", b"\n", b"\x0b", b"\\/", b"\\x"]


def damaged(rng: random.Random, text: bytes) -> bytes:
    """`text` with a byte changed, a stretch cut out or doubled, or something put in."""
    at = rng.randint(0, len(text))
    end = min(len(text), at + rng.choice([1, 1, 2, 10, 100]))
    match rng.randrange(6):
        case 0:
            return text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
        case 1:
            return text[:at] + text[end:]
        case 2:
            return text[:end] + text[at:]
        case 3:
            return text[:at]
        case _:
            return text[:at] + rng.choice(TOKENS) + text[rng.choice([at, at + 1]) :]


# Comparing


def put_to_runner(folder: Path, what: str, documents: Sequence[bytes], *before: Path) -> list[str]:
    """What runner-check prints for each document."""
    names = [str(number) for number in range(len(documents))]
    for name, document in zip(names, documents, strict=True):
        (folder / name).write_bytes(document)
    command = [str(CHECK), what, *map(str, before), *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=300)
    answers = done.stdout.decode().split("\n")[:-1]
    assert len(answers) == len(documents)
    return answers


def compare(
    folder: Path, what: str, documents: Sequence[bytes], ours: Callable[[bytes], str], kind: str, *before: Path
) -> None:
    """Assert that both answer the same: what `ours` gives, or an error of the class `kind`."""
    accepted = 0
    for document, theirs in zip(documents, put_to_runner(folder, what, documents, *before), strict=True):
        try:
            answer = ours(document)
        except (PackError, PlanError, SafetensorError, ValueError) as error:
            answer = f"{kind}: {error}"
        both_refuse = theirs.startswith(f"{kind}: ") and answer.startswith(f"{kind}: ")
        assert both_refuse or theirs == answer, document
        accepted += theirs.startswith("ok")
    # The documents are no test unless many are good and many are not.
    assert 0.04 < accepted / len(documents) < 0.9


def open_manifest(data: bytes) -> str:
    BlockPack(Path(), parse_manifest(data))
    return "ok"


def test_manifests(tmp_path: Path) -> None:
    rng = random.Random(1)
    good = good_manifest()
    documents = [json.dumps(good).encode()]
    documents += [json.dumps(signed(spoilt(rng, good))).encode() for _ in range(1000)]
    for place in [("name",), ("blocks", 3, "name"), ("blocks", 5, "kind"), ("blocks", 3, "source"), ("classes", 0)]:
        for text in TEXTS:
            manifest = copy.deepcopy(good)
            value_at(manifest, place[:-1])[place[-1]] = text
            documents.append(json.dumps(signed(manifest)).encode())
    documents += [json.dumps(spoilt(rng, good), indent=rng.choice([None, 1])).encode() for _ in range(100)]
    documents += [damaged(rng, json.dumps(good, ensure_ascii=rng.random() < 0.5).encode()) for _ in range(400)]
    compare(tmp_path, "manifest", documents, open_manifest, "PackError")


def random_plan(rng: random.Random) -> dict[str, Any]:
    """A plan that no compiler makes: blocks in any order, features that all wait to the end, and honest sizes.

    Where it is wrong, it is wrong in one thing: a head that reads the tap of another path, or a slot that is not free.
    """
    made: dict[int, tuple[str, ...]] = {0: ()}
    instructions: list[list[Any]] = []
    subnets: list[tuple[str, ...]] = []
    slots = 2
    for _ in range(rng.randint(5, 14)):
        cuts = {slot: GRAPH[path[-1]].end if path else 0 for slot, path in made.items()}
        ready = [block for block in GRAPH.blocks if set(GRAPH.reads(block)) <= set(cuts.values())]
        # Late blocks more often: otherwise few paths reach the end.
        block = rng.choice([block for block in ready for _ in range(1 + block.start)])
        sources = [rng.choice([slot for slot, at in cuts.items() if at == cut]) for cut in GRAPH.reads(block)]
        target = slots if rng.random() < 0.97 else rng.randint(0, slots + 1)
        made[target] = (*made[sources[0]], block.name)
        slots = max(slots, target + 1)
        instructions.append(["run", block.name, sources, target])
        if block.end == GRAPH.end:
            instructions.append(["score", len(subnets), "top1", [target, LABEL]])
            subnets.append(made[target])
    sizes = [GRAPH.cuts[GRAPH[path[-1]].end if path else 0].bytes for path in made.values()]
    return {
        "subnets": subnets,
        "metrics": ["top1"],
        "slots": slots,
        "peak_bytes": sum(sizes),
        "block_runs": len(instructions) - len(subnets),
        "instructions": [*instructions, *(["free", slot] for slot in made)],
    }


def keeping_plans(rng: random.Random) -> list[dict[str, Any]]:
    """The plans of a search, which begin from what is kept and keep more."""
    paths = list(GRAPH.paths())
    cache = PrefixCache(GRAPH, {name: OPERANDS[name] for name in rng.sample(sorted(OPERANDS), 2)}, 20_000)
    plans = []
    for _ in range(4):
        plans.append(cache.plan(rng.choices(paths, k=rng.randint(1, 4)), "data", 3))
        cache.ran(plans[-1], "data", [rng.random() for _ in plans[-1].subnets])
    return [plan.to_json() for plan in plans]


def test_plans(tmp_path: Path) -> None:
    rng = random.Random(2)
    paths = list(GRAPH.paths())
    documents = []
    for _ in range(20):
        for good in keeping_plans(rng):
            documents += [good, *(spoilt(rng, good) for _ in range(20))]
            documents += [{**good, "instructions": spoilt(rng, good["instructions"])} for _ in range(20)]
            documents += [{**good, "kept": spoilt(rng, good["kept"])} for _ in range(5)]
    for _ in range(60):
        metrics = rng.sample(sorted(OPERANDS), rng.randint(1, 3))
        plan = compile_plan(GRAPH, rng.choices(paths, k=rng.randint(1, 6)), {name: OPERANDS[name] for name in metrics})
        good = plan.to_json()
        documents += [good, *(spoilt(rng, good) for _ in range(40))]
        documents += [{**good, "instructions": spoilt(rng, good["instructions"])} for _ in range(40)]
    documents += [random_plan(rng) for _ in range(1000)]
    texts = [json.dumps(document).encode() for document in documents]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(good_manifest()))

    def read(text: bytes) -> str:
        Plan.from_json(GRAPH, OPERANDS, json.loads(text))
        return "ok"

    compare(tmp_path, "plan", texts, read, "PlanError", manifest)


DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I8": "int8"}
DTYPES |= {"U8": "uint8", "BOOL": "bool"}


def read_safetensors(data: bytes) -> str:
    """What the library reads, where it keeps to the format's own page and to the dtypes of packs."""
    tensors = dict(deserialize(data))
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=_object)
    if not isinstance(header.pop("__metadata__", {}), dict):
        raise ValueError("metadata that are no object")
    for entry in header.values():
        if set(entry) != {"dtype", "shape", "data_offsets"} or entry["dtype"] not in DTYPES:
            raise ValueError("an entry with other fields")
    answer = {
        name: [DTYPES[tensor["dtype"]], tensor["shape"], hashlib.sha256(tensor["data"]).hexdigest()]
        for name, tensor in tensors.items()
    }
    return "ok " + json.dumps(answer, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_safetensors(tmp_path: Path) -> None:
    rng = random.Random(3)
    arrays = {
        "images": np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4),
        "labels": np.arange(2, dtype=np.int64),
        "mask": np.array([True, False, True]),
        "half": np.arange(4, dtype=np.float16),
        "empty": np.zeros((0, 7), np.int8),
        "scalar": np.array(3, np.int32),
        "é": np.arange(3, dtype=np.uint8),
    }
    good = save(arrays, {"made": "here"})
    size = int.from_bytes(good[:8], "little")
    header, values = json.loads(good[8 : 8 + size]), good[8 + size :]
    documents = [good, save({}), save({"images": arrays["images"]})]
    for _ in range(1500):
        small = dict(rng.sample(sorted(header.items()), rng.randint(1, len(header))))
        text = json.dumps(spoilt(rng, rng.choice([header, header, small]))).encode()
        if rng.random() < 0.2:
            text = damaged(rng, text)
        documents.append(struct.pack("<Q", len(text)) + text + values)
    # Swapped dtypes of the same size, and spaces, leave the file whole.
    for text in (json.dumps(header, indent=rng.randint(0, 8)) + " " * rng.randint(0, 8) for _ in range(100)):
        for name, other in rng.sample([("F32", "I32"), ("BOOL", "U8"), ("F16", "BF16"), ("F16", "F64")], 2):
            text = text.replace(f'"{name}"', f'"{other}"')
        documents.append(struct.pack("<Q", len(text)) + text.encode() + values)
    documents += [damaged(rng, good) for _ in range(300)]
    compare(tmp_path, "safetensors", documents, read_safetensors, "DataError")


def random_json(rng: random.Random, levels: int = 4) -> Any:
    def text() -> str:
        alphabets = ["ab", 'a"\\/\b\f\n\r\t\0\x1f\x7f\x80', "aé\u2028\ud7ff\ue000\uffff\U0001f600\U0010ffff"]
        return "".join(rng.choices(rng.choice(alphabets), k=rng.randint(0, 5)))

    def number() -> float:
        while True:
            (value,) = struct.unpack("<d", rng.randbytes(8))  # every exponent, and every length
            if np.isfinite(value):
                return float(value)

    match rng.randrange(9 if levels else 7):
        case 0:
            return rng.choice([None, True, False])
        case 1:
            return rng.randrange(-(2**53) + 1, 2**53) >> rng.choice([0, 20, 40, 50])
        case 2:
            return text()
        case 3:
            return round(rng.uniform(-1000, 1000), rng.randint(0, 6))
        case 4:
            return rng.choice([-1, 1]) * rng.randint(1, 10 ** rng.randint(1, 17)) * 10.0 ** rng.randint(-25, 25)
        case 5:
            return rng.choice([1e15, 1e16, 1e-4, 1e-5, 5e-324, 1.7976931348623157e308, -0.0, 2.0**53, 0.1 + 0.2])
        case 6:
            return number()
        case 7:
            return [random_json(rng, levels - 1) for _ in range(rng.randint(0, 5))]
        case _:
            return {text(): random_json(rng, levels - 1) for _ in range(rng.randint(0, 5))}


def canonical(text: bytes) -> str:
    value = parse_json(text)
    again = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"ok {hashlib.sha256(again.encode()).hexdigest()}"


def test_canonical_json(tmp_path: Path) -> None:
    rng = random.Random(4)
    values = [[random_json(rng) for _ in range(20)] for _ in range(1200)]
    documents = [
        json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 0, "\t"])).encode()
        for value in values
    ]
    documents += [damaged(rng, json.dumps(random_json(rng)).encode()) for _ in range(2500)]
    documents += list(TOKENS)
    compare(tmp_path, "canonical", documents, canonical, "ValueError")


def test_the_example_on_the_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "pack.md").read_text("utf-8")
    example = page.split("```json\n")[1].split("```")[0]
    assert put_to_runner(tmp_path, "manifest", [example.encode()]) == ["ok"]
