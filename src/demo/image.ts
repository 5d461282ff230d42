// The disk that the demo moves, as a raw image: an ext4 file system with real files and one large file, whose blocks the
// client works in; or, where e2fsprogs is missing, runs of a pattern with holes between them.

import { createReadStream } from 'node:fs'
import { copyFile, mkdir, open, opendir, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Area, type Run } from './area.ts'
import { findProgram, runProgram } from './programs.ts'
import { fillStamp, originalSequence, sectorBytes } from './stamp.ts'

export interface Image {
  readonly path: string
  readonly sizeBytes: number
  /** What of it is not hole. */
  readonly dataBytes: number
  /** Where the client works. */
  readonly area: Area
  /** What is in it, in a sentence; with a pattern: why there is no file system. */
  readonly text: string
  readonly hasFileSystem: boolean
}

interface ImageOptions {
  readonly folder: string
  readonly sizeBytes: number
  /** The folder whose files go into the file system. */
  readonly tree: string
  readonly signal: AbortSignal
}

const blockBytes = 4096
const bytesPerInode = 8192
/** Of each: real files, and the client's file. */
const partMaxBytes = 48 * 2 ** 20
/** Larger files are left out, so that there are many; and the small ones of other projects, so that it does not take long. */
const fileMaxBytes = 2 ** 20
const othersMinBytes = 16 * 1024
const chunkBytes = 2 ** 20
const areaName = 'client.bin'
/** What of the tree is taken, in this order, until there is enough. */
const others = 'node_modules'
const wanted = ['package.json', 'bin', 'src', 'plugins', 'test', 'docs', others]
const tools = ['mke2fs', 'debugfs', 'e2fsck'] as const

export async function makeImage(options: ImageOptions): Promise<Image> {
  const missing = tools.filter((tool) => findProgram(tool) === undefined)
  if (missing.length > 0)
    return patternImage(options, `this machine has no ${missing.join(' and no ')} (package e2fsprogs)`)
  try {
    return await fileSystemImage(options)
  } catch (error) {
    options.signal.throwIfAborted()
    return patternImage(
      options,
      `a file system could not be made: ${(error as Error).message.trim().split('\n').at(-1)}`,
    )
  }
}

const imagePath = (folder: string): string => join(folder, 'original.raw')

/** A quarter of the disk's sixteenths for each part, in whole large requests. */
const partBytesOf = (sizeBytes: number): number =>
  Math.min(partMaxBytes, Math.floor((sizeBytes * 3) / 16 / chunkBytes) * chunkBytes)

async function fileSystemImage({ folder, sizeBytes, tree, signal }: ImageOptions): Promise<Image> {
  const path = imagePath(folder)
  const staged = join(folder, 'tree')
  const partBytes = partBytesOf(sizeBytes)
  const files = await copyTree({
    from: tree,
    to: staged,
    bytesMax: partBytes,
    filesMax: sizeBytes / bytesPerInode / 2,
    signal,
  })
  await writePattern(join(staged, areaName), [{ offset: 0, length: partBytes }], 0)
  await rm(path, { force: true })
  const made = ['-q', '-F', '-t', 'ext4', '-b', String(blockBytes), '-i', String(bytesPerInode), '-m', '0']
  await runProgram(findProgram('mke2fs')!, [...made, '-d', staged, path, `${sizeBytes / 1024}k`], signal)
  await rm(staged, { recursive: true })
  const extents = await runProgram(findProgram('debugfs')!, ['-R', `dump_extents -n -l /${areaName}`, path], signal)
  const area = new Area(parseExtents(extents))
  await checkArea(path, area, partBytes)
  return {
    path,
    sizeBytes,
    dataBytes: (await stat(path)).blocks * 512,
    area,
    text: `an ext4 file system with ${files} files of this project, and a large one that the client works in`,
    hasFileSystem: true,
  }
}

/** ' 0/ 0   1/  2      0 -  8191   34816 -  43007   8192' says where 8192 blocks of a file lie. */
export function parseExtents(text: string): Run[] {
  const runs: Run[] = []
  for (const [, first, length] of text.matchAll(/^ *\d+\/ *\d+ +\d+\/ *\d+ +\d+ *- *\d+ +(\d+) *- *\d+ +(\d+) *$/gm)) {
    runs.push({ offset: Number(first) * blockBytes, length: Number(length) * blockBytes })
  }
  return runs
}

