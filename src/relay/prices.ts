// What a move through a store costs: a table of prices, an estimate before, and the sum after, from what was counted. Pure.
//
// The prices are list prices of November 2026, in dollars, without free tiers and volume discounts: whoever pays others writes
// theirs into the configuration. A store that is not in the table, as one's own Ceph, has no price until it is given one.

import { z } from 'zod'
import type { StoreCounts } from './weather.ts'

const price = z.number().min(0).max(1e6)

/** The configuration's relay.prices.<scheme>: what a driver is given it has to understand, and prices are not its affair. */
export const pricesShape = z.strictObject({
  currency: z.string().min(1).max(8).default('$'),
  /** Of 1000 requests each; lists cost what puts do, deletes mostly nothing. */
  puts: price,
  gets: price,
  lists: price.optional(),
  deletes: price.default(0),
  /** Of 10^9 bytes that leave the store; those that come in cost nothing anywhere. */
  egress: price,
  /** Of 10^9 bytes kept for a month. */
  month: price,
})

export type Prices = z.infer<typeof pricesShape>

const known: readonly { readonly host: RegExp; readonly prices: Prices }[] = [
  // Of us-east-1; most other regions are some percent dearer.
  {
    host: /(^|\.)amazonaws\.com$/,
    prices: { currency: '$', puts: 0.005, gets: 0.0004, deletes: 0, egress: 0.09, month: 0.023 },
  },
  {
    host: /\.r2\.cloudflarestorage\.com$/,
    prices: { currency: '$', puts: 0.0045, gets: 0.00036, deletes: 0, egress: 0, month: 0.015 },
  },
  {
    host: /(^|\.)(storage\.dev|tigris\.dev)$/,
    prices: { currency: '$', puts: 0.005, gets: 0.0005, deletes: 0, egress: 0, month: 0.02 },
  },
]

/**
 * Of the store that is reached at `endpoint`; without one it is AWS for `s3:`. undefined: nobody knows. A folder costs nothing.
 */
export function pricesOf(scheme: string, endpoint: string | undefined): Prices | undefined {
  if (scheme === 'dir') return { currency: '$', puts: 0, gets: 0, deletes: 0, egress: 0, month: 0 }
  const host = endpoint === undefined ? scheme === 's3' && 's3.amazonaws.com' : URL.parse(endpoint)?.hostname
  return host ? known.find((one) => one.host.test(host))?.prices : undefined
}

export interface Use {
  readonly puts: number
  readonly gets: number
  readonly lists: number
  readonly deletes: number
  readonly bytesDown: number
  /** Bytes kept, times the seconds that each was. */
  readonly byteSeconds: number
}

const monthSeconds = 30 * 24 * 3600

export function costOf(use: Use, prices: Prices): number {
  const { puts, gets, lists = prices.puts, deletes, egress, month } = prices
  const requests = (use.puts * puts + use.lists * lists + use.gets * gets + use.deletes * deletes) / 1000
  return requests + (use.bytesDown / 1e9) * egress + (use.byteSeconds / 1e9 / monthSeconds) * month
}

/** What this site has used. Both sites of a move count their own; what lies there counts once, at the source. */
export function useOf(counts: StoreCounts, byteSeconds: number): Use {
  const { puts, gets, lists, deletes, bytesDown } = counts
  return { puts, gets, lists, deletes, bytesDown, byteSeconds }
}

/** What is known of a move before it begins. */
export interface Prospect {
  /** Of all disks, what is no hole and no zeros, with what guests will write again; and how large a chunk is. */
  readonly dataBytes: number
  readonly chunkBytes: number
  /** What is left of a byte, compressed and padded: 1 for noise. */
  readonly compressedTo: number
  /** Of the chunks, those that no other equals. */
  readonly distinctShare: number
  /** Of the chunks, those that the destination has already. */
  readonly sparedShare: number
  readonly rangesOfPart: number
  /** How long both sites will be at it, and how often they look for mail and for parts meanwhile, on average. */
  readonly seconds: number
  readonly pollsPerSecond: number
  /** Mail objects, of both directions. */
  readonly mails: number
  /** Probe, claim, fence, states: whatever comes once. */
  readonly once: { readonly puts: number; readonly gets: number; readonly lists: number }
}

/** Of both sites together. */
export function foreseen(prospect: Prospect): Use & { readonly bytesUp: number } {
  const { dataBytes, chunkBytes, compressedTo, distinctShare, sparedShare, seconds, mails, once } = prospect
  const named = Math.ceil(dataBytes / chunkBytes)
  const stored = Math.ceil(named * distinctShare)
  const fetched = Math.ceil(named * (1 - sparedShare))
  const parts = Math.ceil(named / prospect.rangesOfPart)
  const bytesUp = Math.ceil(dataBytes * distinctShare * compressedTo)
  const puts = stored + parts + mails + once.puts
  return {
    puts,
    // Each part and mail is read once, and every other look finds nothing.
    gets: fetched + parts + mails + Math.ceil(seconds * prospect.pollsPerSecond) + once.gets,
    lists: once.lists,
    deletes: Math.ceil(puts / deletesOfRequest),
    bytesDown: Math.ceil(dataBytes * (1 - sparedShare) * compressedTo),
    bytesUp,
    // All of it lies there for about half of the time.
    byteSeconds: (bytesUp * seconds) / 2,
  }
}

/** What DeleteObjects takes at once. */
const deletesOfRequest = 1000
