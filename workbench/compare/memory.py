"""How much one call adds to the peak of memory, in a process that does nothing else.

    python -m workbench.compare.memory MODULE CASE CONTESTANT DEVICE THREADS [toy]

On a GPU it is what torch allocates; on a CPU the growth of the resident set, as Linux counts it, after a tiny
call has brought in libraries and threads. Other systems do not tell, and get no figure.
"""

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

SELF = Path("/proc/self")


def growth_in_a_process(
    module: str, case: str, contestant: str, device: torch.device, threads: int, toy: bool
) -> int | None:
    """Bytes that a contestant's call adds to the peak of a new process; None where it cannot be told.

    Raises:
        ChildProcessError: if the process fails, which has told why by then.
    """
    arguments = [module, case, contestant, device.type, str(threads), *["toy"] * toy]
    ran = subprocess.run(
        [sys.executable, "-m", "workbench.compare.memory", *arguments], stdout=subprocess.PIPE, text=True
    )
    if ran.returncode:
        raise ChildProcessError(
            f"{contestant}: its process stopped with exit code {ran.returncode}, see above"
        )
    told = ran.stdout.split()[-1]
    return None if told == "None" else int(told)


def growth(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that a call adds to the peak of this process, result included; None where that cannot be told."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    try:
        (SELF / "clear_refs").write_text("5")  # the peak starts again from now (proc(5))
    except OSError:
        return None
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """Bytes of one line of /proc/self/status."""
    lines = (SELF / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def main(argv: list[str]) -> None:
    """Print the growth that one contestant causes in one case."""
    module, case, name, device, threads, *toy = argv
    torch.set_num_threads(int(threads))
    comparison, device = import_module(module).COMPARISON, torch.device(device)
    prepare, case = comparison.contestants[name].prepare, comparison.cases[case]
    tiny = comparison.toy(case)
    prepare(tiny, device)()
    print(growth(prepare(tiny if toy else case, device), device))


if __name__ == "__main__":
    main(sys.argv[1:])
