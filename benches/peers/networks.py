"""The convolutional engine beside PyTorch, in one run: a training step of ten 5×5 convnets 32-64-128 on
28×28 images, batch 256 (forward and backward), and a forward pass of ResNet-20 on 256 images.

    python benches/peers/networks.py [--repeats 3] [--threads 2]

Every PyTorch row is its own variant: eager, and channels-last. All of them take turns, so that they
meet the same machine: medians of `repeats` rounds, and medians of the ratios within a round, each
measurement after one that is not counted.
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


def seconds(work):
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def variant(layout):
    """A training step and a forward pass of ResNet-20."""
    torch.manual_seed(0)
    networks = [convnet().to(memory_format=layout) for _ in range(10)]
    x = torch.randn(256, 1, 28, 28).to(memory_format=layout)
    resnet = ResNet20().eval().to(memory_format=layout)
    images = torch.randn(256, 3, 32, 32).to(memory_format=layout)

    def step():
        h = torch.cat([network(x) for network in networks], 1)
        h.backward(torch.cos(h))

    def forward():
        with torch.no_grad():
            resnet(images)

    return step, forward


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    environment = dict(os.environ, RAYON_NUM_THREADS=str(args.threads))
    command = ["cargo", "run", "--release", "--quiet", "-p", "neuralef-experiments"]
    command += ["--example", "networks"]
    subprocess.run([*command, "--", "1"], env=environment, check=True, capture_output=True)

    def ours():
        out = subprocess.run(
            [*command, "--", "1"], env=environment, check=True, capture_output=True
        )
        found = json.loads(out.stdout)
        return found["convnet_step"], 256 / found["resnet20_images_per_second"]

    variants = {
        "PyTorch eager": variant(torch.contiguous_format),
        "PyTorch channels-last": variant(torch.channels_last),
    }
    rounds = []
    for _ in range(args.repeats):
        times = {"neuralef": ours()}
        for name, works in variants.items():
            times[name] = tuple(seconds(work) for work in works)
        rounds.append(times)
    print("| | convnet step, s | ratio | ResNet-20, images/s | ratio |")
    print("|---|--:|--:|--:|--:|")
    for name in rounds[0]:
        step, forward = (statistics.median(r[name][i] for r in rounds) for i in range(2))
        ratios = [
            statistics.median(r[name][i] / r["neuralef"][i] for r in rounds) for i in range(2)
        ]
        print(
            f"| {name} | {step:.2f} | {ratios[0]:.2f} | {256 / forward:.0f} | {ratios[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
