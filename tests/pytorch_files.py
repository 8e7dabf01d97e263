"""PyTorch's side of pytorch_files.rs: takes files of this crate and writes files for it.

    python3 tests/pytorch_files.py FOLDER

For each network NAME the folder has NAME.ours.safetensors and NAME.input.safetensors. Written are
NAME.ours_output.safetensors, and NAME.KIND.safetensors with theirs_output for other weights.
"""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional


def conv_norm(c_in, c_out, k, stride):
    conv = nn.Conv2d(c_in, c_out, k, stride=stride, padding=k // 2, bias=False)
    return conv, nn.BatchNorm2d(c_out)


class Block(nn.Module):
    """A block of a ResNet: convolutions of (kernel, stride, channels)."""

    def __init__(self, c_in, layers):
        super().__init__()
        self.count = len(layers)
        c, total_stride = c_in, 1
        for i, (k, stride, c_out) in enumerate(layers, 1):
            conv, norm = conv_norm(c, c_out, k, stride)
            setattr(self, f"conv{i}", conv)
            setattr(self, f"bn{i}", norm)
            c, total_stride = c_out, total_stride * stride
        if total_stride != 1 or c != c_in:
            self.shortcut = nn.Sequential(*conv_norm(c_in, c, 1, total_stride))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y if i == self.count else y.relu()
        shortcut = self.shortcut(x) if hasattr(self, "shortcut") else x
        return (y + shortcut).relu()


class ResNet(nn.Module):
    def __init__(self, blocks, bottleneck, classes):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, 64, 3, 1)
        c_in = 64
        for stage, count in enumerate(blocks):
            width, layers = 64 * 2**stage, []
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                if bottleneck:
                    shape = [(1, 1, width), (3, stride, width), (1, 1, 4 * width)]
                else:
                    shape = [(3, stride, width), (3, 1, width)]
                layers.append(Block(c_in, shape))
                c_in = shape[-1][2]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(c_in, classes)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.linear(x.mean(dim=(2, 3)))


GROUPS, HEADS, BASE, EMBEDDED = 16, 8, 16, 64


class Residual(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        conv = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, c_in), nn.SiLU(), conv)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(EMBEDDED, c_out))
        conv = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(GROUPS, c_out), nn.SiLU(), nn.Identity(), conv)
        same = c_in == c_out
        self.skip_connection = nn.Identity() if same else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x, embedding):
        shift = self.emb_layers(embedding)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(self.in_layers(x) + shift)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, c)
        self.qkv, self.proj_out = nn.Conv1d(c, 3 * c, 1), nn.Conv1d(c, c, 1)

    def forward(self, x, _):
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x).reshape(b, c, h * w))
        q, k, v = qkv.reshape(b * HEADS, 3 * c // HEADS, h * w).chunk(3, dim=1)
        scale = (c // HEADS) ** -0.25
        weights = torch.einsum("bct,bcs->bts", q * scale, k * scale).softmax(dim=2)
        y = torch.einsum("bts,bcs->bct", weights, v).reshape(b, c, h * w)
        return x + self.proj_out(y).reshape(b, c, h, w)


class Down(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.op = nn.Conv2d(c, c, 3, stride=2, padding=1)

    def forward(self, x, _):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x, _):
        return self.conv(functional.interpolate(x, scale_factor=2.0))


class Stem(nn.Conv2d):
    def forward(self, x, _):
        return super().forward(x)


class Stage(nn.ModuleList):
    def forward(self, x, embedding):
        for layer in self:
            x = layer(x, embedding)
        return x


class UNet(nn.Module):
    """With the names of OpenAI's diffusion U-Nets."""

    def __init__(self):
        super().__init__()
        linear = nn.Linear(EMBEDDED, EMBEDDED)
        self.time_embed = nn.Sequential(nn.Linear(BASE, EMBEDDED), nn.SiLU(), linear)
        multipliers, c, skips = (1, 2, 4), BASE, [BASE]
        self.input_blocks = nn.ModuleList([Stage([Stem(1, BASE, 3, padding=1)])])
        self.output_blocks = nn.ModuleList()
        for level, multiplier in enumerate(multipliers):
            for _ in range(2):
                attention = [Attention(BASE * multiplier)] if level == 2 else []
                self.input_blocks.append(Stage([Residual(c, BASE * multiplier), *attention]))
                c = BASE * multiplier
                skips.append(c)
            if level < 2:
                self.input_blocks.append(Stage([Down(c)]))
                skips.append(c)
        self.middle_block = Stage([Residual(c, c), Attention(c), Residual(c, c)])
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for i in range(3):
                stage = [Residual(c + skips.pop(), BASE * multiplier)]
                c = BASE * multiplier
                if level == 2 and i < 2:
                    stage.append(Attention(c))
                if level > 0 and i == 2:
                    stage.append(Up(c))
                self.output_blocks.append(Stage(stage))
        conv = nn.Conv2d(c, 1, 3, padding=1)
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, c), nn.SiLU(), conv)

    def forward(self, x):
        # The timestep of every image is 7.
        half = BASE // 2
        angles = 7.0 * 10000 ** (-torch.arange(half) / half)
        embedding = torch.cat([angles.cos(), angles.sin()]).expand(len(x), -1)
        embedding, skips = self.time_embed(embedding), []
        for stage in self.input_blocks:
            x = stage(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, skips.pop()], dim=1), embedding)
        return self.out(x)


