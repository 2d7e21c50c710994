#!/bin/sh
# Fuzzes every target, or those named, for so many seconds each: ./run.sh [seconds] [target ...]
# An input that breaks a target stays in artifacts/ and the run ends there.
set -eu
cd "$(dirname "$0")"
seconds=60
case "${1:-}" in
    '' | *[!0-9]*) ;;
    *) seconds=$1 && shift ;;
esac
# libFuzzer's instrumentation is not in the stable compiler's promise, but it is in the compiler.
export RUSTC_BOOTSTRAP=1
cargo run --quiet --example seeds
for target in ${*:-$(cargo fuzz list)}; do
    echo "== $target, $seconds s"
    cargo fuzz run "$target" -- -max_total_time="$seconds" -max_len=4096 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1
done
