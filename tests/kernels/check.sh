#!/usr/bin/env bash
# Checks the C of the products: under the address and undefined-behaviour sanitizers on this machine, and, where a cross
# compiler and an emulator are installed (gcc-aarch64-linux-gnu, qemu-user), compiled for 64-bit ARM and run there.
#   tests/kernels/check.sh [PROBLEMS]
set -euo pipefail
cd "$(dirname "$0")"
problems="${1:-300}"
build="$(mktemp -d)"
trap 'rm -rf "$build"' EXIT
flags=(-std=gnu11 -O1 -g -Wall -Wextra -Werror -Wno-unknown-pragmas -ffp-contract=off -fno-math-errno -fno-trapping-math)

echo "== sanitizers, $(uname -m), $(cc --version | head -1)"
cc "${flags[@]}" -fsanitize=address,undefined -fno-sanitize-recover=all check.c -o "$build/sanitized" -lgomp -lpthread
OMP_WAIT_POLICY=PASSIVE "$build/sanitized" "$problems"

echo "== as shipped (-O3)"
cc "${flags[@]}" -O3 check.c -o "$build/fast" -lgomp -lpthread
OMP_WAIT_POLICY=PASSIVE "$build/fast" "$problems"

llvm="$(find /usr/lib -name 'libomp*.so.5' -print -quit 2>/dev/null)"
if [ -n "$llvm" ]; then
  echo "== threads of LLVM's OpenMP"
  cc "${flags[@]}" -O3 -DLLVM_OPENMP check.c -o "$build/llvm" "$llvm" -lpthread
  KMP_BLOCKTIME=0 LD_LIBRARY_PATH="$(dirname "$llvm")" "$build/llvm" "$problems"
fi

if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null; then
  echo "== aarch64, $(aarch64-linux-gnu-gcc --version | head -1), $(qemu-aarch64 --version | head -1)"
  aarch64-linux-gnu-gcc "${flags[@]}" -O3 check.c -o "$build/arm" -lgomp -lpthread
  for cpu in max neoverse-n1; do
    echo "-- $cpu"
    OMP_WAIT_POLICY=PASSIVE qemu-aarch64 -cpu "$cpu" -L /usr/aarch64-linux-gnu "$build/arm" "$((problems / 4))"
  done
else
  echo "== aarch64: no gcc-aarch64-linux-gnu and qemu-user here"
fi
