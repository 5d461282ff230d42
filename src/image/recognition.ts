// What a file is, by its first and last bytes. Nothing else ever guesses: QEMU is told, so that it does not probe. Pure.
//
// A guest may write what looks like another format's header into its own raw disk, and that header may name any file of
// the host. So whoever has the operator's word that a file is raw does not ask here.

import { containerOf } from './containers.ts'
import { type ForeignFormat, titled } from './image-formats.ts'
import type { Stranger } from './stranger.ts'
import { isFixed, vhdFooterOf } from './vhd.ts'

/** Read from the beginning, and from the end: what recognise() wants to see, fewer where the file has fewer. */
export const headBytes = 4096
export const tailBytes = 512

export interface FileEnds {
  readonly head: Buffer
  readonly tail: Buffer
  readonly sizeBytes: number
}

export type Recognised =
  | { readonly kind: 'raw' }
  | { readonly kind: 'image'; readonly format: ForeignFormat; readonly title: string }
  /** It ends like a VHD of fixed size, which is otherwise raw: only its name, or the operator, can tell. */
  | { readonly kind: 'raw-or-vhd'; readonly title: string }
  | ({ readonly kind: 'stranger' } & Stranger)

const magics: readonly (readonly [at: number, magic: string, format: ForeignFormat])[] = [
  [0, 'QFI\xfb\0\0\0\x01', 'qcow'],
  [0, 'QFI\xfb', 'qcow2'],
  [0, 'QED\0', 'qed'],
  [0, 'KDMV', 'vmdk'],
  [0, 'vhdxfile', 'vhdx'],
  [0, 'conectix', 'vhd'],
  [0, 'WithoutFreeSpace', 'parallels'],
  [0, 'WithouFreSpacExt', 'parallels'],
  [0x40, '\x7f\x10\xda\xbe', 'vdi'],
]

export function recognise(ends: FileEnds): Recognised {
  const { head, tail, sizeBytes } = ends
  const found = magics.find(([at, magic]) => head.subarray(at, at + magic.length).toString('latin1') === magic)
  if (found) return { kind: 'image', format: found[2], title: titled(found[2]) }
  const stranger = containerOf(head, tail)
  if (stranger) return { kind: 'stranger', ...stranger }
  const footer = vhdFooterOf(tail)
  if (footer === undefined) return { kind: 'raw' }
  if (isFixed(footer, sizeBytes)) return { kind: 'raw-or-vhd', title: titled('vhd') }
  // A VHD that grows, or has a parent, begins with the same footer: without it, and with one at the end, it is damaged.
  return { kind: 'image', format: 'vhd', title: titled('vhd') }
}
