#!/bin/sh
# The boot image comes out the same from the same inputs, whenever and wherever it is made.
# Arguments: bootimage.py, tether, kernel cache, an image made before.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
umask 077
cp "$2" "$dir/renamed"
TZ=Asia/Tokyo python3 "$1" --tether "$dir/renamed" --cache "$3" --out "$dir/again.iso"
cmp "$4" "$dir/again.iso"
sha256sum "$dir/again.iso" | cut -d' ' -f1
