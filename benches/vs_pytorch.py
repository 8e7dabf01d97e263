"""Times PyTorch and ssprop alternately, in one run, with the same number of threads.

For each case, each round makes one timed call with each form of PyTorch (contiguous and channels
last; sparse, also dX and dW from one call or from two) and one with ssprop, each after 30 ms of calls
that are not timed (steps of a whole network: the first round warms up). The first round is discarded;
the rest give medians; PyTorch's is that of its fastest form. The ratio of the fastest calls beside it
says whether other programs disturbed the medians.

The sparse cases drop 80% of the output channels in every convolution's (or transformer's linear layer's) backward pass, on either
side: PyTorch's through an autograd function that ranks the channels by mean |dY|, copies the kept
ones of dY and of the weight, and convolves with those.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

from pytorch_networks import folded, resnet, sparse_conv2d_function, unet, vit

BATCH = 32
# Name (of the Rust side: ResNet-18 and -50, the vision transformer, the U-Net) and batch.
STEPS = (("step", 32), ("step", 128), ("step50", 32), ("vit", 128), ("unet", 64))
# Images of which the U-Net predicts the noise at once.
SAMPLES = 16
# Images of which ResNet-18 gives the logits, with its norms as they are ("eval") and folded ("infer").
INFERENCE = (1, 32)
MODES = ("dense", "sparse")
PASSES = ("forward", "backward", "optimizer", "total")

# Name (of the Rust side), kernel, input and output channels, size, stride.
CONVS = [
    ("3x3 64-64 32x32", 3, 64, 64, 32, 1),
    ("3x3 128-128 16x16", 3, 128, 128, 16, 1),
    ("3x3 256-256 8x8", 3, 256, 256, 8, 1),
    ("3x3 512-512 4x4", 3, 512, 512, 4, 1),
    ("3x3 64-128 32x32 s2", 3, 64, 128, 32, 2),
    ("3x3 128-256 16x16 s2", 3, 128, 256, 16, 2),
    ("3x3 256-512 8x8 s2", 3, 256, 512, 8, 2),
    ("1x1 64-128 32x32 s2", 1, 64, 128, 32, 2),
    ("1x1 128-256 16x16 s2", 1, 128, 256, 16, 2),
    ("1x1 256-512 8x8 s2", 1, 256, 512, 8, 2),
    ("1x1 64-256 32x32", 1, 64, 256, 32, 1),
    ("1x1 512-128 16x16", 1, 512, 128, 16, 1),
    ("1x1 256-1024 8x8", 1, 256, 1024, 8, 1),
    ("1x1 2048-512 4x4", 1, 2048, 512, 4, 1),
]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of either side")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds, the first discarded")
    parser.add_argument(
        "--cases",
        default="",
        metavar="TEXT",
        help="only cases whose name contains TEXT, such as 'conv 3x3', 'step 32', 'memory'",
    )
    parser.add_argument("--json", metavar="FILE", help="also write every number there")
    parser.add_argument(
        "--bars",
        metavar="FILE",
        default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "bars.json"),
        help='JSON: the largest ratio asked for, by row, as {"step 32 dense total": 1.0}',
    )
    parser.add_argument("--memory-child", choices=MODES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rounds < 2 or args.threads < 1:
        parser.error("at least 2 rounds and 1 thread")
    return args


# ---- PyTorch's side ------------------------------------------------------------------------------


def timed(f, *args):
    start = time.perf_counter()
    value = f(*args)
    return (time.perf_counter() - start) * 1e3, value


class TorchConv:
    """A convolution, timed on its own."""

    def __init__(self, case, mode, layout, joint):
        import torch

        _, k, c_in, c_out, size, stride = case
        self.geometry = (stride, k // 2)
        self.x = torch.randn(BATCH, c_in, size, size).to(memory_format=layout).requires_grad_()
        weight = torch.randn(c_out, c_in, k, k) * (2 / (c_in * k * k)) ** 0.5
        self.weight = weight.to(memory_format=layout).requires_grad_()
        if mode == "sparse":
            self.apply = sparse_conv2d_function(joint).apply
        else:
            self.apply = lambda x, w, b, s, p: torch.nn.functional.conv2d(x, w, b, s, p)
        self.dy = torch.randn_like(self.forward().detach())

    warms_up = True

    def forward(self):
        return self.apply(self.x, self.weight, None, *self.geometry)

    def run(self):
        forward, y = timed(self.forward)
        self.x.grad = self.weight.grad = None
        backward, _ = timed(y.backward, self.dy)
        return {"forward": forward, "backward": backward}


class TorchStep:
    """A training step of a network, with the fastest of Adam's forms unless one is named."""

    FORMS = ({}, {"foreach": True}, {"fused": True})
    warms_up = False

    def __init__(self, name, batch, mode, layout, joint, form=None):
        import torch

        if name == "unet":
            self.model, self.optimizer = unet(mode, joint), torch.optim.AdamW
            self.inputs = (torch.randn(batch, 1, 32, 32), torch.randint(200, (batch,)))
            self.target, self.loss = torch.randn(batch, 1, 32, 32), torch.nn.MSELoss()
        else:
            network = vit(mode, joint) if name == "vit" else resnet(name, mode, joint)
            self.model, self.optimizer = network, torch.optim.Adam
            self.inputs = (torch.randn(batch, 3, 32, 32),)
            self.target, self.loss = torch.randint(10, (batch,)), torch.nn.CrossEntropyLoss()
        self.model = self.model.to(memory_format=layout)
        self.inputs = (self.inputs[0].to(memory_format=layout), *self.inputs[1:])
        if form is None:
            form = min(self.FORMS, key=self.optimizer_time)
        self.form = form
        self.adam = self.make_adam(form)

    def make_adam(self, form):
        return self.optimizer(self.model.parameters(), lr=1e-3, **form)

    def optimizer_time(self, form):
        import torch

        adam = self.make_adam(form)
        for p in self.model.parameters():
            p.grad = torch.zeros_like(p)
        adam.step()
        return min(timed(adam.step)[0] for _ in range(3))

    def update(self):
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def run(self):
        forward, loss = timed(lambda: self.loss(self.model(*self.inputs), self.target))
        backward, _ = timed(loss.backward)
        optimizer, _ = timed(self.update)
        total = forward + backward + optimizer
        return {"forward": forward, "backward": backward, "optimizer": optimizer, "total": total}


