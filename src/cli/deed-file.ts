// A deed in a file, as `disk show NAME --deed --json` prints it, or its list of entries alone: read within bounds, and checked.

import { createReadStream } from 'node:fs'
import { ControlError } from '../control/errors.ts'
import { ExitCode } from '../control/types.ts'
import { DeedError, generationOf, holderOf, maximumDeedBytes, verifyDeed } from '../deed/deed.ts'
import type { Deed } from '../deed/entries.ts'
import type { SiteNames } from './deed-text.ts'

/** Printed for people it has more bytes than it is bounded to. */
const maximumFileBytes = 4 * maximumDeedBytes

export interface CheckedDeed {
  readonly deed: Deed
  /** What the site that printed it calls the sites that it knows. Signed by nobody. */
  readonly names: SiteNames
}

/** `path`: `-` is stdin. @throws ControlError with exit code 1 */
export async function readDeed(path: string): Promise<CheckedDeed> {
  const place = path === '-' ? 'what came on stdin' : path
  const printed = parsed(await bytesOf(path, place), place)
  const isList = Array.isArray(printed)
  const beside = isList || typeof printed !== 'object' || printed === null ? {} : (printed as Record<string, unknown>)
  const deed = verified(isList ? printed : beside['entries'], place)
  checkBeside(beside, deed, place)
  return { deed, names: namesIn(beside['names']) }
}

async function bytesOf(path: string, place: string): Promise<string> {
  const parts: Buffer[] = []
  let length = 0
  try {
    for await (const part of path === '-' ? process.stdin : createReadStream(path)) {
      length += (part as Buffer).length
      if (length > maximumFileBytes) throw new Error(`it has over ${maximumFileBytes} bytes, and no deed has`)
      parts.push(part as Buffer)
    }
  } catch (error) {
    throw fault('file-unreadable', `${place} cannot be read as a deed: ${(error as Error).message}`)
  }
  return Buffer.concat(parts).toString('utf8')
}

function parsed(text: string, place: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw fault('not-a-deed', `${place} holds no JSON`)
  }
}

function verified(entries: unknown, place: string): Deed {
  try {
    return verifyDeed(entries)
  } catch (error) {
    if (!(error instanceof DeedError)) throw error
    const code = error.entry === undefined ? 'not-a-deed' : 'deed-void'
    throw fault(code, `${place} holds no deed that counts: ${error.message}`)
  }
}

/** What is printed beside the entries is signed by nobody: where it says something else, somebody has changed it. */
function checkBeside(beside: Readonly<Record<string, unknown>>, deed: Deed, place: string): void {
  const right = { disk: deed[0]!.disk, generation: generationOf(deed), holder: holderOf(deed) }
  for (const [what, value] of Object.entries(right)) {
    if (beside[what] === undefined || beside[what] === value) continue
    throw fault('deed-void', `${place} was changed: its ${what} is not ${value}, which is what its entries say`)
  }
}

/** What calls itself `this site` there is another one here. */
function namesIn(names: unknown): SiteNames {
  if (typeof names !== 'object' || names === null) return {}
  const known = Object.entries(names).filter((each): each is [string, string] => typeof each[1] === 'string')
  return Object.fromEntries(known.map(([key, name]) => [key, name === 'this site' ? 'the site that printed it' : name]))
}

function fault(code: string, message: string): ControlError {
  return new ControlError({ code, message, exit: ExitCode.other })
}
