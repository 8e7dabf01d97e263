"""Prints where the GPU's time of a training step goes, kernel by kernel, as Nsight Compute (ncu) measures it.

    kernels.py PROGRAM "resnet18 128 sparse-tf32"

PROGRAM is the built benches/cuda/steps.rs. Kernels run one by one then: the sum is of the GPU alone, without
what the host takes.
"""

import collections
import csv
import subprocess
import sys

# A step ends with the optimizer's launches, which are near each other.
LAST_KERNEL, NEAR = "adam", 120


def main():
    program, case = sys.argv[1:]
    command = ["ncu", "--clock-control", "none", "--metrics", "gpu__time_duration.sum", "--csv", "--page", "raw", program]
    ran = subprocess.run(command, input=f"{case}\n" * 2, capture_output=True, text=True)
    lines = [line for line in ran.stdout.splitlines() if line.startswith('"')]
    if not lines:
        raise SystemExit(f"ncu found nothing: {ran.stdout[-1000:]}{ran.stderr[-1000:]}")
    rows = list(csv.DictReader(lines))[1:]  # the first has units
    ends = [i for i, row in enumerate(rows) if row["Kernel Name"].startswith(LAST_KERNEL)]
    steps = [end for end, after in zip(ends, ends[1:] + [len(rows) + NEAR]) if after - end > NEAR]
    begin = steps[-2] + 1 if len(steps) > 1 else 0
    times = collections.defaultdict(list)
    for row in rows[begin : steps[-1] + 1]:
        key = next(key for key in row if key.startswith("gpu__time_duration"))
        times[row["Kernel Name"][:80]].append(float(row[key].replace(",", "")) / 1e3)
    total = sum(map(sum, times.values()))
    print(f"{case}: {sum(map(len, times.values()))} launches, {total:.0f} us")
    for name, of_kernel in sorted(times.items(), key=lambda item: -sum(item[1])):
        print(f"{sum(of_kernel):9.0f} us {len(of_kernel):5} {name}")


if __name__ == "__main__":
    main()
