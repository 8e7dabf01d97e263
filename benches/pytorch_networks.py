"""PyTorch's side of `vs_pytorch.py`: the networks, and the convolution with a sparse backward pass."""

DROP_RATE = 0.8


def kept_count(channels):
    return max(int((1 - DROP_RATE) * channels + 1e-9), 1)


def sparse_conv2d_function(joint):
    """The autograd function: `apply(x, weight, bias, stride, padding)`, the bias or None.

    Either gradient comes from a call of its own, or (`joint`) both from one; which of them is faster
    depends on the layer and the layout.
    """
    import torch

    class SparseConv2dFunction(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, bias, stride, padding):
            ctx.save_for_backward(x, weight)
            ctx.stride, ctx.padding, ctx.has_bias = stride, padding, bias is not None
            return torch.nn.functional.conv2d(x, weight, bias, stride=stride, padding=padding)

        @staticmethod
        def backward(ctx, dy):
            x, weight = ctx.saved_tensors
            importance = dy.abs().mean(dim=(0, 2, 3))
            kept = importance.topk(kept_count(dy.shape[1]), sorted=False).indices
            kept_dy, kept_weight = dy.index_select(1, kept), weight.index_select(0, kept)
            if joint:
                dx, kept_dw, _ = torch.ops.aten.convolution_backward(
                    kept_dy, x, kept_weight, None, [ctx.stride] * 2, [ctx.padding] * 2, [1, 1],
                    False, [0, 0], 1, [ctx.needs_input_grad[0], True, False],
                )  # fmt: skip
            else:
                geometry = {"stride": ctx.stride, "padding": ctx.padding}
                dx = None
                if ctx.needs_input_grad[0]:
                    dx = torch.nn.grad.conv2d_input(x.shape, kept_weight, kept_dy, **geometry)
                kept_dw = torch.nn.grad.conv2d_weight(x, kept_weight.shape, kept_dy, **geometry)
            dw = torch.zeros_like(weight).index_copy_(0, kept, kept_dw)
            db = None
            if ctx.has_bias:
                db = dy.new_zeros(dy.shape[1]).index_copy_(0, kept, kept_dy.sum(dim=(0, 2, 3)))
            return dx, dw, db, None, None

    return SparseConv2dFunction


def conv2d_type(mode, joint):
    """`torch.nn.Conv2d`, or for the mode "sparse" one with a sparse backward pass."""
    from torch import nn

    if mode == "dense":
        return nn.Conv2d
    function = sparse_conv2d_function(joint)

    class SparseConv2d(nn.Conv2d):
        def forward(self, x):
            return function.apply(x, self.weight, self.bias, self.stride[0], self.padding[0])

    return SparseConv2d


def resnet(name, mode, joint):
    """ResNet-18 or -50 for 32x32 images: a 3x3 stem with stride 1, no max pool."""
    import torch
    from torch import nn

    conv_type = conv2d_type(mode, joint)

    def conv_norm(c_in, c_out, k, stride):
        conv = conv_type(c_in, c_out, k, stride=stride, padding=k // 2, bias=False)
        nn.init.kaiming_normal_(conv.weight)
        return nn.Sequential(conv, nn.BatchNorm2d(c_out))

    class BasicBlock(nn.Module):
        def __init__(self, c_in, c_out, stride):
            super().__init__()
            self.first = conv_norm(c_in, c_out, 3, stride)
            self.second = conv_norm(c_out, c_out, 3, 1)
            same = stride == 1 and c_in == c_out
            self.shortcut = nn.Identity() if same else conv_norm(c_in, c_out, 1, stride)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.second(self.relu(self.first(x)))
            return self.relu(y + self.shortcut(x))

    class Bottleneck(nn.Module):
        def __init__(self, c_in, c_out, stride):
            super().__init__()
            width = c_out // 4
            self.first = conv_norm(c_in, width, 1, 1)
            self.second = conv_norm(width, width, 3, stride)
            self.third = conv_norm(width, c_out, 1, 1)
            same = stride == 1 and c_in == c_out
            self.shortcut = nn.Identity() if same else conv_norm(c_in, c_out, 1, stride)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.third(self.relu(self.second(self.relu(self.first(x)))))
            return self.relu(y + self.shortcut(x))

    kind, blocks, widths = {
        "step": (BasicBlock, (2, 2, 2, 2), (64, 128, 256, 512)),
        "step50": (Bottleneck, (3, 4, 6, 3), (256, 512, 1024, 2048)),
    }[name]
    layers = [conv_norm(3, 64, 3, 1), nn.ReLU(inplace=True)]
    c_in = 64
    for stage, c_out in enumerate(widths):
        for block in range(blocks[stage]):
            layers.append(kind(c_in, c_out, 2 if stage > 0 and block == 0 else 1))
            c_in = c_out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, 10)]
    return nn.Sequential(*layers)