class TorchSample:
    """The U-Net's prediction for a batch of images, as a sampler asks for it."""

    warms_up = True

    def __init__(self, layout):
        import torch

        self.model = unet("dense", False).to(memory_format=layout).eval()
        self.x = torch.randn(SAMPLES, 1, 32, 32).to(memory_format=layout)
        self.timesteps = torch.randint(200, (SAMPLES,))

    def run(self):
        import torch

        with torch.inference_mode():
            return {"forward": timed(self.model, self.x, self.timesteps)[0]}


class TorchInference:
    """ResNet-18's logits in evaluation mode; its norms may be folded, and the network compiled."""

    warms_up = True

    def __init__(self, batch, layout, fold, compiled):
        import torch

        self.x = torch.randn(batch, 3, 32, 32).to(memory_format=layout)
        self.model = resnet("step", "dense", False).to(memory_format=layout).eval()
        if fold:
            self.model = folded(self.model)
        if compiled:
            # Fuses ReLU and sums with convolutions too, and packs weights beforehand.
            self.model = torch.jit.optimize_for_inference(torch.jit.trace(self.model, self.x))

    def run(self):
        import torch

        with torch.inference_mode():
            return {"forward": timed(self.model, self.x)[0]}


# ---- ssprop's side -------------------------------------------------------------------------------


