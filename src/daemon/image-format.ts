// Which format an image file has, by its first bytes. Nothing else ever guesses: QEMU is told, so that it does not probe.
//
// A guest may write what looks like another format's header into its own raw disk, and that header may name any file of
// the host. So an image that names another file (a backing file, an external data file, extents) is never opened, and a
// file called .raw that begins like another format is refused rather than understood.

import { open } from 'node:fs/promises'

export interface ForeignFormat {
  /** As people know it. */
  readonly name: string
  /** QEMU's name; undefined: it cannot be read by itself. */
  readonly driver: string | undefined
}

const magics: readonly (readonly [atByte: number, magic: Buffer, format: ForeignFormat])[] = [
  [0, Buffer.from('QFI\xfb\0\0\0\x01', 'latin1'), { name: 'qcow', driver: 'qcow' }],
  [0, Buffer.from('QFI\xfb', 'latin1'), { name: 'qcow2', driver: 'qcow2' }],
  [0, Buffer.from('QED\0', 'latin1'), { name: 'QED', driver: 'qed' }],
  [0, Buffer.from('KDMV'), { name: 'VMDK', driver: 'vmdk' }],
  [0, Buffer.from('# Disk DescriptorFile'), { name: 'VMDK', driver: undefined }],
  [0, Buffer.from('vhdxfile'), { name: 'VHDX', driver: 'vhdx' }],
  [0, Buffer.from('conectix'), { name: 'VHD', driver: 'vpc' }],
  [0, Buffer.from('WithoutFreeSpace'), { name: 'Parallels', driver: 'parallels' }],
  [0, Buffer.from('WithouFreSpacExt'), { name: 'Parallels', driver: 'parallels' }],
  [0, Buffer.from('LUKS-qcow'), { name: 'LUKS encrypted qcow', driver: undefined }],
  [0x40, Buffer.from([0x7f, 0x10, 0xda, 0xbe]), { name: 'VDI', driver: 'vdi' }],
]

const headBytes = 512
const footerBytes = 512

/** undefined: raw, as far as can be told. Throws what the file system says. */
export async function foreignFormatOf(path: string): Promise<ForeignFormat | undefined> {
  const head = await bytesOf(path, 0)
  const found = magics.find(([at, magic]) => head.subarray(at, at + magic.length).equals(magic))
  if (found) return found[2]
  // A VHD of fixed size is raw, with a footer: only its name tells it from a raw disk that ends like one.
  if (!/\.vhd$/i.test(path)) return undefined
  const footer = await bytesOf(path, 'end')
  return footer.subarray(0, 8).toString('latin1') === 'conectix' ? { name: 'VHD', driver: 'vpc' } : undefined
}

/** What other file an image's header names, as a sentence's end, as far as the first bytes tell; undefined: none. */
export async function otherFileNamed(path: string, format: ForeignFormat): Promise<string | undefined> {
  const head = await bytesOf(path, 0)
  if (format.driver === undefined && format.name === 'VMDK')
    return 'it is a descriptor, which names the files of its extents'
  if (format.driver === 'vmdk' && readable(head, 20) && head.readBigUInt64LE(12) === 0n) {
    return 'its header has no size, so that a descriptor in it names the files of its extents'
  }
  if (format.driver !== 'qcow2' && format.driver !== 'qcow') return undefined
  if (readable(head, 16) && head.readBigUInt64BE(8) !== 0n) return 'it has a backing file'
  const hasFeatures = format.driver === 'qcow2' && readable(head, 80) && head.readUInt32BE(4) >= 3
  const externalDataFile = 1n << 2n // docs/interop/qcow2.txt, "incompatible_features"
  if (hasFeatures && (head.readBigUInt64BE(72) & externalDataFile) !== 0n) return 'its data lie in another file'
  return undefined
}

const readable = (head: Buffer, lengthBytes: number): boolean => head.length >= lengthBytes

async function bytesOf(path: string, place: 0 | 'end'): Promise<Buffer> {
  const file = await open(path, 'r')
  try {
    const at = place === 0 ? 0 : Math.max(0, (await file.stat()).size - footerBytes)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(headBytes), 0, headBytes, at)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}