def linear_type(mode):
    """`torch.nn.Linear`, or for the mode "sparse" one with a sparse backward pass, of tokens (B, N, features)."""
    import torch
    from torch import nn

    if mode == "dense":
        return nn.Linear

    class SparseLinearFunction(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, bias):
            ctx.save_for_backward(x, weight)
            return nn.functional.linear(x, weight, bias)

        @staticmethod
        def backward(ctx, dy):
            x, weight = ctx.saved_tensors
            importance = dy.abs().mean(dim=(0, 1))
            kept = importance.topk(kept_count(dy.shape[2]), sorted=False).indices
            kept_dy = dy.index_select(2, kept)
            dx = kept_dy @ weight.index_select(0, kept)
            rows = kept_dy.flatten(0, 1)
            dw = torch.zeros_like(weight).index_copy_(0, kept, rows.t() @ x.flatten(0, 1))
            db = dy.new_zeros(dy.shape[2]).index_copy_(0, kept, rows.sum(dim=0))
            return dx, dw, db

    class SparseLinear(nn.Linear):
        def forward(self, x):
            return SparseLinearFunction.apply(x, self.weight, self.bias)

    return SparseLinear


def vit(mode, joint):
    """A vision transformer for 3x32x32 images: patches of 4x4, 6 pre-norm blocks of 64 channels, 4 heads,
    MLPs of 256, the mean over the positions (Dosovitskiy et al., arXiv 2010.11929)."""
    import torch
    from torch import nn
    from torch.nn import functional

    dim, hidden, heads, depth = 64, 256, 4, 6
    linear = linear_type(mode)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.proj = linear(dim, 3 * dim), linear(dim, dim)

        def forward(self, x):
            b, n, c = x.shape
            q, k, v = self.qkv(x).reshape(b, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
            x = functional.scaled_dot_product_attention(q, k, v)
            return self.proj(x.transpose(1, 2).reshape(b, n, c))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), Attention()
            self.norm2 = nn.LayerNorm(dim, eps=1e-6)
            self.mlp = nn.Sequential(linear(dim, hidden), nn.GELU(), linear(hidden, dim))

        def forward(self, x):
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = conv2d_type(mode, joint)(3, dim, 4, stride=4)
            self.positions = nn.Parameter(0.02 * torch.randn(1, 64, dim))
            self.blocks = nn.Sequential(*[Block() for _ in range(depth)])
            self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, 10)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
            return self.head(self.norm(self.blocks(x).mean(dim=1)))

    return ViT()


