// What is often taken for a disk image and is none: archives, compressed images, parts of images, images of formats that
// QEMU does not read by themselves. Pure.

import type { Stranger } from './stranger.ts'

interface Kind extends Stranger {
  /** Of the head; a string is of latin1. */
  readonly magics: readonly (readonly [at: number, magic: string])[]
}

const unpack = (command: string): string => `Take out the image first, and take that: ${command}.`
const archive = (title: string, command: string, ...magics: Kind['magics']): Kind => ({
  title,
  next: unpack(command),
  isPart: false,
  magics,
})
const unread = (title: string, next: string, ...magics: Kind['magics']): Kind => ({
  title,
  next,
  isPart: false,
  magics,
})
const part = (title: string, next: string, ...magics: Kind['magics']): Kind => ({ title, next, isPart: true, magics })

const consolidate =
  'Make a whole image of it at the VMware host, with all its files: vmkfstools -i DESCRIPTOR.vmdk whole.vmdk -d thin, or export the machine.'

const kinds: readonly Kind[] = [
  archive('gzip-compressed data', 'gunzip --keep FILE', [0, '\x1f\x8b\x08']),
  archive('xz-compressed data', 'unxz --keep FILE', [0, '\xfd7zXZ\0']),
  archive('zstd-compressed data', 'unzstd FILE', [0, '\x28\xb5\x2f\xfd']),
  archive(
    'bzip2-compressed data',
    'bunzip2 --keep FILE',
    ...'123456789'.split('').map((level) => [0, `BZh${level}1AY&SY`] as const),
  ),
  archive('lz4-compressed data', 'unlz4 FILE', [0, '\x04\x22\x4d\x18'], [0, '\x02\x21\x4c\x18']),
  archive('lzip-compressed data', 'lzip -dk FILE', [0, 'LZIP\x01']),
  archive('lzop-compressed data', 'lzop -d FILE', [0, '\x89LZO\0\r\n\x1a\n']),
  archive('a zip archive', 'unzip FILE', [0, 'PK\x03\x04'], [0, 'PK\x05\x06'], [0, 'PK\x07\x08']),
  archive('a 7-Zip archive', '7z x FILE', [0, '7z\xbc\xaf\x27\x1c']),
  archive('a RAR archive', 'unrar x FILE', [0, 'Rar!\x1a\x07']),
  archive('a cpio archive', 'cpio -id < FILE', [0, '070701'], [0, '070702'], [0, '070707']),
  archive('a cabinet archive', 'cabextract FILE', [0, 'MSCF\0\0\0\0']),
  archive('a Windows image (WIM)', 'wimapply FILE 1 DEVICE', [0, 'MSWIM\0\0\0']),
  archive('a backup of Proxmox VE (VMA)', 'vma extract FILE FOLDER', [0, 'VMA\0\0\0\0\x01']),
  archive('an Android sparse image', 'simg2img FILE disk.raw', [0, '\x3a\xff\x26\xed']),
  archive('an image of partclone', 'partclone.restore -s FILE -o disk.raw, as its manual says', [0, 'partclone-image']),
  archive('an image of ntfsclone', 'ntfsclone --restore-image --overwrite disk.raw FILE', [0, '\0ntfsclone-image']),
  archive(
    'an image of EnCase (EWF)',
    'ewfexport -t disk -f raw FILE, with all its segments',
    [0, 'EVF\x09\r\n\xff\0'],
    [0, 'EVF2\r\n\x81\0'],
    [0, 'LVF\x09\r\n\xff\0'],
  ),
  archive('an image of AFF', 'affconvert -r FILE', [0, 'AFF10\r\n\0'], [0, 'AFF\0']),
  archive('encrypted data (age)', 'age --decrypt FILE > disk.raw', [0, 'age-encryption.org/v1']),
  archive('encrypted data (OpenPGP)', 'gpg --decrypt FILE > disk.raw', [0, '-----BEGIN PGP MESSAGE-----']),
  archive('encrypted data (OpenSSL)', 'openssl enc -d, with the options it was made with', [0, 'Salted__']),
  unread(
    'a sparse image of Apple (ASIF)',
    'Make a raw image of it on a Mac: diskutil image create from FILE disk.raw, as its manual says.',
    [0, 'shdw'],
  ),
  unread('a sparse image of Apple', 'Make a raw image of it on a Mac: hdiutil convert FILE -format UDTO -o disk.', [
    0,
    'sprs\0\0',
  ]),
  unread('an image of Bochs', 'Make a raw image of it: qemu-img convert -f bochs -O raw FILE disk.raw.', [
    0,
    'Bochs Virtual HD Image',
  ]),
  unread('a LUKS-encrypted qcow image', 'Decrypt it first.', [0, 'LUKS-qcow']),
  unread('a pointer of Git LFS, not the file', 'Bring the file itself: git lfs pull.', [0, 'version https://git-lfs']),
  part('one extent of a VMDK (vmfsSparse)', consolidate, [0, 'COWD']),
  part('one extent of a VMDK (SEsparse)', consolidate, [0, '\xbe\xba\xfe\xca\0\0\0\0']),
]

