// npm run plants [-- WORD...]: plants known bugs, one at a time, in a copy of the source, and sees whether the crash model
// finds each. A model that finds nothing proves nothing. With words: only plants whose name has one of them.
// Exits 1 when a plant is not found, or does not fit the source any more.

import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

interface Plant {
  readonly name: string
  readonly file: string
  readonly was: string
  readonly becomes: string
}

const plants: readonly Plant[] = [
  {
    name: 'a bit before its bytes',
    file: 'src/disk/disk.ts',
    was: 'for (const part of claim.parts) {',
    becomes: 'claim.done()\nfor (const part of claim.parts) {',
  },
  {
    name: 'a landing over a guest write in flight',
    file: 'src/disk/arrival.ts',
    was: 'of [...this.#writes, ...this.#claims]) {',
    becomes: 'of [...this.#claims]) {',
  },
  {
    name: 'a guest write that does not wait for a claim',
    file: 'src/disk/io-arriving.ts',
    was: 'if (!claimed) break',
    becomes: 'break',
  },
  {
    name: 'a landing over sectors that the guest wrote',
    file: 'src/disk/arrival.ts',
    was: 'if (((mask >> sector) & 1) === 0) continue',
    becomes: 'if (mask >= 0) continue',
  },
  {
    name: 'an uncommitted log believed after a power loss',
    file: 'src/store/map-log.ts',
    was: 'const believed = sameBoot ? intact : committed',
    becomes: 'const believed = intact',
  },
  {
    name: 'only the committed log believed after a mere kill',
    file: 'src/store/map-log.ts',
    was: 'const believed = sameBoot ? intact : committed',
    becomes: 'const believed = committed',
  },
  {
    name: "the log's position taken after the sync",
    file: 'src/disk/disk.ts',
    was: 'await log?.commit(position)',
    becomes: 'await log?.commit(log.position + 0 * position)',
  },
  {
    name: 'a flush without the map',
    file: 'src/disk/disk.ts',
    was: 'await log?.commit(position)',
    becomes: 'void position',
  },
  {
    name: 'a flush without the data',
    file: 'src/disk/disk.ts',
    was: 'await this.#file.sync()\n',
    becomes: '\n',
  },
  {
    name: 'a freeze without a sync',
    file: 'src/migration/source-course.ts',
    was: 'this.#frozen = true\n      try {\n        await disk.flush()',
    becomes: 'this.#frozen = true\n      try {',
  },
  {
    name: 'no freeze',
    file: 'src/migration/source-course.ts',
    was: 'await disk.gate.freeze()',
    becomes: 'void disk.gate.freeze()\ndisk.gate.thaw()',
  },
  {
    name: 'a grant before departed is durable',
    file: 'src/migration/source-course.ts',
    was: 'await this.#commitDeparted(startedMs)',
    becomes: 'void this.#commitDeparted(startedMs)',
  },
  {
    name: 'a reply of the old generation kept',
    file: 'src/disk/io-incoming.ts',
    was: 'if (this.#current() !== this) return this.#current().read(offset, target, signal)',
    becomes: 'if (this.#current() !== this) return',
  },
  {
    name: 'a snapshot of the maps without a sync',
    file: 'src/store/map-log.ts',
    was: 'await settle(uncommitted.runs(0, uncommitted.blocks, true))',
    becomes: 'void settle',
  },
  {
    name: 'bytes that a failed sync dropped taken for durable after a restart',
    file: 'src/disk/disk.ts',
    was: 'await rewrite(',
    becomes: 'void (',
  },
  {
    name: 'a failed sync that is tried again',
    file: 'src/disk/sync-group.ts',
    was: 'if (error instanceof FailedSync) this.#failure = error',
    becomes: '',
  },
  {
    name: 'a move that is not finished when its record lags behind its disk',
    file: 'src/migration/destination-course.ts',
    was: "else if (state === 'owned') await this.finish()",
    becomes: "else if (this.record.state === 'finishing') await this.finish()",
  },
  {
    name: 'a release before everything is there',
    file: 'src/migration/arriving-course.ts',
    was: 'await copy.run()',
    becomes: "await this.call('complete', this.#completion, this.stopping.signal).catch(() => {})\nawait copy.run()",
  },
  {
    name: 'a cancel that does not look whether the disk departed',
    file: 'src/migration/source-course.ts',
    was: "if (this.disk.state !== 'owned' || this.#frozen) throw this.#tooLate('cancelled')",
    becomes: '',
  },
  {
    name: 'writes answered before arriving is durable',
    file: 'src/disk/disk.ts',
    was: "await this.move('arriving', { generation, owner: this.#services.siteId }, others)",
    becomes:
      "const kept = this.#record\nthis.#record = { ...kept, state: 'arriving', generation }\nthis.#chooseIo()\nthis.#record = kept\nawait this.move('arriving', { generation, owner: this.#services.siteId }, others)",
  },
  {
    name: 'a flush that joins a running sync',
    file: 'src/disk/sync-group.ts',
    was: 'if (!this.#running) return this.#start()',
    becomes: 'if (!this.#running) return this.#start()\nelse return this.#running',
  },
  {
    name: 'a removal that takes the new bytes of the same disk',
    file: 'src/disk/disks.ts',
    was: 'await this.#removals.get(fresh.id)?.catch(() => {})',
    becomes: '',
  },
]

const top = join(import.meta.dirname, '../..')
const seeds = '4000'
const timeLimitMs = 180_000

/** What the model says of the planted bug, or undefined when it finds nothing. */
function find(plant: Plant): string | undefined {
  const copy = mkdtempSync(join(tmpdir(), 'vmstore-plant-'))
  try {
    for (const folder of ['src', 'test/model']) cpSync(join(top, folder), join(copy, folder), { recursive: true })
    for (const file of ['test/random.ts', 'package.json']) cpSync(join(top, file), join(copy, file))
    symlinkSync(join(top, 'node_modules'), join(copy, 'node_modules'))
    const path = join(copy, plant.file)
    const text = readFileSync(path, 'utf8')
    if (!text.includes(plant.was)) throw new Error(`${plant.name}: the plant does not fit ${plant.file} any more`)
    writeFileSync(
      path,
      text.replace(plant.was, () => plant.becomes),
    )
    const run = spawnSync(process.execPath, ['test/model/main.ts', '--seeds', seeds], {
      cwd: copy,
      encoding: 'utf8',
      timeout: timeLimitMs,
    })
    if (run.status === 0) return undefined
    return run.stderr.split('\n')[0] || 'nothing happens any more'
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

const words = process.argv.slice(2)
let missed = 0
for (const plant of plants.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)))) {
  const found = find(plant)
  if (found === undefined) missed++
  process.stdout.write(
    `${found === undefined ? 'NOT FOUND' : 'found'}: ${plant.name}${found ? `\n    ${found}` : ''}\n`,
  )
}
process.exitCode = missed === 0 ? 0 : 1
