"""Times training steps of PyTorch and of ssprop alternately on one GPU, and prints a table and JSON.

PyTorch runs eagerly, with its own defaults (TF32 in convolutions, not in other products, for float32).
Each round times one step of each side; the first rounds warm up, the rest give medians. Called by
`run.sh`, which knows where the binaries are.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from pytorch_networks import resnet, unet  # noqa: E402

# Network and batch.
STEPS = (("resnet18", 128), ("resnet18", 512), ("resnet50", 128), ("unet", 128))
MODES = ("dense", "sparse")
NAMES = {"resnet18": "step", "resnet50": "step50"}


class Torch:
    """A training step on `device`."""

    def __init__(self, network, batch, mode, device):
        import torch
        from torch.nn import functional

        self.torch, self.device = torch, device
        torch.manual_seed(0)
        if network == "unet":
            # The network makes a tensor of its own for the timesteps' frequencies.
            torch.set_default_device(device)
            self.net = unet(mode, False)
            images = torch.randn(batch, 1, 32, 32)
            timesteps = (torch.arange(batch) * 7 % 200).float()
            noise = torch.randn_like(images)
            self.optimizer = torch.optim.AdamW(self.net.parameters())
            self.loss = lambda: functional.mse_loss(self.net(images, timesteps), noise)
        else:
            torch.set_default_device(device)
            self.net = resnet(NAMES[network], mode, False)
            images = torch.randn(batch, 3, 32, 32)
            labels = torch.arange(batch) % 10
            self.optimizer = torch.optim.Adam(self.net.parameters())
            self.loss = lambda: functional.cross_entropy(self.net(images), labels)

    def synchronize(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def run(self):
        """Milliseconds of a step."""
        self.synchronize()
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()
        self.synchronize()
        return (time.perf_counter() - start) * 1e3


class Ours:
    """The program that serves steps of ssprop."""

    def __init__(self, program):
        self.child = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = self.child.stdout.readline().strip()
        if not self.about:
            raise SystemExit(f"{program} ended before it began; its message is above")

    def run(self, case):
        """Milliseconds of a step."""
        self.child.stdin.write(case + "\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline().strip()
        try:
            return float(answer)
        except ValueError:
            raise SystemExit(f"{case}: {answer or 'the program ended'}") from None


def time_case(ours, network, batch, mode, args):
    """The milliseconds of every timed step: PyTorch's, ours in f32, ours with TF32."""
    theirs = Torch(network, batch, mode, args.device)
    found = []
    for case in (mode, f"{mode}-tf32"):
        case = f"{network} {batch} {case}"
        pairs = [(theirs.run(), ours.run(case)) for _ in range(args.warm_up + args.rounds)]
        found.append(pairs[args.warm_up :])
    pytorch = [pair[0] for pairs in found for pair in pairs]
    return [pytorch, *([pair[1] for pair in pairs] for pairs in found)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="the built benches/cuda/steps.rs")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=4)
    parser.add_argument("--cases", default="", help="only those with this in their name")
    parser.add_argument("--batch", type=int, help="this many images in every case")
    parser.add_argument("--device", default="cuda", help="PyTorch's (cpu: to try the script)")
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args()

    import torch

    card = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    ours = Ours(args.program)
    print(f"torch {torch.__version__} and {ours.about} on {card}; medians of {args.rounds} steps\n")
    print("| step | PyTorch | ours, f32 | ours, TF32 | of PyTorch | of PyTorch dense |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    rows, dense = [], {}
    for network, batch in STEPS:
        batch = args.batch or batch
        for mode in MODES:
            name = f"{network} {batch} {mode}"
            if args.cases not in name:
                continue
            times = time_case(ours, network, batch, mode, args)
            pytorch, f32, tf32 = map(statistics.median, times)
            dense.setdefault((network, batch), pytorch if mode == "dense" else None)
            base = dense[network, batch]
            of_dense = f"{tf32 / base:.2f}" if base else "-"
            print(
                f"| {name} | {pytorch:.2f} ms | {f32:.2f} ms | {tf32:.2f} ms"
                f" | {f32 / pytorch:.2f}, TF32 {tf32 / pytorch:.2f} | TF32 {of_dense} |",
                flush=True,
            )
            rows.append({"case": name, "pytorch": times[0], "f32": times[1], "tf32": times[2]})
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"torch": torch.__version__, "card": card, "rows": rows}, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
