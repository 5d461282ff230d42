// What a move would cost, in words, and beside what it cost. Pure.

import type { EstimatedBytes, EstimateView } from '../control/types.ts'
import { formatRate, formatSeconds, formatSize } from './sizes.ts'
import { facts } from './table.ts'

/** What `migrate --dry-run` prints. */
export function estimateText(estimate: EstimateView): string {
  const { disk, peer, bytes, disks, free, rate, seconds } = estimate
  const room = bytes.data <= free ? 'of which it would take' : 'which is less than'
  return [
    `${disk} could move to ${peer}. Nothing was changed.`,
    facts({
      '  disk': `${formatSize(bytes.disk)}, of which ${formatSize(bytes.data)} data`,
      '  already there': bytes.spared > 0 ? `about ${formatSize(bytes.spared)}` : null,
      '  to send': `about ${formatSize(bytes.sent)}`,
      '  time': seconds === null ? 'not known: no move with it was measured yet' : timeText(seconds, rate!),
      '  free there': `${formatSize(free)}, ${room} ${formatSize(bytes.data)}`,
    }),
    ...(disks.length > 1
      ? [facts(Object.fromEntries(disks.map((each) => [`  ${each.name}`, eachText(each.bytes)])))]
      : []),
  ].join('\n')
}

const timeText = (seconds: number, rate: number): string => `about ${formatSeconds(seconds)}, at ${formatRate(rate)}`

const eachText = ({ disk, data, sent }: EstimatedBytes): string =>
  `${formatSize(disk)}, of which ${formatSize(data)} data, about ${formatSize(sent)} to send`

/** A line of the report: what was said before. */
export function foreseenText({ bytes, seconds }: EstimateView): string {
  const time = seconds === null ? '' : ` in ${formatSeconds(seconds)}`
  return facts({ '  estimated before': `${formatSize(bytes.sent)} to send${time}` })
}