export function containerOf(head: Buffer, tail: Buffer): Stranger | undefined {
  const text = head.toString('latin1')
  return (
    kinds.find(({ magics }) => magics.some(([at, magic]) => text.startsWith(magic, at))) ??
    tarOf(head) ??
    textOf(text) ??
    appleOf(tail)
  )
}

/** Of every age: the sum of a member's header, with spaces for itself ("ustar" at 257 came later). */
function tarOf(head: Buffer): Stranger | undefined {
  const header = head.subarray(0, 512)
  if (header.length < 512 || header[0] === 0) return undefined
  const written = Number.parseInt(
    header
      .subarray(148, 156)
      .toString('latin1')
      .replace(/[\0 ]+$/, '')
      .trim(),
    8,
  )
  const sum = header.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0)
  if (written !== sum) return undefined
  const [name = ''] = header.subarray(0, 100).toString('latin1').split('\0')
  if (/\.ovf$/i.test(name)) {
    return {
      title: 'a virtual appliance (OVA)',
      next: unpack('tar -xf FILE, and the .vmdk of the disk in it'),
      isPart: false,
    }
  }
  if (name === 'ova.xml') {
    const next =
      'Let XenServer or XCP-ng import it, and export its disk as a VHD; or take it apart with a program for XVA.'
    return { title: 'a machine that XenServer exported (XVA)', next, isPart: false }
  }
  return { title: 'a tar archive', next: unpack('tar -xf FILE'), isPart: false }
}

/** What is written for people and programs, with any line ends, blank lines and comments before. */
function textOf(head: string): Stranger | undefined {
  const text = head.replace(/^\xef\xbb\xbf/, '')
  if (isVmdkDescriptor(text)) {
    const next =
      'If you trust it and the files that it names, make one file of them: qemu-img convert -O raw FILE disk.raw. If it names one flat extent (-flat.vmdk), that is the raw image.'
    return { title: 'the descriptor of a VMDK, which names the files of its extents', next, isPart: true }
  }
  if (!/^\s*<[!?a-z]/i.test(text)) return undefined
  if (/<(\w+:)?Envelope[\s>]/.test(text)) {
    return {
      title: 'an OVF descriptor',
      next: 'Name the disk image that it describes, which lies beside it.',
      isPart: true,
    }
  }
  if (/<Parallels_disk_image/.test(text)) {
    const next = 'Name the image that it describes, an .hds file, if there is one only; else merge its snapshots first.'
    return { title: 'a descriptor of Parallels', next, isPart: true }
  }
  const isPage = /<(!doctype\s+html|html)[\s>]/i.test(text)
  const title = isPage ? 'a web page' : 'XML text'
  const next = isPage ? 'See what it says: a download that failed often leaves one.' : 'Name the disk image itself.'
  return isPage || /^\s*<\?xml\s/.test(text) ? { title, next, isPart: false } : undefined
}

/**
 * As VMware and QEMU read one: comments, which need not say what it is, then a version; and lines of extents. Line by line:
 * the bytes may be a guest's, and a pattern over blank lines and comments can be made to try forever.
 */
function isVmdkDescriptor(text: string): boolean {
  const lines = text.split(/[\r\n]/).map((line) => line.trim())
  const said = lines.filter((line) => line !== '')
  const firstAt = said.findIndex((line) => !line.startsWith('#'))
  const comments = firstAt === -1 ? said : said.slice(0, firstAt)
  if (comments.some((line) => /^# *Disk *DescriptorFile/i.test(line))) return true
  if (!/^version[ \t]*=[ \t]*\d/i.test(said[firstAt] ?? '')) return false
  return said.some((line) => /^((createType|CID|parentCID)\s*=|(RW|RDONLY|NOACCESS)\s+\d+\s)/i.test(line))
}

/** UDIF (.dmg) is known by its trailer only. */
function appleOf(tail: Buffer): Stranger | undefined {
  if (tail.length < 512 || tail.subarray(0, 4).toString('latin1') !== 'koly') return undefined
  if (tail.readUInt32BE(8) !== 512) return undefined
  const next =
    'Make a raw image of it: qemu-img convert -f dmg -O raw FILE disk.raw, or on a Mac hdiutil convert FILE -format UDTO -o disk.'
  return { title: 'a disk image of Apple (DMG)', next, isPart: false }
}