class Ours:
    """The Rust side, as a child process that times a case each time it is asked."""

    def __init__(self, threads):
        self.env = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
        self.binary = self.build()
        self.process = subprocess.Popen(
            [self.binary, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.env,
        )
        self.about = self.process.stdout.readline().strip()

    @staticmethod
    def build():
        # The dev profile is what `cargo run` uses, and is optimised.
        command = ["cargo", "bench", "-p", "ssprop-benches", "--profile", "dev", "--bench", "vs_pytorch_ours", "--no-run"]
        command += ["--message-format=json"]
        built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        for line in built.stdout.splitlines():
            message = json.loads(line)
            if message.get("executable") and message["target"]["name"] == "vs_pytorch_ours":
                return message["executable"]
        raise SystemExit("cargo built no vs_pytorch_ours")

    def run(self, case):
        """Milliseconds by pass, or None for a case that the Rust side does not have."""
        self.process.stdin.write(case + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the Rust side ended at '{case}'")
        if answer.strip() == "unknown":
            return None
        return dict(zip(PASSES, map(float, answer.split())))

    def memory(self, mode):
        command = [self.binary, "--memory", mode]
        answer = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=self.env
        ).stdout
        return memory_answer(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---- Measuring -----------------------------------------------------------------------------------


def settle():
    """Lets the other side's worker threads fall asleep."""
    time.sleep(0.05)


def warm_up(run):
    """Calls that are not timed: until threads that slept while the other side ran are awake."""
    start = time.perf_counter()
    run()
    while time.perf_counter() - start < 0.03:
        run()


def alternate(forms, ours, case, rounds):
    """Medians by pass (and minima, as `fastest`): of each PyTorch form, and of ssprop (or None)."""
    theirs = {name: [] for name in forms}
    our_times = []
    for _ in range(rounds):
        for name, form in forms.items():
            settle()
            if form.warms_up:
                warm_up(form.run)
            theirs[name].append(form.run())
        settle()
        our_times.append(ours.run(case))

    def summary(times):
        medians = {p: statistics.median(t[p] for t in times[1:]) for p in times[0]}
        fastest = {p: min(t[p] for t in times[1:]) for p in times[0]}
        return medians | {"fastest": fastest}

    found = None if our_times[0] is None else summary(our_times)
    return {name: summary(times) for name, times in theirs.items()}, found


def variants(make, mode):
    """What PyTorch is timed with, by name: `make(layout, joint)` of each form; the fastest counts."""
    import torch

    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    if mode == "dense":
        return {name: make(layout, False) for name, layout in layouts.items()}
    return {
        f"{name}, {'joint' if joint else 'separate'}": make(layout, joint)
        for name, layout in layouts.items()
        for joint in (False, True)
    }


def row(name, theirs, ours, passed):
    """A row from PyTorch's medians by form, ssprop's, and the pass that the row is of."""
    form = min(theirs, key=lambda form: theirs[form][passed])
    found = {"case": name, "pytorch": theirs[form][passed], "form": form, "unit": "ms"}
    found["ours"] = None if ours is None else ours[passed]
    if ours is not None:
        fastest = min(times["fastest"][passed] for times in theirs.values())
        found["ratio_of_fastest"] = ours["fastest"][passed] / fastest
    return found


def conv_rows(case, ours, rounds, wanted):
    name = f"conv {case[0]}"
    rows, sparse_share = [], {}
    for mode in MODES:
        passes = ("forward", "backward") if mode == "dense" else ("backward",)
        titles = {p: f"{name} {p}" + (f" {mode}" if p == "backward" else "") for p in passes}
        if not any(wanted(title) for title in titles.values()):
            continue
        forms = variants(lambda *form: TorchConv(case, mode, *form), mode)
        theirs, found = alternate(forms, ours, f"{name} {mode}", rounds)
        rows += [row(titles[p], theirs, found, p) for p in passes if wanted(titles[p])]
        if found:
            fastest = min(times["backward"] for times in theirs.values())
            sparse_share[mode] = (found["backward"], fastest)
    share = None
    if len(sparse_share) == len(MODES):
        (dense, their_dense), (sparse, their_sparse) = sparse_share["dense"], sparse_share["sparse"]
        share = {"case": name, "ours": sparse / dense, "pytorch": their_sparse / their_dense}
    return rows, share


def step_rows(network, batch, mode, ours, rounds, wanted):
    name = f"{network} {batch} {mode}"
    titles = {p: f"{name} {p}" for p in PASSES}
    if not any(wanted(title) for title in titles.values()):
        return []
    forms = variants(lambda *form: TorchStep(network, batch, mode, *form), mode)
    theirs, found = alternate(forms, ours, name, rounds)
    # The form of the fastest step, so that the passes add up.
    best = min(theirs, key=lambda layout: theirs[layout]["total"])
    rows = [row(title, {best: theirs[best]}, found, p) for p, title in titles.items()]
    for r in rows:
        r["adam"] = next(iter(forms[best].form), "default")
    return [r for r in rows if wanted(r["case"])]


def sample_rows(ours, rounds, wanted):
    name = f"sample {SAMPLES}"
    if not wanted(name):
        return []
    forms = variants(lambda layout, _: TorchSample(layout), "dense")
    theirs, found = alternate(forms, ours, f"{name} dense", rounds)
    return [row(name, theirs, found, "forward")]


def inference_rows(kind, batch, ours, rounds, wanted):
    name = f"{kind} {batch}"
    if not wanted(name):
        return []
    fold = kind == "infer"
    forms = variants(lambda layout, _: TorchInference(batch, layout, fold, False), "dense")
    if fold:
        compiled = variants(lambda layout, _: TorchInference(batch, layout, fold, True), "dense")
        forms |= {f"{name}, compiled": form for name, form in compiled.items()}
    theirs, found = alternate(forms, ours, f"{name} dense", rounds)
    rows = [row(name, theirs, found, "forward")]
    eager = {form: times for form, times in theirs.items() if "compiled" not in form}
    if fold:
        rows.append(row(f"{name}, PyTorch eager", eager, found, "forward"))
    return rows


def status_kb(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def memory_answer(answer):
    """Megabytes above the start, from a child's `start peak` in kilobytes; None if unknown."""
    if answer.strip() == "unknown":
        return None
    start, peak = map(int, answer.split())
    return (peak - start) / 1024


def memory_child(mode, threads):
    import torch

    torch.set_num_threads(threads)
    start = status_kb("VmRSS:")
    # The contiguous layout and the fused Adam: neither needs a second copy of anything.
    step = TorchStep("step", 128, mode, torch.contiguous_format, False, {"fused": True})
    for _ in range(3):
        step.run()
    print(start, status_kb("VmHWM:"))


def memory_rows(ours, threads, wanted):
    rows = []
    for mode in MODES:
        name = f"memory step 128 {mode}"
        if not wanted(name):
            continue
        command = [sys.executable, __file__, "--memory-child", mode, "--threads", str(threads)]
        theirs = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        rows.append(
            {
                "case": name,
                "pytorch": memory_answer(theirs),
                "form": "contiguous",
                "ours": ours.memory(mode),
                "unit": "MiB",
            }
        )
    return rows


# ---- Printing ------------------------------------------------------------------------------------


def cpu_model():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":")[1].strip() for line in info if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def print_heading():
    print("| case | PyTorch | ours | ours / PyTorch | of the fastest calls | bar | PyTorch's form |")
    print("|---|---:|---:|---:|---:|---:|---|", flush=True)


def print_rows(rows, bars):
    """Prints the rows, and adds to each its ratio and its bar."""
    for r in rows:
        ours = "-" if r["ours"] is None else f"{r['ours']:.2f} {r['unit']}"
        r["ratio"] = None if r["ours"] is None else r["ours"] / r["pytorch"]
        ratio = "-" if r["ratio"] is None else f"{r['ratio']:.2f}"
        r["bar"] = bars.get(r["case"])
        bar = "-" if r["bar"] is None else f"{r['bar']:.2f}"
        form = r["form"] + (f", Adam {r['adam']}" if r.get("adam") else "")
        theirs = f"{r['pytorch']:.2f} {r['unit']}"
        fastest = f"{r['ratio_of_fastest']:.2f}" if r.get("ratio_of_fastest") else "-"
        cells = (r["case"], theirs, ours, ratio, fastest, bar, form)
        print("| " + " | ".join(cells) + " |", flush=True)


def sparse_over_dense(rows):
    """Rows that hold our sparse step against PyTorch's dense one."""
    found = {row["case"]: row for row in rows}
    for network, batch in STEPS:
        dense, sparse = (found.get(f"{network} {batch} {mode} total") for mode in MODES)
        if dense and sparse and sparse["ours"] is not None:
            yield {
                **dense,
                "case": f"{network} {batch} total, ours sparse / PyTorch dense",
                "ours": sparse["ours"],
                "ratio_of_fastest": None,
            }


def print_shares(shares):
    print("\nBackward at 80% dropped over backward dense:\n")
    print("| case | PyTorch | ours |")
    print("|---|---:|---:|")
    for share in shares:
        print(f"| {share['case']} | {share['pytorch']:.2f} | {share['ours']:.2f} |")


def main():
    args = arguments()
    # Before torch is imported: its thread pools read them.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(args.threads)
    if args.memory_child:
        memory_child(args.memory_child, args.threads)
        return

    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with open(args.bars) as file:
        bars = json.load(file)

    def wanted(name):
        return args.cases in name

    load = os.getloadavg()[0]
    ours = Ours(args.threads)
    about = {
        "torch": torch.__version__,
        "torch_isa": torch.backends.cpu.get_cpu_capability(),
        "ours": ours.about,
        "cpu": cpu_model(),
        "threads": args.threads,
        "rounds": args.rounds,
        "load": load,
    }
    if load > 0.5:
        print(
            f"warning: the load average is {load:.1f}. Beside other programs PyTorch's"
            " threads wait for each other, and the ratios flatter ssprop.",
            file=sys.stderr,
        )
    print(
        f"torch {about['torch']} ({about['torch_isa']}, {torch.get_num_threads()} threads)"
        f" and {ours.about}, on {about['cpu']}; {args.rounds} rounds\n"
    )
    print_heading()
    rows, shares = [], []

    def add(more):
        print_rows(more, bars)
        rows.extend(more)

    for case in CONVS:
        case_rows, share = conv_rows(case, ours, args.rounds, wanted)
        add(case_rows)
        shares += [share] if share else []
    for network, batch in STEPS:
        for mode in MODES:
            add(step_rows(network, batch, mode, ours, args.rounds, wanted))
    add(sample_rows(ours, args.rounds, wanted))
    for batch in INFERENCE:
        for kind in ("eval", "infer"):
            add(inference_rows(kind, batch, ours, args.rounds, wanted))
    add(list(sparse_over_dense(rows)))
    add(memory_rows(ours, args.threads, wanted))
    ours.close()

    if not rows:
        raise SystemExit(f"no case has '{args.cases}' in its name")
    if shares:
        print_shares(shares)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"about": about, "rows": rows, "sparse_over_dense": shares}, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
