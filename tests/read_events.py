"""Reads a run's event file with TensorBoard's package, and compares it with the run's metrics.csv."""

import csv
import math
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

folder = Path(sys.argv[1])
events = EventAccumulator(str(folder))
events.Reload()
rows = list(csv.DictReader(open(folder / "metrics.csv")))
tags = events.Tags()["scalars"]
compared = 0
for name in rows[0]:
    if name == "epoch":
        continue
    sets = ("train_", "test_", "validation_")
    tag = name.replace("_", "/", 1) if name.startswith(sets) else f"run/{name}"
    assert tag in tags, f"{tag} is not among {tags}"
    found = {e.step: e.value for e in events.Scalars(tag)}
    for row in rows:
        value, epoch = float(row[name]), int(row["epoch"])
        assert math.isclose(found[epoch], value, rel_tol=1e-6, abs_tol=1e-30), (tag, epoch, found, value)
        compared += 1
assert compared >= 10 * len(rows), compared
print(f"TensorBoard reads {compared} values of {len(tags)} scalars as in metrics.csv")
