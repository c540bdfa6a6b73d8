"""What a bundle for Android says of itself: what it weighs, and the lines of Gradle and Kotlin that use it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptivenet.toolkit.data.inputs import Input

if TYPE_CHECKING:
    from .android import AndroidBundle

_ENGINES = {
    "executorch": ("executorch", "org.pytorch:executorch-android"),
    "onnx": ("onnxruntime", "com.microsoft.onnxruntime:onnxruntime-android"),
}
_ARRAYS = {"float32": "FloatArray", "int64": "LongArray", "int32": "IntArray", "bool": "BooleanArray"}
HEADS = ("SoC", "point", "measured ms", "quality", "blocks", "MB")


def row(point: Mapping[str, Any]) -> list[str]:
    """What a point weighs, as `PointSize.to_json` gives it, in words under `HEADS`."""
    return [
        point["soc"] or "any other",
        str(point["point"]),
        f"{point['ms']:.2f}" + ("" if point["measured"] else " (predicted)"),
        "not known" if point["quality"] is None else f"{point['score']} {point['metric']}",
        str(point["blocks"]),
        f"{point['bytes'] / 1e6:.2f}",
    ]


def readme(bundle: AndroidBundle) -> str:
    """README.md of a bundle."""
    module, engine = _ENGINES[bundle.backend]
    extensions = ", ".join(f'"{extension}"' for extension in bundle.no_compress)
    table = _markdown([list(HEADS), *(row(point.to_json()) for point in bundle.points)])
    warnings = "".join(f"\n**Warning:** {warning}.\n" for warning in bundle.warnings)
    return f"""# {bundle.name}, for an Android app

Copy the folder `assets` into `app/src/main`, and tell Gradle not to compress the programs:

```kotlin
android {{
    defaultConfig {{ minSdk = 26 }}
    androidResources {{ noCompress += listOf({extensions}) }}
}}
dependencies {{
    implementation("io.adaptivenet:adaptivenet:VERSION")
    implementation("io.adaptivenet:adaptivenet-engine-{module}:VERSION")
    implementation("{engine}:ENGINE_VERSION")
}}
```

```kotlin
import io.adaptivenet.AdaptiveModel
import io.adaptivenet.Options
import io.adaptivenet.android.create
import io.adaptivenet.milliseconds  // not kotlin.time's

val model = AdaptiveModel.create(context, "{bundle.name}", Options(budget = 12.milliseconds))  // blocks
{_inputs(bundle.pack.inputs)}
val output = model.createOutputBuffer()
model.run(input, output)  // never waits for a load
model.close()
```

The libraries come from the Maven repository that `make aar` builds; the engine's version is that of the profiles, or
the newest. docs/app.md of the toolkit has the rest.

## What it weighs

{bundle.bytes / 1e6:.2f} MB in all. Points are numbered as in the app, the fastest first; blocks that several points
use are there once. A phone takes the profile of its own SoC, else that of one of the same series, else the default,
which is the first below.
{warnings}
{table}
"""


def _inputs(inputs: Sequence[Input]) -> str:
    """The lines of Kotlin that write what the network reads."""
    if not inputs:
        return "val input = model.createInputBuffer()\ninput.write(values)  // FloatArray"
    lines = ["val input = model.createInputRow()"]
    for at, each in enumerate(inputs):
        name = json.dumps(each.name, ensure_ascii=False).replace("$", "\\$")
        lines.append(
            f"input.write({name}, values{at})  // {_ARRAYS[each.dtype]}({each.width}), {each.dtype} {each.shape}"
        )
    return "\n".join(lines)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
