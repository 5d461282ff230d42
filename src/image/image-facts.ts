// What an examined image says of itself.

export interface ImageFacts {
  /** Of the disk in it; a multiple of sectors. */
  readonly sizeBytes: number
  /** The disk's bytes lie in the file as they are, from its beginning on. */
  readonly isPlain: boolean
  /** What it has besides the disk's bytes, and is left behind; sentences. */
  readonly notes: readonly string[]
}

const sectorBytes = 512

export const facts = (sizeBytes: number, notes: readonly string[] = []): ImageFacts => ({
  sizeBytes: Math.ceil(sizeBytes / sectorBytes) * sectorBytes,
  isPlain: false,
  notes,
})

/** Of a unit (cluster, block, grain) of the disk, the bytes that lie before the disk's end. */
export const withinDisk = (sizeBytes: number, index: number, unitBytes: number): number =>
  Math.min(unitBytes, Math.max(0, sizeBytes - index * unitBytes))
