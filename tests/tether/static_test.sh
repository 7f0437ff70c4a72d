#!/bin/sh
# PID 1 needs nothing: no interpreter, no shared library.
set -eu
! readelf -lW "$1" | grep -q INTERP
! readelf -dW "$1" 2>/dev/null | grep -q NEEDED
echo "$1 is static, $(stat -c %s "$1") bytes"
