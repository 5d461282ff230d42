// Sizes, rates and times as operators write and read them. Sizes and rates are bytes with binary suffixes; times carry
// a unit. Pure.

import { Flags } from '@oclif/core'
import { UsageError } from './errors.ts'

const suffixes = ['', 'K', 'M', 'G', 'T', 'P'] as const
const timeUnitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** '10G', '1.5G', '512', '64KiB', '100MiB' → bytes. K is 1024. 'KB' is refused, for half of the world it is 1000. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGTP]?)(iB|B)?$/i.exec(text.trim())
  const [, digits = '', suffix = '', ending = ''] = match ?? []
  const decimal = suffix !== '' && ending.toUpperCase() === 'B'
  if (match === null || decimal || (suffix === '' && ending.toLowerCase() === 'ib')) {
    throw new UsageError(
      `"${text}" is not a size: write bytes with K, M, G, T or P (powers of 1024), such as 10G or 1.5T.`,
    )
  }
  const bytes = Number(digits) * 1024 ** suffixes.indexOf(suffix.toUpperCase() as (typeof suffixes)[number])
  if (!Number.isInteger(bytes)) throw new UsageError(`"${text}" is not a whole number of bytes.`)
  if (!Number.isSafeInteger(bytes)) throw new UsageError(`"${text}" is more than vmstore can count.`)
  return bytes
}

/** '50M' or '50M/s' → bytes a second. */
export function parseRate(text: string): number {
  try {
    return parseSize(text.replace(/\/s$/, ''))
  } catch {
    throw new UsageError(
      `"${text}" is not a rate: write bytes a second with K, M, G or T (powers of 1024), such as 50M.`,
    )
  }
}

/** '10s', '500ms', '5m', '2h' → milliseconds. */
export function parseTime(text: string): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim()) ?? []
  const unitMs = timeUnitsMs[unit]
  if (unitMs === undefined) {
    throw new UsageError(`"${text}" is not a time: write a number and a unit (ms, s, m, h, d), such as 10s or 500ms.`)
  }
  return Math.round(Number(digits) * unitMs)
}

/** 1610612736 → '1.5 GiB'. */
export function formatSize(bytes: number): string {
  let value = bytes
  let step = 0
  // 1023.96 would be shown as 1024.0 of the smaller unit.
  while (value >= 1023.95 && step < suffixes.length - 1) {
    value /= 1024
    step += 1
  }
  if (step === 0) return `${bytes} B`
  return `${value.toFixed(1).replace(/\.0$/, '')} ${suffixes[step]}iB`
}

/** 1048576 → '1 MiB', 1052672 → '1028 KiB', 4608 → '4608 B': whole, in the largest unit that is exact. */
export function exactSize(bytes: number): string {
  let value = bytes
  let step = 0
  while (value > 0 && value % 1024 === 0 && step < suffixes.length - 1) {
    value /= 1024
    step += 1
  }
  return step === 0 ? `${bytes} B` : `${value} ${suffixes[step]}iB`
}

export function formatRate(bytesPerSecond: number): string {
  return `${formatSize(Math.round(bytesPerSecond))}/s`
}

/** 0.0213 → '21 ms', 12.34 → '12.3 s', 75 → '1 min 15 s'. */
export function formatSeconds(seconds: number): string {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 59.95) return `${seconds.toFixed(1).replace(/\.0$/, '')} s`
  const whole = Math.round(seconds)
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  if (hours > 0) return minutes === 0 ? `${hours} h` : `${hours} h ${minutes} min`
  return rest === 0 ? `${minutes} min` : `${minutes} min ${rest} s`
}

export const sizeFlag = Flags.custom<number>({ parse: async (text) => parseSize(text), helpValue: 'SIZE' })
export const rateFlag = Flags.custom<number>({ parse: async (text) => parseRate(text), helpValue: 'RATE' })
/** The value in milliseconds. */
export const timeFlag = Flags.custom<number>({ parse: async (text) => parseTime(text), helpValue: 'TIME' })
