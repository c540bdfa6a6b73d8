"""A process that exports blocks, one task a line: `python -m adaptivenet.export.worker`.

The first line on standard input is what it works on, as json: its `arguments`, which are the paths of the supernet, of
the features and of the folder for programs, and the `folder` and the `environment` to work in. Each line after that is
a task, which is answered with one line a program on standard output. It loads the saved supernet once. Nothing but
these lines goes to standard output: what libraries print goes to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path
from typing import Any


def main() -> None:
    """Answers tasks until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    known = json.loads(sys.stdin.readline())
    os.chdir(known["folder"])
    os.environ.update(known["environment"])

    import torch
    from adaptivenet.toolkit.elastic import Supernet
    from adaptivenet.toolkit.errors import AdaptiveNetError
    from adaptivenet.toolkit.pack.pack import SUFFIXES
    from safetensors.torch import load_file

    from .int8 import Calibration
    from .memo import calibrate_on_one_thread, remember_tables
    from .metrics import metric_program
    from .onnx_part import Place
    from .programs import Exporter

    torch.set_num_threads(1)
    supernet_path, features_path, out = (Path(argument) for argument in known["arguments"])
    supernet = Supernet.load(supernet_path)
    features = load_file(features_path)

    @lru_cache(maxsize=4)  # blocks come in the order of their cuts
    def calibrating(cut: int) -> torch.Tensor:
        return load_file(out / f"calibration-{cut}.safetensors")["x"]

    @cache
    def ranges() -> dict[int, tuple[float, float]]:
        return {int(cut): tuple(ends) for cut, ends in json.loads((out / "ranges.json").read_bytes()).items()}

    def calibration(reads: tuple[int, ...]) -> Calibration:
        calibrate_on_one_thread()
        row = reads.index(0) if supernet.inputs and 0 in reads else None
        return Calibration([tuple(x.unsqueeze(0) for x in xs) for xs in zip(*map(calibrating, reads))], ranges(), row)

    def made(exporter: Exporter, wanted: dict[str, Any], place: Place | None, known: Calibration | None) -> Any:
        backend, name = wanted["backend"], wanted["name"]
        try:
            program = exporter.export(f"metric {name!r}" if place is None else f"block {name!r}", backend, place, known)
            file = out / f"{wanted['id']}{SUFFIXES[backend]}"
            file.write_bytes(program.data)
            facts = {key: value for key, value in asdict(program).items() if key != "data"}
            return {"id": wanted["id"], "file": file.name, **facts}
        except (AdaptiveNetError, OSError) as error:
            return {"id": wanted["id"], "error": str(error)}

    remember_tables()
    gc.disable()  # the exporters allocate so much that looking for garbage all the time is a tenth of their time
    for count, line in enumerate(sys.stdin):
        if count % 8 == 7:
            gc.collect()
        if count == 7:
            gc.freeze()  # nearly all that is there was imported, and need not be looked through again
        task: dict[str, Any] = json.loads(line)
        reads: tuple[int, ...] = ()
        end = 0
        if "metric" in task:
            sys.path[:] = task["path"]  # a function of the user's own is found where the export found it
            try:
                metric = metric_program(task["metric"], supernet.graph.cuts[-1].shape)
            except AdaptiveNetError as error:
                for wanted in task["programs"]:
                    answers.write(json.dumps({"id": wanted["id"], "error": str(error)}) + "\n")
                answers.flush()
                continue
            exporter = Exporter(metric.module, metric.inputs)
        else:
            block = supernet.graph[task["block"]]
            reads, end = supernet.graph.reads(block), block.end
            exporter = Exporter(supernet.blocks[block.name], [features[str(cut)] for cut in reads])
        known = calibration(reads) if any(each["int8"] for each in task["programs"]) else None
        for wanted in task["programs"]:
            place = Place(wanted["name"], reads, end) if reads else None
            answers.write(json.dumps(made(exporter, wanted, place, known if wanted["int8"] else None)) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