def norms():
    """Layers of dfdx."""
    return nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2)
    )


NETWORKS = {
    "resnet18": lambda: ResNet((2, 2, 2, 2), False, 10),
    "resnet50": lambda: ResNet((3, 4, 6, 3), True, 7),
    "unet": UNet,
    "norms": norms,
}


def check(folder, name):
    torch.manual_seed(5)
    net = NETWORKS[name]()
    x = load_file(folder / f"{name}.input.safetensors")["x"]
    with torch.no_grad():
        # Weights, and running statistics, of its own.
        net.train()(x)
        for parameter in net.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        theirs, theirs_output = dict(net.state_dict()), net.eval()(x)
        theirs = {key: value.clone().contiguous() for key, value in theirs.items()}
        net.load_state_dict(load_file(folder / f"{name}.ours.safetensors"), strict=True)
        save_file({"y": net.eval()(x)}, folder / f"{name}.ours_output.safetensors")

        save_file(theirs, folder / f"{name}.theirs.safetensors", metadata={"format": "pt"})
        save_file({"y": theirs_output}, folder / f"{name}.theirs_output.safetensors")
        kinds = {
            "parallel": {f"module._orig_mod.{key}": value for key, value in theirs.items()},
            "f64": {
                key: value.double() if value.is_floating_point() else value
                for key, value in theirs.items()
            },
        }
        for kind, tensors in kinds.items():
            save_file(tensors, folder / f"{name}.{kind}.safetensors", metadata={"format": "pt"})
        # Half the precision, the outputs of what is left of the weights.
        half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in theirs.items()}
        save_file(half, folder / f"{name}.bf16.safetensors", metadata={"format": "pt"})
        net.load_state_dict({key: value.float() for key, value in half.items()}, strict=True)
        save_file({"y": net(x)}, folder / f"{name}.bf16_output.safetensors")


def documented(folder):
    """Runs the lines of docs/training.md that take a network to PyTorch and back."""
    text = (Path(__file__).parent.parent / "docs/training.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    (lines,) = (block for block in blocks if "load_state_dict" in block)
    (folder / "net.safetensors").write_bytes((folder / "resnet18.ours.safetensors").read_bytes())
    os.chdir(folder)
    exec(lines, {"net": NETWORKS["resnet18"]()})


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for network in NETWORKS:
        check(folder, network)
    documented(folder)
