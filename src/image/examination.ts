// Looks an image of a known format through before QEMU reads it. QEMU reads zeros for whatever lies beyond the end of a
// file, or in a parent that it does not know of, and says nothing: what is wrong is found here.

import type { ImageBytes } from './image-bytes.ts'
import type { ImageFacts } from './image-facts.ts'
import type { ForeignFormat } from './image-formats.ts'
import { examineParallels } from './parallels.ts'
import { examineQcow } from './qcow.ts'
import { examineQcow2 } from './qcow2.ts'
import { examineQed } from './qed.ts'
import { examineVdi } from './vdi.ts'
import { examineVhd } from './vhd.ts'
import { examineVhdx } from './vhdx.ts'
import { examineVmdk } from './vmdk.ts'

const examiners: Readonly<Record<ForeignFormat, (bytes: ImageBytes) => Promise<ImageFacts>>> = {
  qcow2: examineQcow2,
  qcow: examineQcow,
  qed: examineQed,
  vmdk: examineVmdk,
  vdi: examineVdi,
  vhd: examineVhd,
  vhdx: examineVhdx,
  parallels: examineParallels,
}

/** @throws ImageFault */
export function examine(format: ForeignFormat, bytes: ImageBytes): Promise<ImageFacts> {
  return examiners[format](bytes)
}
