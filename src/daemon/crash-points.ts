// Crash points, for tests alone: a daemon that was started with VMSTORE_TEST_CRASH_POINT=before:STEP or after:STEP kills
// itself with SIGKILL the first time that it comes to that durable step (`#N`: the Nth time), so that tests can see what
// is left. Without the variable this file is not even loaded.
//
// Steps are what becomes durable: `disk-STATE` and `migration-STATE` (a record enters that state), `disk-taken`,
// `disk-removed`, `migration-removed`, `disk-rekeyed` (its deed names this site's next key), `peer-pinned` (a peer's next
// key is trusted), `peer-followed`; of the key of this site: `key-made`, `key-decided`, `key-replaced`; and of files: `file-made`, `data-synced`, `map-made`, `map-synced`.

import type { Logger } from 'pino'
import { Refusal } from '../disk/refusal.ts'
import type { KeyFiles } from '../peer/key-renewal.ts'
import type { BlockFile, Files, LogFile, PageFile } from '../store/files.ts'
import type { Change, Records } from '../store/records.ts'

const recordSteps = [
  ...['disk-incoming', 'disk-arriving', 'disk-owned', 'disk-departed', 'disk-taken', 'disk-released'],
  ...['disk-gone', 'disk-superseded', 'disk-removed'],
  ...['migration-preparing', 'migration-ready', 'migration-copying', 'migration-finishing', 'migration-done'],
  ...['migration-cancelled', 'migration-failed', 'migration-removed'],
  ...['disk-rekeyed', 'peer-pinned', 'peer-followed'],
] as const
const fileSteps = ['file-made', 'data-synced', 'map-made', 'map-synced'] as const
const keySteps = ['key-made', 'key-decided', 'key-replaced'] as const
type Step = (typeof recordSteps)[number] | (typeof fileSteps)[number] | (typeof keySteps)[number]

const pattern = /^(before|after):([a-z-]+)(?:#([1-9][0-9]{0,5}))?$/

export interface Durable {
  readonly records: Records
  readonly files: Files
  readonly keys: KeyFiles
}

/** The same records, files and keys, in which the daemon dies at `point`. @throws Refusal `crash-point-unknown` */
export function withCrashPoint(point: string, { records, files, keys }: Durable, log: Logger): Durable {
  const [, when, step, count] = pattern.exec(point) ?? []
  const isKnown = [...recordSteps, ...fileSteps, ...keySteps].some((known) => known === step)
  if (!isKnown) throw new Refusal('crash-point-unknown', `VMSTORE_TEST_CRASH_POINT names no crash point: ${point}`)
  log.error({ point }, 'TEST: this daemon will kill itself at a crash point; it must not serve anything of worth')
  let left = Number(count ?? 1)
  const pass: Pass = async (steps, work) => {
    const isHere = steps.some((each) => each === step) && --left === 0
    if (isHere && when === 'before') return die()
    const value = await work()
    return isHere ? die() : value
  }
  return {
    records: new CrashingRecords(records, pass),
    files: new CrashingFiles(files, pass),
    keys: crashingKeys(keys, pass),
  }
}

/** Does a durable step, and dies before or after it when it is the one. */
type Pass = <T>(steps: readonly Step[], work: () => Promise<T>) => Promise<T>

/** Never comes back. */
function die(): Promise<never> {
  process.kill(process.pid, 'SIGKILL')
  return new Promise(() => {})
}

class CrashingRecords implements Records {
  readonly #records: Records
  readonly #pass: Pass
  /** The last state of each record, and of disks that were taken `taken`. */
  readonly #known = new Map<string, string>()

  constructor(records: Records, pass: Pass) {
    this.#records = records
    this.#pass = pass
  }

  async load(): ReturnType<Records['load']> {
    const loaded = await this.#records.load()
    for (const record of loaded.disks) this.#stepsOf({ put: 'disk', record })
    for (const record of loaded.migrations) this.#stepsOf({ put: 'migration', record })
    return loaded
  }

  commit(changes: readonly Change[]): Promise<void> {
    const isFollowed = changes.some((change) => 'remove' in change && change.remove === 'peer')
    const steps = changes.flatMap((change) => this.#stepsOf(change, isFollowed))
    return this.#pass(steps, () => this.#records.commit(changes))
  }

  close(): Promise<void> {
    return this.#records.close()
  }

  #stepsOf(change: Change, isFollowed = false): Step[] {
    if ('remove' in change) return change.remove === 'peer' ? [] : [`${change.remove}-removed`]
    if ('mark' in change) return []
    if (change.put === 'peer') {
      if (isFollowed) return ['peer-followed']
      return change.record.next === null ? [] : ['peer-pinned']
    }
    const steps = [this.#enters(`${change.put}-${change.record.state}`, change.record.id, change.put)]
    if (change.put === 'disk' && change.record.taken) steps.push(this.#enters('disk-taken', change.record.id, 'taken'))
    if (change.put === 'disk' && change.record.deed?.at(-1)?.kind === 'rekeyed')
      steps.push(this.#enters('disk-rekeyed', change.record.id, `rekeyed ${change.record.deed.length}`))
    return steps.filter((step) => recordSteps.some((known) => known === step)) as Step[]
  }

  /** The word, unless the record stood there already. */
  #enters(word: string, id: string, aspect: string): string {
    const key = `${aspect} ${id}`
    const before = this.#known.get(key)
    this.#known.set(key, word)
    return before === word ? '' : word
  }
}

function crashingKeys(keys: KeyFiles, pass: Pass): KeyFiles {
  return {
    prepare: () => pass(['key-made'], () => keys.prepare()),
    forget: () => keys.forget(),
    decide: () => pass(['key-decided'], () => keys.decide()),
    replace: () => pass(['key-replaced'], () => keys.replace()),
    left: () => keys.left(),
  }
}

class CrashingFiles implements Files {
  readonly bootId: string
  readonly #files: Files
  readonly #pass: Pass

  constructor(files: Files, pass: Pass) {
    this.#files = files
    this.#pass = pass
    this.bootId = files.bootId
  }

  async createBlockFile(path: string, sizeBytes: number): Promise<BlockFile> {
    return this.#watched(await this.#pass(['file-made'], () => this.#files.createBlockFile(path, sizeBytes)))
  }

  async openBlockFile(path: string, readOnly: boolean): Promise<BlockFile> {
    return this.#watched(await this.#files.openBlockFile(path, readOnly))
  }

  readFile(path: string): Promise<Uint8Array | undefined> {
    return this.#files.readFile(path)
  }

  async replaceLog(path: string, bytes: Uint8Array): Promise<LogFile> {
    const log = await this.#pass(['map-made'], () => this.#files.replaceLog(path, bytes))
    return {
      append: (more) => log.append(more),
      sync: () => this.#pass(['map-synced'], () => log.sync()),
      close: () => log.close(),
    }
  }

  openPages(path: string): Promise<PageFile> {
    return this.#files.openPages(path)
  }

  rename(from: string, to: string): Promise<void> {
    return this.#files.rename(from, to)
  }

  remove(path: string): Promise<void> {
    return this.#files.remove(path)
  }

  /** All else is the file's own, the hot path with it: crashes are tried on what a daemon really runs. */
  #watched(file: BlockFile): BlockFile {
    const sync = () => this.#pass(['data-synced'], () => file.sync())
    return new Proxy(file, {
      get: (_, name) => {
        if (name === 'sync') return sync
        const member: unknown = Reflect.get(file, name)
        return typeof member === 'function' ? member.bind(file) : member
      },
    })
  }
}
