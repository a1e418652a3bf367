#!/bin/sh
# Verifies on this machine's GPU and writes one report per run: run [FOLDER]. docs/cuda.md of the project says more.
#
# FOLDER, or else $OUT, or else lossproof-cuda-report in the current folder, is where the reports go.
# $PYTHON is the python that has PyTorch 2.11.0 for CUDA 13 (python3 unless it is set).
# Ends with 0 when every run did, with 2 when there is no such PyTorch or libtorch sees no GPU, and with 1 otherwise.
set -u

complain() {
    printf 'error: %s\nhelp: %s\n' "$1" "$2" >&2
    exit 2
}

here=$(cd "$(dirname "$0")" && pwd) || exit 2
reports=${1:-${OUT:-lossproof-cuda-report}}
mkdir -p "$reports" && reports=$(cd "$reports" && pwd) || exit 2

# The folders of PyTorch's libraries and of those it depends on, if it is the release that the programs were linked with.
libraries=$("${PYTHON:-python3}" -c '
import glob, os, sys
import torch
if torch.__version__.split("+")[0] != "2.11.0" or not (torch.version.cuda or "").startswith("13."):
    sys.exit(f"this is PyTorch {torch.__version__} for CUDA {torch.version.cuda}")
packages = os.path.dirname(torch.__path__[0])
print(os.path.join(torch.__path__[0], "lib"), *sorted(glob.glob(os.path.join(packages, "nvidia", "*", "lib"))), sep=":")
') || complain "${PYTHON:-python3} has no PyTorch 2.11.0 for CUDA 13" "pip install torch==2.11.0, or set PYTHON"

with_libraries() {
    LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$@"
}

{
    date -u +%Y-%m-%dT%H:%M:%SZ
    uname -srm
    cat "$here/built-from"
    nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv
} >"$reports/machine.txt" 2>&1
cat "$reports/machine.txt"

# dfdx compiles some kernels when they are first used, and NVRTC looks for what they include in the current folder.
cd "$here/include" || exit 2

with_libraries "$here/lossproof" --version >/dev/null ||
    complain "lossproof does not start" "what is missing stands above; libcuda.so.1 comes with the GPU's driver"

failed=0
: >"$reports/summary.txt"

# run NAME COMMAND...: one run, its output in NAME.txt, its exit code and duration in summary.txt.
run() {
    name=$1
    shift
    printf '\n==> %s\n' "$name"
    start=$(date +%s)
    with_libraries "$@" >"$reports/$name.txt" 2>&1
    code=$?
    cat "$reports/$name.txt"
    printf '%s: exit code %s, %s s\n' "$name" "$code" "$(($(date +%s) - start))" | tee -a "$reports/summary.txt"
    [ "$code" -eq 0 ] || failed=1
}

verify() {
    run "verify-$1-$2" "$here/lossproof" verify --device cuda --config "gpt2-$1" --dtype "$2" \
        --json "$reports/verify-$1-$2.json"
}

verify nano f64
# An answer of 2 to the first question means that libtorch or dfdx did not get the GPU: nothing else would either.
[ "$code" -ne 2 ] || complain "libtorch or dfdx sees no GPU" "what it said stands above and in $reports/verify-nano-f64.txt"
verify nano f32
verify small f32
# Failing cases, shrunk, are kept among the reports: the workspace that the program was built in is not here.
run conformance env LOSSPROOF_DEVICE=cuda LOSSPROOF_CASES="$reports/cases" "$here/conformance"

printf '\nthe reports are in %s:\n' "$reports"
cat "$reports/summary.txt"
exit "$failed"
