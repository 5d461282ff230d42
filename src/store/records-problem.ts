// What is wrong with the records of a site, as a sentence.

export const restoreOrStartAnew =
  'Restore the whole data folder from its last good copy (peers are then asked which disks have moved on since). If there is none, move it away and start anew: the bytes of its disks are in disks/, raw.'

export function recordsProblem(code: 'damaged' | 'newer-format', message: string, next: string): Error {
  return Object.assign(new Error(message), { code, next })
}

/** `why`: a sentence's end. */
export function damagedRowSentence(path: string, table: string, id: string, why: string): string {
  return `${path} is damaged: the record of ${table} ${id} is not as it was written: ${why}`
}

export function damagedRow(path: string, table: string, id: string, why: string): Error {
  return recordsProblem('damaged', damagedRowSentence(path, table, id, why), restoreOrStartAnew)
}

/** What stands in a row that has no checksum, or whose checksum is right. @throws what damagedRow makes */
export function parsedRow(path: string, table: string, id: string, body: string): object {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    value = undefined
  }
  if (typeof value === 'object' && value !== null) return value
  throw damagedRow(path, table, id, 'it is no JSON object')
}
