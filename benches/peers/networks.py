"""The convolutional engine beside PyTorch, in one run: a training step of ten 5×5 convnets 32-64-128 on
28×28 images, batch 256 (forward and backward), and a forward pass of ResNet-20 on 256 images.

    python benches/peers/networks.py [--repeats 3] [--threads 2]

Every PyTorch row is its own variant: eager, and channels-last. Medians of `repeats` runs after one that
is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

import torch
from torch import nn
from torch.nn import functional as F


def convnet():
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 5, padding=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 1),
    )


class Block(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.changes = stride > 1

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.changes:
            quarter = y.shape[1] // 4
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        return F.relu(x + y)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks, inner = [], 16
        for group, outer in enumerate((16, 32, 64)):
            for block in range(3):
                blocks.append(Block(inner, outer, 2 if group and not block else 1))
                inner = outer
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(self.blocks(F.relu(self.bn1(self.conv1(x)))).mean((2, 3)))


def median(work, repeats):
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    environment = dict(os.environ, RAYON_NUM_THREADS=str(args.threads))
    command = ["cargo", "run", "--release", "--quiet", "-p", "neuralef", "--example", "networks"]
    out = subprocess.run(
        [*command, "--", str(args.repeats)], env=environment, check=True, capture_output=True
    )
    ours = json.loads(out.stdout)
    rows = [("neuralef", ours["convnet_step"], ours["resnet20_images_per_second"])]
    for name, layout in [
        ("PyTorch eager", torch.contiguous_format),
        ("PyTorch channels-last", torch.channels_last),
    ]:
        torch.manual_seed(0)
        networks = [convnet().to(memory_format=layout) for _ in range(10)]
        x = torch.randn(256, 1, 28, 28).to(memory_format=layout)

        def step():
            h = torch.cat([network(x) for network in networks], 1)
            h.backward(torch.cos(h))

        seconds = median(step, args.repeats)
        resnet = ResNet20().eval().to(memory_format=layout)
        images = torch.randn(256, 3, 32, 32).to(memory_format=layout)
        with torch.no_grad():
            rows.append((name, seconds, 256 / median(lambda: resnet(images), args.repeats)))
    print("| | convnet step, s | ratio | ResNet-20, images/s | ratio |")
    print("|---|--:|--:|--:|--:|")
    for name, seconds, rate in rows:
        print(
            f"| {name} | {seconds:.2f} | {seconds / rows[0][1]:.2f} "
            f"| {rate:.0f} | {rows[0][2] / rate:.2f} |"
        )


if __name__ == "__main__":
    main()
