"""The pace of ring 1 in several work trees: CPU seconds for the same seeds, beside the first tree's.

    python benchmarks/pace.py --seeds 100:130 --rounds 7 ../barge-before .     # about 20 s a round

Each round starts a new process for each tree: hashes and memory layouts differ from process to process, which alone changes the
pace by 5 % and more. Within a round the trees take turns seed by seed, on one core, so that other work on the machine meets all.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

import report

WORKER = """
import sys, time
from bargetrio.simulator.campaign import SIZES
from bargetrio.simulator.seed import run

run(0, 3)
for line in sys.stdin:
    seed = int(line)
    began = time.process_time()
    run(seed, SIZES[seed % len(SIZES)])
    print(time.process_time() - began, flush=True)
"""


def start(tree: Path, core: int) -> subprocess.Popen[str]:
    """Start a process that runs the seeds that it is told, with the package of this tree."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{core}}})\n{WORKER}"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_seed(process: subprocess.Popen[str], seed: int) -> float:
    """Return the CPU seconds that a seed took; raises RuntimeError if the process has ended."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{seed}\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"seed {seed} ended its process")
    return float(answer)


def measure_round(trees: list[Path], seeds: range, number: int) -> list[float]:
    """Return each tree's CPU seconds for all seeds."""
    core = max(os.sched_getaffinity(0))
    processes = [start(tree, core) for tree in trees]
    took = [0.0] * len(trees)
    try:
        for seed in seeds:
            for turn in range(len(trees)):
                which = (turn + seed + number) % len(trees)
                took[which] += run_seed(processes[which], seed)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return took


def main() -> None:
    """Print a row for each tree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", default="100:130", help="first:end")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("trees", nargs="+", type=Path, help="work trees; ratios are beside the first one's")
    arguments = parser.parse_args()
    first, _, end = arguments.seeds.partition(":")
    trees, seeds = [tree.resolve() for tree in arguments.trees], range(int(first), int(end))
    rounds = [measure_round(trees, seeds, number) for number in range(arguments.rounds)]
    rows = []
    for which, tree in enumerate(trees):
        took = [each[which] for each in rounds]
        ratios = sorted(each[which] / each[0] for each in rounds)
        spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        rows.append([tree.name, f"{min(took):.2f}", f"{statistics.median(took):.2f}", spread])
    print(f"{report.where()}; {len(seeds)} seeds, {arguments.rounds} rounds:\n")
    print(report.table(("tree", "least s", "median s", "beside the first"), rows))


if __name__ == "__main__":
    main()
