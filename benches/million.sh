#!/usr/bin/env bash
# Training time, readout time and peak memory against N: 16 columns, k = 16, 2,000 steps.
#
#   cargo build --release -p neuralef-cli && bash benches/million.sh
#
# Needs Linux: the peak is VmHWM, read from /proc while the process runs.
set -euo pipefail

binary=$(realpath "${NEURALEF:-$(dirname "${BASH_SOURCE[0]}")/../target/release/neuralef}")
cd "$(mktemp -d)"
printf '%10s %12s %12s %12s %12s\n' N training,s readout,s total,s peak,MiB
for n in 10000 100000 1000000; do
    "$binary" synth gaussian -n "$n" -d 16 -o x.npy >/dev/null
    "$binary" fit x.npy -k 16 --steps 2000 --plot none --json >report.json &
    peak=0
    while now=$(awk '/VmHWM/ { print $2 }' "/proc/$!/status" 2>/dev/null) && [ -n "$now" ]; do
        peak=$now
        sleep 0.1
    done
    wait $!
    python3 -c "
import json
t = json.load(open('report.json'))['timings']
print('%10d %12.1f %12.1f %12.1f %12d' % ($n, t['training_seconds'], t['readout_seconds'], t['total_seconds'], $peak // 1024))"
done
rm -f x.npy report.json model.safetensors
