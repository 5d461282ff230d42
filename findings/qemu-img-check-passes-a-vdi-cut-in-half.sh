#!/usr/bin/env bash
# `qemu-img check` says of a VDI whose file was cut in half: "No errors were found on the image.", exit code 0. It looks at
# the block map alone, and never at where the file ends. Reads of what is gone then give zeros, and no error; so does
# `qemu-img convert`, with exit code 0: a broken download becomes a disk with half of its bytes zero.
# The same of a qcow2 is found by the check, but for a cut within its last cluster.
#
# Seen with qemu-utils 1:7.2+dfsg-7+deb12u18+b3 (Debian 12). Output seen:
#   check: No errors were found on the image. (exit 0)
#   convert: exit 0, and the second half of the result is zeros; the image had 0x07 there.
set -euo pipefail
version='1:7.2+dfsg-7+deb12u18+b3'

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
command -v mmdebstrap >/dev/null || { echo 'this needs mmdebstrap' >&2; exit 2; }
mmdebstrap --quiet --variant=extract --include="qemu-utils=$version" bookworm "$place/debian"
mkdir -p "$place/debian/images"
tool() { chroot "$place/debian" "$@"; }

tool qemu-img --version | head -n 1
tool qemu-img create -q -f vdi /images/disk.vdi 8M
tool qemu-io -f vdi -c 'write -q -P 7 0 8M' /images/disk.vdi
truncate --size 4M "$place/debian/images/disk.vdi"

said=$(tool qemu-img check -f vdi /images/disk.vdi) || { echo "CHANGED: the check exits with $?: $said" >&2; exit 1; }
echo "check: $said"
[ "$said" = 'No errors were found on the image.' ] || { echo 'CHANGED: the check says something else' >&2; exit 1; }

tool qemu-img convert -f vdi -O raw /images/disk.vdi /images/disk.raw || { echo 'CHANGED: the conversion fails' >&2; exit 1; }
zeros=$(tail -c 3M "$place/debian/images/disk.raw" | tr -d '\0' | wc -c)
[ "$zeros" -eq 0 ] || { echo "CHANGED: $zeros bytes of what was cut off are not zero" >&2; exit 1; }
echo 'convert: exit 0, and what was cut off is zeros'
