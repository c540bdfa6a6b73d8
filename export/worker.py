"""A process that exports blocks, one task a line: `python -m adaptivenet.export.worker SUPERNET FEATURES OUT`.

Reads tasks as json lines from standard input and answers each with one line on standard output. It loads the saved
supernet once. Nothing but these lines goes to standard output: what libraries print goes to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any


def main() -> None:
    """Answers tasks until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import torch
    from adaptivenet.toolkit.elastic import Supernet
    from adaptivenet.toolkit.errors import AdaptiveNetError
    from adaptivenet.toolkit.pack import SUFFIXES
    from safetensors.torch import load_file

    from .memo import remember_tables
    from .metrics import MODULES, example_inputs
    from .programs import export_program

    torch.set_num_threads(1)
    supernet_path, features_path, out = (Path(argument) for argument in sys.argv[1:4])
    supernet = Supernet.load(supernet_path)
    features = load_file(features_path)
    remember_tables()
    gc.disable()  # the exporters allocate so much that looking for garbage all the time is a tenth of their time
    for count, line in enumerate(sys.stdin):
        if count % 16 == 15:
            gc.collect()
        task: dict[str, Any] = json.loads(line)
        backend = task["backend"]
        try:
            if "metric" in task:
                name = f"metric {task['metric']!r}"
                inputs = list(example_inputs(task["metric"], supernet.graph.cuts[-1].shape))
                program = export_program(name, MODULES[task["metric"]]().eval(), inputs, backend)
            else:
                block = supernet.graph[task["block"]]
                inputs = [features[str(cut)] for cut in supernet.graph.reads(block)]
                program = export_program(f"block {block.name!r}", supernet.blocks[block.name], inputs, backend)
            file = out / f"{task['id']}{SUFFIXES[backend]}"
            file.write_bytes(program.data)
            facts = {key: value for key, value in asdict(program).items() if key != "data"}
            answer: dict[str, Any] = {"id": task["id"], "file": file.name, **facts}
        except (AdaptiveNetError, OSError) as error:
            answer = {"id": task["id"], "error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
