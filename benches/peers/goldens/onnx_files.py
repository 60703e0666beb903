"""Writes small ONNX files by PyTorch's exporter, with an input and the outputs of each network.

    pip install -r benches/peers/goldens/requirements.txt
    python benches/peers/goldens/onnx_files.py crates/neuralef/src/nn/goldens

Three networks with weights and running statistics drawn at random, in single precision; the outputs
are of the same network in double precision.

resnet_folded.onnx  a residual network with option A and projections, norms folded into convolutions
resnet.onnx         the same network with its norms
layers.onnx         all other layers: groups, max and average pools, every activation, bias by MatMul
                    and Add, a batch of fixed size
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(4)
BATCH = 3


class Block(nn.Module):
    def __init__(self, inputs, channels, stride, projection):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.pad = (channels - inputs) // 2
        self.shortcut = nn.Sequential()
        if projection:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        z = F.relu(self.bn1(self.conv1(x)))
        z = self.bn2(self.conv2(z))
        if self.pad and not len(self.shortcut):
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(z + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Block(4, 4, 1, False))
        self.layer2 = nn.Sequential(Block(4, 8, 2, False))
        self.layer3 = nn.Sequential(Block(8, 12, 2, True))
        self.linear = nn.Linear(12, 5)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.avg_pool2d(x, x.size(3))
        return self.linear(x.view(x.size(0), -1))


class Gelu(nn.Module):
    """GELU in the parts that older exporters write."""

    def forward(self, x):
        return x * 0.5 * (1.0 + torch.erf(x / 2**0.5))


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 6, (3, 2), 1, (1, 0))
        self.b = nn.Conv2d(6, 6, 3, 1, 1, groups=3, bias=False)
        self.n = nn.BatchNorm2d(6)
        self.c = nn.Conv2d(6, 4, 2)
        self.d = nn.Linear(4 * 2 * 2, 6)
        self.weight = nn.Parameter(torch.randn(6, 3))
        self.bias = nn.Parameter(torch.randn(3))
        self.parts = Gelu()
        self.dropout = nn.Dropout(0.3)

    def forward(self, x):
        x = F.gelu(self.a(x))
        # One value with and without an activation, and a pool before one.
        y = F.max_pool2d(x, (2, 1), (2, 1))
        z = self.parts(y) + F.silu(self.n(self.b(y)))
        z = F.leaky_relu(F.avg_pool2d(z, 2, (1, 2)))
        z = torch.erf(self.c(z))
        z = self.dropout(torch.tanh(self.d(z.flatten(1))))
        return z @ self.weight + self.bias


def shake(net):
    """Nothing at its default, values of moderate size."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return net.eval()


def digits(tensor):
    return [float(f"{v:.9g}") for v in tensor.detach().flatten().tolist()]


def export(net, x, path, **settings):
    torch.onnx.export(net, x, path, dynamo=False, input_names=["x"], output_names=["y"], **settings)
    with torch.no_grad():
        y = net.double()(x.double())
    net.float()
    return {"file": path.name, "shape": list(x.shape), "x": digits(x), "y": digits(y)}


folder = Path(sys.argv[1])
dynamic = {"dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
resnet, x = shake(ResNet()), torch.randn(BATCH, 3, 8, 8)
kept = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
cases = [
    export(resnet, x, folder / "resnet_folded.onnx", **dynamic),
    export(resnet, x, folder / "resnet.onnx", **dynamic, **kept),
    export(shake(Layers()), torch.randn(BATCH, 2, 8, 8), folder / "layers.onnx"),
]
print(*[(case["file"], (folder / case["file"]).stat().st_size) for case in cases], file=sys.stderr)
golden = {"torch": torch.__version__, "cases": cases}
(folder / "onnx.json").write_text(json.dumps(golden, separators=(",", ":")))
