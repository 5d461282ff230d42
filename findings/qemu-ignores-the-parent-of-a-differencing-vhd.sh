#!/usr/bin/env bash
# QEMU reads a differencing VHD (disk type 4 in its footer: Hyper-V's .avhd, Xen Orchestra's deltas) as if it had no parent:
# `qemu-img info` names none, and `qemu-img convert` exits with 0 and gives zeros where the parent has the bytes. Its driver
# never looks at the disk type. VHDX, VDI and qcow2 with a parent are refused or followed; of VHD nothing is said.
#
# Seen with qemu-utils 1:7.2+dfsg-7+deb12u18+b3 (Debian 12); the chain is made, and found good, by vhd-lib 0.7.2 of npm (with
# @xen-orchestra/fs 0.5.0). Output seen:
#   chained; the child's disk type is 4
#   info: no backing file is named
#   convert: exit 0, and all 8 MiB that the parent has are zeros
set -euo pipefail
version='1:7.2+dfsg-7+deb12u18+b3'

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
for program in mmdebstrap node npm; do
  command -v "$program" >/dev/null || { echo "this needs $program" >&2; exit 2; }
done
mmdebstrap --quiet --variant=extract --include="qemu-utils=$version" bookworm "$place/debian"
images=$place/debian/images
mkdir -p "$images" "$place/npm"
tool() { chroot "$place/debian" "$@"; }
(cd "$place/npm" && npm init -y >/dev/null && npm install --silent --no-fund --no-audit vhd-lib@0.7.2 @xen-orchestra/fs@0.5.0)

tool qemu-img create -q -f vpc -o force_size=on /images/parent.vhd 8M
tool qemu-io -f vpc -c 'write -q -P 9 0 8M' /images/parent.vhd
tool qemu-img create -q -f vpc -o force_size=on /images/child.vhd 8M
cat >"$place/npm/chain.js" <<'JS'
const { promises } = require('fs')
const { getHandler } = require('@xen-orchestra/fs')
const { chainVhd, checkVhdChain } = require('vhd-lib')

async function main(folder) {
  const handler = getHandler({ url: `file://${folder}` })
  await handler.sync()
  handler.write = async (name, bytes, position) => { // Which this pair of versions does not share.
    const file = await promises.open(`${folder}/${name}`, 'r+')
    await file.write(bytes, 0, bytes.length, position)
    await file.close()
  }
  await chainVhd(handler, 'parent.vhd', handler, 'child.vhd', true)
  await checkVhdChain(handler, 'child.vhd')
}

main(process.argv[2]).catch((error) => {
  console.error(error)
  process.exit(2)
})
JS
node "$place/npm/chain.js" "$images"
kind=$(tail -c 512 "$images/child.vhd" | od -An -tu1 -j63 -N1 | tr -d ' ')
[ "$kind" = 4 ] || { echo "the chain was not made: disk type $kind" >&2; exit 2; }
echo "chained; the child's disk type is $kind"

tool qemu-img info -f vpc /images/child.vhd | grep -i backing && { echo 'CHANGED: a backing file is named' >&2; exit 1; }
echo 'info: no backing file is named'
tool qemu-img convert -f vpc -O raw /images/child.vhd /images/child.raw || { echo 'CHANGED: the conversion fails' >&2; exit 1; }
bytes=$(tr -d '\0' <"$images/child.raw" | wc -c)
[ "$bytes" -eq 0 ] || { echo "CHANGED: $bytes bytes of the parent came" >&2; exit 1; }
echo 'convert: exit 0, and all 8 MiB that the parent has are zeros'
