"""Makes folders of JPEGs, and times Pillow and torchvision at what our loader does with them.

    python benches/pictures.py make DIR --count 2000 --classes 10 --size 178x218
    python benches/pictures.py make DIR --count 100000 --classes 1000        # mixed, as ImageNet's
    python benches/pictures.py time DIR --size 64 --ours target/debug/examples/pictures

Needs numpy and Pillow, and torchvision to time it. Every time is of one thread, and CPU time, which other
programs disturb less: the square in the middle, resized to SIZE x SIZE with antialiasing, as f32
planes. Each is repeated, in turns; the median counts.
"""

import argparse
import os
import random
import re
import resource
import statistics
import subprocess
import time


def canvas(np, side=2048):
    """A picture like photographs: amplitudes fall with the frequency."""
    rng = np.random.default_rng(0)
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    f[0, 0] = 1
    planes = []
    for _ in range(3):
        noise = np.fft.rfft2(rng.standard_normal((side, side)))
        plane = np.fft.irfft2(noise / f**1.5, (side, side))
        planes.append(plane / plane.std())
    grey = planes[0]
    rgb = np.stack([grey + 0.3 * p for p in planes], 2) * 55 + 120
    return rgb.clip(0, 255).astype(np.uint8)


def make(args):
    import numpy as np
    from PIL import Image

    whole = Image.fromarray(canvas(np))
    rng = random.Random(args.seed)
    for c in range(args.classes):
        os.makedirs(f"{args.dir}/n{c:04}", exist_ok=True)
    for i in range(args.count):
        if args.size:
            width, height = map(int, args.size.split("x"))
        elif rng.random() < 0.7:
            width, height = rng.choice([(500, 375), (500, 333), (375, 500)])
        else:
            width, height = rng.randint(120, 1200), rng.randint(120, 1000)
        x, y = rng.randint(0, whole.width - width), rng.randint(0, whole.height - height)
        part = whole.crop((x, y, x + width, y + height))
        part.save(f"{args.dir}/n{i % args.classes:04}/{i:07}.JPEG", quality=rng.choice([75, 85, 92]))


def pillow(paths, size):
    import numpy as np
    from PIL import Image

    for path in paths:
        with Image.open(path) as picture:
            picture = picture.convert("RGB")
        side = min(picture.size)
        x, y = (picture.width - side) // 2, (picture.height - side) // 2
        box = (x, y, x + side, y + side)
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
        np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 255


def torchvision(paths, size):
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms.v2 import functional as F

    torch.set_num_threads(1)
    for path in paths:
        picture = decode_jpeg(read_file(path), mode=ImageReadMode.RGB)
        picture = F.center_crop(picture, [min(picture.shape[1:])])
        picture = F.resize(picture, [size, size], antialias=True)
        picture.float() / 255


def ours(args):
    def cpu():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    start = cpu()
    command = [args.ours, args.dir, str(args.size), "64", "0"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"(\d+) images of", out)[1]) / (cpu() - start)


def timed(args):
    paths = sorted(
        os.path.join(folder, name) for folder, _, names in os.walk(args.dir) for name in names
    )[: args.most]
    sizes = [os.path.getsize(path) for path in paths]
    print(f"{len(paths)} pictures of {statistics.mean(sizes):.0f} bytes on average")
    rates = {"Pillow": [], "torchvision": [], "ours": []}
    for _ in range(args.repeat):
        for name, read in (("Pillow", pillow), ("torchvision", torchvision)):
            read(paths[:50], args.size)
            start = time.process_time()
            read(paths, args.size)
            rates[name].append(len(paths) / (time.process_time() - start))
        if args.ours:
            rates["ours"].append(ours(args))
    for name, found in rates.items():
        if found:
            low, high = min(found), max(found)
            print(f"{name:12} {statistics.median(found):6.0f} images a second and core ({low:.0f} to {high:.0f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("make")
    command.add_argument("dir")
    command.add_argument("--count", type=int, default=2000)
    command.add_argument("--classes", type=int, default=10)
    command.add_argument("--size", help="WIDTHxHEIGHT; left out, mixed")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=make)
    command = commands.add_parser("time")
    command.add_argument("dir")
    command.add_argument("--size", type=int, default=64)
    command.add_argument("--ours", help="the example `pictures`, built")
    command.add_argument("--repeat", type=int, default=5)
    command.add_argument("--most", type=int, default=2000)
    command.set_defaults(run=timed)
    args = parser.parse_args()
    args.run(args)