/** What is taken for the client's file must be it: a write anywhere else would break the file system. */
async function checkArea(path: string, area: Area, lengthBytes: number): Promise<void> {
  if (area.bytes !== lengthBytes) throw new Error(`debugfs names ${area.bytes} of the ${lengthBytes} bytes of a file`)
  let sector = 0
  for (const { offset, length } of area.runs) {
    for await (const chunk of createReadStream(path, {
      start: offset,
      end: offset + length - 1,
      highWaterMark: 65_536,
    })) {
      const expected = new Uint8Array((chunk as Buffer).length)
      fillStamp(expected, sector, originalSequence)
      if (Buffer.compare(expected, chunk as Buffer) !== 0) throw new Error('debugfs named blocks of another file')
      sector += expected.length / sectorBytes
    }
  }
}

interface TreeOptions {
  readonly from: string
  readonly to: string
  readonly bytesMax: number
  readonly filesMax: number
  readonly signal: AbortSignal
}

/** Copies regular files until there is enough. @returns how many */
async function copyTree({ from, to, bytesMax, filesMax, signal }: TreeOptions): Promise<number> {
  await mkdir(to)
  let bytes = 0
  let files = 0
  for await (const name of filesUnder(from, wanted)) {
    signal.throwIfAborted()
    const target = join(to, name)
    try {
      const { size } = await stat(join(from, name))
      if (size > fileMaxBytes || (name.startsWith(others) && size < othersMinBytes)) continue
      await mkdir(dirname(target), { recursive: true })
      await copyFile(join(from, name), target)
      bytes += Math.ceil(size / blockBytes) * blockBytes
      files++
    } catch (error) {
      // A file of somebody else, or one that has just gone.
      if (!['EACCES', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    }
    if (bytes >= bytesMax - fileMaxBytes || files >= filesMax) break
  }
  return files
}

async function* filesUnder(folder: string, names: readonly string[]): AsyncGenerator<string> {
  for (const name of names) {
    const about = await stat(join(folder, name)).catch(() => undefined)
    if (about?.isFile()) yield name
    if (about?.isDirectory()) yield* filesBelow(folder, name)
  }
}

/** Links are not followed: they may lead back. */
async function* filesBelow(root: string, name: string): AsyncGenerator<string> {
  const folder = await opendir(join(root, name)).catch(() => undefined)
  if (folder === undefined) return
  for await (const entry of folder) {
    const path = join(name, entry.name)
    if (entry.isFile()) yield path
    else if (entry.isDirectory()) yield* filesBelow(root, path)
  }
}

async function patternImage({ folder, sizeBytes }: ImageOptions, why: string): Promise<Image> {
  const path = imagePath(folder)
  await rm(path, { force: true })
  const part = partBytesOf(sizeBytes)
  const quarter = sizeBytes / 4
  const around = [0, 1, 2, 3].map((index) => ({ offset: index * quarter, length: part / 4 }))
  const area = { offset: quarter + part / 4, length: part }
  await writePattern(path, [...around, area], sizeBytes)
  return {
    path,
    sizeBytes,
    dataBytes: (await stat(path)).blocks * 512,
    area: new Area([area]),
    text: `a pattern and no file system, because ${why}`,
    hasFileSystem: false,
  }
}

/** Writes the first content into `runs` of a new file, which is sparse between them. */
async function writePattern(path: string, runs: readonly Run[], sizeBytes: number): Promise<void> {
  const file = await open(path, 'w')
  try {
    if (sizeBytes > 0) await file.truncate(sizeBytes)
    for (const { offset, length } of runs) {
      for (let at = offset; at < offset + length; at += chunkBytes) {
        const bytes = new Uint8Array(Math.min(chunkBytes, offset + length - at))
        fillStamp(bytes, at / sectorBytes, originalSequence)
        await file.write(bytes, 0, bytes.length, at)
      }
    }
  } finally {
    await file.close()
  }
}
