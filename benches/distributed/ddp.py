"""PyTorch's DistributedDataParallel over gloo: the time and the bytes of a training step.

Started by `hosts.sh RATE python ddp.py`, or by itself, as one rank without exchange. Each rank has one
thread and 32 images a step of its own. Rank 0 prints for each layout, dense and with PyTorch's own sparse
backward pass (see `vs_pytorch.py`; its gradients travel whole), the median of the steps after the warm-up,
and the bytes that it sent in one.
"""

import argparse
import os
import statistics
import sys

# It warns that the hosts' addresses have no names.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import torch
from torch.nn.parallel import DistributedDataParallel
from vs_pytorch import TorchStep, timed

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SENT = "/sys/class/net/eth0/statistics/tx_bytes"


def sent(size):
    if size == 1:
        return 0
    with open(SENT) as count:
        return int(count.read())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them")
    parser.add_argument("--batch", type=int, default=32, help="images of a rank")
    parser.add_argument("--networks", nargs="+", default=["step"], choices=["step", "step50", "unet"])
    parser.add_argument("--modes", nargs="+", default=["dense"], choices=["dense", "sparse"])
    args = parser.parse_args()
    if args.steps < 1:
        parser.error("at least 1 step")
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    size = int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    if size > 1:
        torch.distributed.init_process_group("gloo", rank=rank, world_size=size)
    for network in args.networks:
        for mode in args.modes:
            for layout, form in LAYOUTS.items():
                step = TorchStep(network, args.batch, mode, form, False)
                if size > 1:
                    # DDP's fastest settings: gradients live in the buckets.
                    step.model = DistributedDataParallel(step.model, gradient_as_bucket_view=True)
                for _ in range(args.warm_up):
                    step.run()
                before = sent(size)
                times = [timed(step.run)[0] for _ in range(args.steps)]
                found = (sent(size) - before) / args.steps
                if rank == 0:
                    spread = f"{min(times):.1f} to {max(times):.1f}"
                    median = statistics.median(times)
                    name = f"pytorch {network} {args.batch} {mode} {layout}"
                    print(f"{name}: {median:.1f} ms ({spread}), {found / 1e6:.2f} MB", flush=True)
    if size > 1:
        torch.distributed.destroy_process_group()


main()
