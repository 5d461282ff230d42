// Block files of a test, closed after it. They always find room for dirty pages: what a test sees hangs neither on what else
// the machine is writing nor on how long a write took.

import { join } from 'node:path'
import { DirtyRoom } from '../../src/store/dirty-room.ts'
import type { BlockFile } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { temporaryFolder } from './folder.ts'

export const bootId = '11111111-1111-4111-8111-111111111111'
export const files = new KernelFiles(bootId, ampleRoom())
export const mebibyte = 2 ** 20

/** Of a machine on which nothing is unsynced; the rest after a slow write is over at the next look. */
export function ampleRoom(): DirtyRoom {
  let nowMs = 0
  return new DirtyRoom(
    () => ({ dirtyPages: 0, backgroundThresholdPages: 2 ** 20, thresholdPages: 2 ** 21 }),
    () => (nowMs += 1000),
  )
}

const open: { close(): Promise<void> }[] = []

export function closeFilesAfterEach(): void {
  afterEach(closeFiles)
}

export async function closeFiles(): Promise<void> {
  for (const file of open.splice(0)) await file.close()
}

/** Closes it after the test, if it is not closed by then. */
export function closedLater<File extends { close(): Promise<void> }>(file: File): File {
  open.push(file)
  return file
}

export async function blockFile(sizeBytes: number, folder = temporaryFolder()): Promise<BlockFile> {
  return closedLater(await files.createBlockFile(join(folder, 'disk', 'web01.raw'), sizeBytes))
}

export async function reopened(path: string, readOnly = false): Promise<BlockFile> {
  return closedLater(await files.openBlockFile(path, readOnly))
}

export async function bytesOf(file: BlockFile, offset: number, lengthBytes: number): Promise<Buffer> {
  const target = Buffer.alloc(lengthBytes, 0xee)
  await file.read(offset, target)
  return target
}
