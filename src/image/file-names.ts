// What the name of a file promises of its bytes. Pure: the file itself is not looked at.

import type { ForeignFormat } from './image-formats.ts'

export type Promised =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'raw' }
  /** One of these formats. */
  | { readonly kind: 'image'; readonly formats: readonly ForeignFormat[]; readonly ending: string }
  /** An archive or the like, or an image of a format that is not taken. */
  | { readonly kind: 'other'; readonly ending: string }
  /** A part of an image: one of several files, or a download under way. */
  | { readonly kind: 'part'; readonly why: string; readonly next: string }

const images: Readonly<Record<string, readonly ForeignFormat[]>> = {
  qcow2: ['qcow2'],
  qcow2c: ['qcow2'],
  qcow: ['qcow', 'qcow2'],
  qed: ['qed'],
  vmdk: ['vmdk'],
  vdi: ['vdi'],
  vhd: ['vhd'],
  vpc: ['vhd'],
  avhd: ['vhd'],
  vhdx: ['vhdx'],
  avhdx: ['vhdx'],
  hds: ['parallels'],
  hdd: ['parallels'],
}

const others =
  /\.(gz|xz|zst|bz2|lz4|lzma|lzo|lz|zip|7z|rar|tar|tgz|txz|ova|ovf|xva|vma|wim|esd|cpio|dmg|sparseimage|asif|simg|e01|ex01|aff|aff4|gpg|age|vhds)$/i

interface PartName {
  readonly pattern: RegExp
  readonly why: string
  readonly next: string
}

const parts: readonly PartName[] = [
  {
    pattern: /\.(part|partial|crdownload|download|filepart|aria2|!qb)$/i,
    why: 'its name is that of a download under way',
    next: 'Wait until it is whole, and name it without that ending.',
  },
  {
    pattern: /-[sf]\d{3}\.vmdk$/i,
    why: 'its name is that of one extent of a VMDK of several files',
    next: 'Name the set as a whole: qemu-img convert -O raw DESCRIPTOR.vmdk disk.raw, where all its files are, if you trust them.',
  },
  {
    pattern: /-(delta|sesparse)\.vmdk$/i,
    why: 'its name is that of a snapshot of a VMDK, which has only what differs from its parent',
    next: 'Make a whole image of it at the VMware host, with all its files: vmkfstools -i DESCRIPTOR.vmdk whole.vmdk -d thin.',
  },
  {
    // `split` appends aa, ab …, or with -d 00, 01 … to a name that its user chose. A number alone may be a version.
    pattern:
      /\.(0\d\d|part[-.]?\d+|a[a-z]|e0[2-9]|z\d\d)$|\.(raw|img|iso|qcow2?|qed|vmdk|vdi|vhdx?|hdd|gz|xz|zst|bz2|zip|7z|tar|ova)[-_.]?(\d\d|a[a-z])$|^x(a[a-z]|0\d)$/i,
    why: 'its name is that of one of several files into which an image was split',
    next: 'Put its parts together first: cat, in the order of their names, or the program that split it.',
  },
]

export function promisedBy(path: string): Promised {
  const name = path.slice(path.lastIndexOf('/') + 1)
  const part = parts.find(({ pattern }) => pattern.test(name))
  if (part) return { kind: 'part', why: part.why, next: part.next }
  if (/\.raw$/i.test(name) || /-flat\.vmdk$/i.test(name)) return { kind: 'raw' }
  const [, ending = ''] = /\.([a-z0-9]+)$/i.exec(name) ?? []
  const formats = images[ending.toLowerCase()]
  if (formats) return { kind: 'image', formats, ending }
  return others.test(name) ? { kind: 'other', ending } : { kind: 'nothing' }
}
