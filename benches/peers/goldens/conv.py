"""Writes the PyTorch goldens that the tests of the convolutional engine compare with.

    pip install -r benches/peers/goldens/requirements.txt
    python benches/peers/goldens/conv.py > crates/neuralef/src/nn/goldens/conv.json

Layers and whole networks in double precision, each named as the test builds it. For each: the
outputs, the gradient of <cotangent, output> by every parameter, and the derivative along a
direction, with running statistics; and where there is batch normalisation, the outputs and the
gradient with batch statistics, and the running statistics after that one step.

Weights, inputs, cotangents and directions are whole numbers over 64, which single precision holds
exactly: both sides start from the same numbers. Draws whose ReLUs or pools are within MARGIN of
another branch are drawn again, so that rounding can't take it.
"""

import json

import torch
from torch import nn
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
MARGIN = 1e-4
ROUNDING = 1.5e-6
BATCH = 4


def whole(*shape, most=64):
    """Whole numbers; the values are these over 64."""
    return torch.randint(-most, most + 1, shape).double()


class OptionA(nn.Module):
    """Every second pixel, with channels of zeros before and after."""

    def __init__(self, before, after):
        super().__init__()
        self.pad = (0, 0, 0, 0, before, after)

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], self.pad)


class Residual(nn.Module):
    """conv, activation, conv with a shortcut around both, activation, head."""

    def __init__(self, inputs, channels, stride, cut, head):
        super().__init__()
        self.a = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.b = nn.Conv2d(channels, channels, 3, 1, 1)
        self.cut = cut
        self.head = nn.Linear(head, 3)

    def forward(self, x):
        z = self.b(relu(self.a(x)))
        return self.head(relu(z + self.cut(x)).flatten(1))


def named(*parts):
    """A chain of (name, module)."""
    return nn.Sequential(dict_of(parts))


def dict_of(parts):
    from collections import OrderedDict

    return OrderedDict(parts)


closest = float("inf")


def note(gap):
    global closest
    closest = min(closest, gap.abs().min().item())


def relu(z):
    note(z)
    return torch.relu(z)


class Relu(nn.Module):
    def forward(self, z):
        return relu(z)


class Max(nn.Module):
    """A max pool that notes how far the two largest of a window are apart."""

    def __init__(self, kernel, stride, padding=(0, 0)):
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x):
        n, c = x.shape[:2]
        rows, columns = self.padding
        border = F.pad(x, (columns, columns, rows, rows), value=-1e9)
        windows = F.unfold(border, self.kernel, stride=self.stride)
        windows = windows.view(n, c, self.kernel[0] * self.kernel[1], -1)
        two = windows.topk(2, dim=2).values
        # Zeros after a ReLU are equal whichever is taken, and no gradient passes them.
        live = two[:, :, 0] != 0
        note((two[:, :, 0] - two[:, :, 1])[live])
        return F.max_pool2d(x, self.kernel, self.stride, self.padding)


class Block(nn.Module):
    """A block of He et al. 2016, section 4.2."""

    def __init__(self, inputs, channels, stride, projection):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != channels:
            if projection:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
                )
            else:
                pad = (channels - inputs) // 2
                self.shortcut = OptionA(pad, pad)

    def forward(self, x):
        z = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(z)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, width, projection, heads):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Block(width, width, 1, projection))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2, projection))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width, 2, projection))
        self.linear = nn.Linear(4 * width, heads)

    def forward(self, x):
        x = relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def silu():
    return nn.SiLU()


class Erf(nn.Module):
    def forward(self, z):
        return torch.erf(z)