def folded(network):
    """The network in evaluation mode with the norms of its pairs (convolution, norm) in the convolutions."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for pair in network.modules():
        if isinstance(pair, nn.Sequential) and [type(part) for part in pair] == [nn.Conv2d, nn.BatchNorm2d]:
            pair[0], pair[1] = fuse_conv_bn_eval(pair[0], pair[1]), nn.Identity()
    return network


def unet(mode, joint):
    """The U-Net for 1x32x32 images: base 16, multipliers 1 2 4, group norms of 16 groups, attention
    with 8 heads in the deepest level (Dhariwal and Nichol, arXiv 2105.05233)."""
    import torch
    from torch import nn
    from torch.nn import functional

    base, multipliers, groups, heads = 16, (1, 2, 4), 16, 8
    conv_type, embedded = conv2d_type(mode, joint), 4 * base

    def norm_conv(c_in, c_out):
        conv = conv_type(c_in, c_out, 3, padding=1)
        return nn.Sequential(nn.GroupNorm(groups, c_in), nn.SiLU(), conv)

    class Residual(nn.Module):
        def __init__(self, c_in, c_out):
            super().__init__()
            self.first, self.second = norm_conv(c_in, c_out), norm_conv(c_out, c_out)
            self.embedding = nn.Sequential(nn.SiLU(), nn.Linear(embedded, c_out))
            self.skip = nn.Identity() if c_in == c_out else conv_type(c_in, c_out, 1)

        def forward(self, x, embedding):
            shift = self.embedding(embedding)[:, :, None, None]
            return self.skip(x) + self.second(self.first(x) + shift)

    class Attention(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.norm = nn.GroupNorm(groups, c)
            self.qkv, self.projection = nn.Conv1d(c, 3 * c, 1), nn.Conv1d(c, c, 1)

        def forward(self, x, _):
            b, c, h, w = x.shape
            qkv = self.qkv(self.norm(x).reshape(b, c, h * w))
            q, k, v = qkv.reshape(b * heads, 3 * c // heads, h * w).chunk(3, dim=1)
            scale = (c // heads) ** -0.25
            weights = torch.einsum("bct,bcs->bts", q * scale, k * scale).softmax(dim=2)
            y = torch.einsum("bts,bcs->bct", weights, v)
            y = self.projection(y.reshape(b, c, h * w))
            return x + y.reshape(b, c, h, w)

    class Resample(nn.Module):
        def __init__(self, c, up):
            super().__init__()
            self.up = up
            self.conv = conv_type(c, c, 3, stride=1 if up else 2, padding=1)

        def forward(self, x, _):
            return self.conv(functional.interpolate(x, scale_factor=2.0) if self.up else x)

    class Stage(nn.ModuleList):
        def forward(self, x, embedding):
            for layer in self:
                x = layer(x, embedding)
            return x

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.time = nn.Sequential(
                nn.Linear(base, embedded), nn.SiLU(), nn.Linear(embedded, embedded)
            )
            self.stem = conv_type(1, base, 3, padding=1)
            self.down, self.up = nn.ModuleList(), nn.ModuleList()
            c, skips, deepest = base, [base], len(multipliers) - 1
            for level, multiplier in enumerate(multipliers):
                for _ in range(2):
                    attention = [Attention(base * multiplier)] if level == deepest else []
                    self.down.append(Stage([Residual(c, base * multiplier), *attention]))
                    c = base * multiplier
                    skips.append(c)
                if level < deepest:
                    self.down.append(Stage([Resample(c, up=False)]))
                    skips.append(c)
            self.middle = Stage([Residual(c, c), Attention(c), Residual(c, c)])
            for level, multiplier in reversed(list(enumerate(multipliers))):
                for i in range(3):
                    stage = [Residual(c + skips.pop(), base * multiplier)]
                    c = base * multiplier
                    if level == deepest and i < 2:
                        stage.append(Attention(c))
                    if level > 0 and i == 2:
                        stage.append(Resample(c, up=True))
                    self.up.append(Stage(stage))
            self.out = norm_conv(c, 1)

        def forward(self, x, timesteps):
            half = base // 2
            angles = timesteps[:, None] * 10000 ** (-torch.arange(half) / half)
            embedding = self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
            x = self.stem(x)
            skips = [x]
            for stage in self.down:
                x = stage(x, embedding)
                skips.append(x)
            x = self.middle(x, embedding)
            for stage in self.up:
                x = stage(torch.cat([x, skips.pop()], dim=1), embedding)
            return self.out(x)

    return UNet()
