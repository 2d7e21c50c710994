#!/bin/sh
# Fuzzes, and keeps what was learnt.
#   ./run.sh [seconds] [target ...]   each target, or those named, for so many seconds (60); ends where one breaks,
#                                     and leaves the input in artifacts/
#   ./run.sh smoke [target ...]       a few seconds each; without cargo-fuzz only the kept inputs, on the stable compiler
#   ./run.sh replay                   the kept inputs alone, on the stable compiler
#   ./run.sh keep [target ...]        the smallest inputs that reach what all found reach, into corpus/
set -eu
cd "$(dirname "$0")"
# libFuzzer's instrumentation is not in the stable compiler's promise, but it is in the compiler.
export RUSTC_BOOTSTRAP=1
hash=$(printf '[0-9a-f]%.0s' $(seq 40))
limits="-max_len=4096 -timeout=25 -rss_limit_mb=2048"

replay() {
    cargo test --no-default-features -- --nocapture
}

fuzz() {
    seconds=$1 && shift
    cargo run --quiet --no-default-features --example seeds
    for target in ${*:-$(cargo fuzz list)}; do
        echo "== $target, $seconds s"
        mkdir -p "grown/$target" "corpus/$target"
        cargo fuzz run "$target" "grown/$target" "corpus/$target" "seeds/$target" -- \
            $limits -max_total_time="$seconds" -print_final_stats=1
    done
}

# Small: short inputs, and one for each place in the code, not for each number of times it is passed.
# Inputs with names of their own stay; those with libFuzzer's names (a hash) are chosen anew.
keep() {
    cargo run --quiet --no-default-features --example seeds
    for target in ${*:-$(cargo fuzz list)}; do
        mkdir -p "grown/$target" "corpus/$target"
        rm -rf "kept/$target" && mkdir -p "kept/$target"
        cargo fuzz run "$target" "kept/$target" "seeds/$target" "corpus/$target" "grown/$target" -- \
            $limits -max_len=1024 -use_counters=0 -set_cover_merge=1
        find "corpus/$target" -type f -name "$hash" -delete
        for input in "kept/$target"/*; do
            known "$input" "seeds/$target"/* "corpus/$target"/* || mv "$input" "corpus/$target/"
        done
    done
    rm -rf kept
}

# Whether the first file's bytes are those of another.
known() {
    input=$1 && shift
    for other in "$@"; do
        if cmp -s "$input" "$other"; then return 0; fi
    done
    return 1
}

case "${1:-}" in
    replay) replay ;;
    smoke)
        shift
        if cargo fuzz --version >/dev/null 2>&1; then fuzz 5 "$@"; else replay; fi
        ;;
    keep) shift && keep "$@" ;;
    '' | *[!0-9]*) fuzz 60 "$@" ;;
    *) fuzz "$@" ;;
esac
