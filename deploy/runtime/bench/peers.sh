#!/usr/bin/env bash
# Times networks S and L against the other engines at every cap this processor has: results/NETWORK-CAP/.
# PYTHON names the interpreter that has unetq and the engines; BENCH_FLAGS goes to `unetq bench`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
networks=${BENCH_NETWORKS:-s l}
caps=${BENCH_CAPS:-none avx512vnni avx2}
mkdir -p "$here/results"
for network in $networks; do
    for cap in $caps; do
        target=$here/results/$network-$cap
        rm -rf "$target.new"
        # shellcheck disable=SC2086  # flags are several words
        status=0
        "$python" -m unetq.cli bench --network "$network" --cap "$cap" --bits w4a6,w2a2,w1a1,w8a8 ${BENCH_FLAGS:-} \
            -o "$target.new" || status=$?
        if ((status == 2)) && [[ $cap != none ]]; then
            echo "skipped: $network at $cap (see above)" >&2
            continue
        fi
        ((status == 0)) || exit "$status"
        rm -rf "$target"
        mv "$target.new" "$target"
    done
done