# name: (image as height, width, channels; network)
CASES = {
    "conv": (
        (6, 5, 3),
        lambda: named(
            ("a", nn.Conv2d(3, 4, (3, 2), (2, 1), (1, 0))),
            ("act", nn.Tanh()),
            ("b", nn.Conv2d(4, 5, 3, 1, 2, bias=False)),
            ("flatten", nn.Flatten()),
            ("head", nn.Linear(5 * 5 * 6, 3)),
        ),
    ),
    "groups": (
        (5, 5, 2),
        lambda: named(
            ("a", nn.Conv2d(2, 6, 1, 2)),
            ("act", Erf()),
            ("b", nn.Conv2d(6, 9, 3, 1, 1, groups=3)),
            ("act2", silu()),
            ("c", nn.Conv2d(9, 9, (2, 3), (1, 2), (0, 1), groups=9, bias=False)),
            ("flatten", nn.Flatten()),
            ("head", nn.Linear(9 * 2 * 2, 2)),
        ),
    ),
    "norm": (
        (5, 4, 2),
        lambda: named(
            ("a", nn.Conv2d(2, 5, 3, 1, 1, bias=False)),
            ("n", nn.BatchNorm2d(5)),
            ("act", nn.GELU()),
            ("b", nn.Conv2d(5, 3, 3, 2, 1, bias=False)),
            ("m", nn.BatchNorm2d(3, eps=1e-3)),
            ("flatten", nn.Flatten()),
            ("head", nn.Linear(3 * 3 * 2, 2)),
        ),
    ),
    "max": (
        (7, 6, 2),
        lambda: named(
            ("a", nn.Conv2d(2, 3, 3, 1, 1)),
            ("pool", Max((3, 2), (2, 1))),
            ("act", nn.LeakyReLU(0.01)),
            ("flatten", nn.Flatten()),
            ("head", nn.Linear(3 * 3 * 5, 3)),
        ),
    ),
    "average": (
        (7, 6, 2),
        lambda: named(
            ("a", nn.Conv2d(2, 3, 3, 1, 1)),
            ("act", nn.Tanh()),
            ("pool", nn.AvgPool2d((2, 3), (2, 1))),
            ("flatten", nn.Flatten()),
            ("head", nn.Linear(3 * 3 * 4, 3)),
        ),
    ),
    "global": (
        (4, 5, 3),
        lambda: named(
            ("a", nn.Conv2d(3, 7, 3)),
            ("act", nn.GELU()),
            ("pool", nn.AdaptiveAvgPool2d(1)),
            ("flatten", nn.Flatten()),
            ("b", nn.Linear(7, 5)),
            ("act2", Relu()),
            ("head", nn.Linear(5, 3)),
        ),
    ),
    "identity": ((4, 4, 3), lambda: Residual(3, 3, 1, nn.Identity(), 48)),
    "option_a": ((5, 4, 2), lambda: Residual(2, 5, 2, OptionA(1, 2), 30)),
    "projection": ((5, 4, 2), lambda: Residual(2, 4, 2, nn.Conv2d(2, 4, 1, 2), 24)),
    "convnet(image=[8, 8, 2], channels=[3, 4], kernel=3, norm=batch)": (
        (8, 8, 2),
        lambda: named(
            ("conv1", nn.Conv2d(2, 3, 3, 1, 1, bias=False)),
            ("bn1", nn.BatchNorm2d(3)),
            ("act1", Relu()),
            ("pool1", Max((2, 2), (2, 2))),
            ("conv2", nn.Conv2d(3, 4, 3, 1, 1, bias=False)),
            ("bn2", nn.BatchNorm2d(4)),
            ("act2", Relu()),
            ("pool2", Max((2, 2), (2, 2))),
            ("average", nn.AdaptiveAvgPool2d(1)),
            ("flatten", nn.Flatten()),
            ("head", nn.Linear(4, 2)),
        ),
    ),
    "convnet(image=[9, 8, 1], channels=[4, 3], kernel=[5, 3], stride=[2, 1], padding=[2, 0], "
    "pool=[1, 2], pool_kind=average, readout=flatten, hidden=[5], activation=silu)": (
        (9, 8, 1),
        lambda: named(
            ("conv1", nn.Conv2d(1, 4, 5, 2, 2)),
            ("act1", silu()),
            ("conv2", nn.Conv2d(4, 3, 3)),
            ("act2", silu()),
            ("pool2", nn.AvgPool2d(2)),
            ("flatten", nn.Flatten()),
            ("fc1", nn.Linear(3, 5)),
            ("act3", silu()),
            ("head", nn.Linear(5, 2)),
        ),
    ),
    "resnet(image=[8, 8, 3], depth=8, width=2)": ((8, 8, 3), lambda: ResNet(2, False, 2)),
    "resnet(image=[8, 8, 3], depth=8, width=2, shortcut=projection)": (
        (8, 8, 3),
        lambda: ResNet(2, True, 2),
    ),
    "borders": (
        (7, 6, 2),
        lambda: named(
            ("a", nn.Conv2d(2, 3, 3, 1, 1)),
            ("pool", Max((3, 2), (2, 1), (1, 1))),
            ("b", nn.Conv2d(3, 4, 1)),
            ("act", nn.Tanh()),
            ("counted", nn.AvgPool2d((2, 3), (1, 2), (1, 1))),
            ("own", nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
            ("flatten", nn.Flatten()),
            ("head", nn.Linear(4 * 3 * 2, 3)),
        ),
    ),
    # Wide and large enough for products by tiles, the gradient by the 5 x 5 weight too.
    "tiles": (
        (32, 32, 1),
        lambda: named(
            ("a", nn.Conv2d(1, 16, 1)),
            ("act", nn.Tanh()),
            ("b", nn.Conv2d(16, 32, 5, 1, 2)),
            ("act2", nn.Tanh()),
            ("c", nn.Conv2d(32, 16, 3, 1, 1, bias=False)),
            ("act3", nn.Tanh()),
            ("pool", nn.AdaptiveAvgPool2d(1)),
            ("flatten", nn.Flatten()),
            ("head", nn.Linear(16, 3)),
        ),
    ),
}


def digits(tensor):
    return [float(f"{v:.7g}") for v in tensor.detach().flatten().tolist()]


def integers(tensor):
    return [int(v) for v in tensor.flatten().tolist()]


def case(image, build):
    """One draw: what went in, and what came out."""
    height, width, channels = image
    net = build()
    given = {}
    for name, tensor in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        spread = min(64, max(8, round(64 * (3 / max(tensor[0].numel(), 1)) ** 0.5)))
        drawn = whole(*tensor.shape, most=spread if tensor.dim() > 1 else 32)
        parent = net.get_submodule(name.rsplit(".", 1)[0])
        if isinstance(parent, nn.BatchNorm2d) and name.endswith(("weight", "running_var")):
            drawn += 64
        given[name] = drawn
    values = {name: drawn / 64 for name, drawn in given.items()}
    net.load_state_dict(values, strict=False)
    x = whole(BATCH, channels, height, width)
    direction = {name: whole(*p.shape) for name, p in net.named_parameters()}
    net.eval()
    parameters = {name: p for name, p in net.named_parameters()}
    output, along = torch.func.jvp(
        lambda p: torch.func.functional_call(net, p, (x / 64,)),
        ({n: p.detach() for n, p in parameters.items()},),
        ({n: d / 64 for n, d in direction.items()},),
    )
    cotangent = whole(*output.shape)

    def error(single, double):
        return ((single.double() - double).norm() / double.norm()).item()

    errors = []

    def pull():
        start = {n: t.clone() for n, t in net.state_dict().items()}
        found = []
        for dtype in (torch.float64, torch.float32):
            net.load_state_dict(start)
            net.to(dtype).zero_grad()
            out = net((x / 64).to(dtype))
            (out * (cotangent / 64).to(dtype)).sum().backward()
            found.append([out.detach(), *(p.grad.clone() for p in net.parameters())])
            if dtype == torch.float64:
                after = {n: t.clone() for n, t in net.state_dict().items()}
        net.double().load_state_dict(after)
        errors.extend(error(single, double) for double, single in zip(*found))
        names = [name for name, _ in net.named_parameters()]
        return digits(found[0][0]), dict(zip(names, map(digits, found[0][1:])))

    found = {
        "parameters": {name: integers(t) for name, t in given.items()},
        "x": integers(x),
        "cotangent": integers(cotangent),
        "direction": {name: integers(t) for name, t in direction.items()},
        "jvp": digits(along),
    }
    found["output"], found["gradient"] = pull()
    if any(isinstance(m, nn.BatchNorm2d) for m in net.modules()):
        net.train()
        out, gradient = pull()
        settled = {n: digits(t) for n, t in net.state_dict().items() if "running" in n}
        found["batch"] = {"output": out, "gradient": gradient, "settled": settled}
    return {"single": float(f"{max(errors):.2g}"), **found}


golden = {"torch": torch.__version__, "cases": {}}
for number, (name, (image, build)) in enumerate(CASES.items()):
    for draw in range(1000):
        torch.manual_seed(1000 * number + draw)
        closest = float("inf")
        found = case(image, build)
        if closest > MARGIN and found["single"] < ROUNDING:
            break
    else:
        raise SystemExit(f"{name}: no draw keeps away from kinks and cancellation")
    golden["cases"][name] = {"image": image, **found}
print(json.dumps(golden, separators=(",", ":")))
