// What the operator is told of a loss of power with unflushed writes of clients that live on (unsynced.ts).

import type { DiskRecord, PowerLossMark } from '../../store/records.ts'

export function powerLossSentence({ name }: DiskRecord, loss: PowerLossMark, isHeld: boolean): string {
  const found = loss.foundAt ? `, found at ${loss.foundAt}` : ''
  const what = `this host lost its power${found}: writes that were answered to clients which live on, and not flushed, since ${loss.since} may be lost, and their next flush succeeds all the same`
  const held = isHeld ? ' Clients at other hosts are refused until then.' : ''
  return `${what}. Check the disk in its guest, then: vmstore disk accept ${name}.${held}`
}

/** What a client at another host is told under `--after-power-loss hold`. */
export function heldSentence({ name }: DiskRecord): string {
  return `disk ${name} may have lost writes with the power of its host: it waits for vmstore disk accept ${name}`
}
