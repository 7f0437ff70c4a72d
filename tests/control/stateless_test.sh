#!/bin/sh
# A controller keeps nothing between calls: the library has no variable that it could keep it in.
#   stateless_test LIBRARY
set -eu
left=$(objdump -t "$1" | awk '/ O \.(bss|data)[ \t]/ && $NF !~ /^__odr_asan/' || true)
[ -z "$left" ] || { echo "control has variables of its own:"; echo "$left"; exit 1; }
