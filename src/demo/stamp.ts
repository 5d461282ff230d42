// The bytes that the demo's client writes: each sector says which write it is of, and where it belongs. Pure.

export const sectorBytes = 512
const wordsInSector = sectorBytes / 4
const magic = 0x564d5354

/** Sequence 0 is the disk's first content; the client's own writes count from 1. */
export const originalSequence = 0

/** Fills `target`, a whole number of sectors, as write number `sequence` at `firstSector` of the disk. */
export function fillStamp(target: Uint8Array, firstSector: number, sequence: number): void {
  const words = new Uint32Array(target.buffer, target.byteOffset, target.length / 4)
  for (let at = 0, sector = firstSector; at < words.length; at += wordsInSector, sector++) {
    words[at] = magic
    words[at + 1] = sequence
    words[at + 2] = sector
    words[at + 3] = checkOf(sequence, sector)
    words.copyWithin(at + 4, at, at + 4)
    words.copyWithin(at + 8, at, at + 8)
    words.copyWithin(at + 16, at, at + 16)
    words.copyWithin(at + 32, at, at + 32)
    words.copyWithin(at + 64, at, at + 64)
  }
}

/** Which write a sector is of, if it is wholly of one and lies where it belongs. */
export function sequenceOf(sectorContent: Uint8Array, sector: number): number | undefined {
  const view = new DataView(sectorContent.buffer, sectorContent.byteOffset, sectorContent.length)
  const littleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1
  const sequence = view.getUint32(4, littleEndian)
  const whole = new Uint8Array(sectorBytes)
  fillStamp(whole, sector, sequence)
  return Buffer.compare(whole, sectorContent) === 0 ? sequence : undefined
}

const checkOf = (sequence: number, sector: number): number =>
  (Math.imul(sequence, 0x9e3779b1) ^ Math.imul(sector, 0x85ebca6b)) >>> 0
