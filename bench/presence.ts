// What it costs to ask whether a block is here: 4 KiB reads from the page cache through a guest's session, on the same disk
// owned, arriving and all here, and arriving with half of it here in pieces. In this process, without a socket, so that
// nothing hides the difference. The three are read in turn, in every round.

import { randomFillSync } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { blockSizeBytes } from '../src/block/block-map.ts'
import { systemClock } from '../src/daemon/clock.ts'
import type { BlockSource } from '../src/disk/block-source.ts'
import { Disk, type DiskServices } from '../src/disk/disk.ts'
import { mapLogName } from '../src/disk/disk-files.ts'
import type { ExportHandle } from '../src/guest/export.ts'
import { nbdErrorCodes } from '../src/nbd/server/guest-errors.ts'
import { KernelFiles } from '../src/store/kernel-files.ts'
import { MapLog } from '../src/store/map-log.ts'
import type { DiskRecord } from '../src/store/records.ts'

const sizeBytes = 256 * 2 ** 20
const pieceBytes = 64 * 1024
const readsPerRound = 200_000
const warmUpReads = 50_000

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '15' } } })
const rounds = Number(values.rounds)
if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds is a whole number, not ${values.rounds}`)

/** Never asked: only what is here is read. */
const source: BlockSource = {
  async *fetch() {
    yield* []
    throw new Error('a block that is here was fetched')
  },
}

interface Subject {
  readonly name: string
  readonly session: ExportHandle
  /** Offsets of blocks that are here. */
  readonly offsets: Float64Array
  readonly nanoseconds: number[]
}

const folder = await mkdtemp(join(tmpdir(), 'vmstore-bench-'))
const disks: Disk[] = []
try {
  const isAnyHere = () => true
  const subjects = [
    await open('owned', 'owned', isAnyHere),
    await open('arriving, all here', 'arriving', isAnyHere),
    await open('arriving, every second 64 KiB here', 'arriving', (at) => Math.floor(at / pieceBytes) % 2 === 0),
  ]
  for (const subject of subjects) await read(subject, warmUpReads)
  for (let round = 0; round < rounds; round++) {
    for (const subject of subjects) subject.nanoseconds.push(await read(subject, readsPerRound))
  }
  const report = reportOf(subjects)
  const path = join(import.meta.dirname, 'results', `presence-${new Date().toISOString().slice(0, 10)}.md`)
  await mkdir(join(import.meta.dirname, 'results'), { recursive: true })
  await writeFile(path, report)
  console.log(report)
} finally {
  for (const disk of disks) await disk.close()
  await rm(folder, { recursive: true, force: true })
}

async function open(name: string, state: 'owned' | 'arriving', isHere: (at: number) => boolean): Promise<Subject> {
  const files = new KernelFiles()
  const place = join(folder, name.replaceAll(/\W+/g, '-'))
  const path = join(place, 'bench.raw')
  const id = '00000000-0000-4000-8000-000000000000'
  const file = await files.createBlockFile(path, sizeBytes)
  const piece = randomFillSync(Buffer.alloc(2 ** 20))
  for (let at = 0; at < sizeBytes; at += piece.length) await file.write(at, piece)
  await file.close()
  if (state === 'arriving') {
    const { log } = await MapLog.create(files, join(place, mapLogName), { diskId: id, generation: 2, sizeBytes })
    for (let at = 0; at < sizeBytes; at += pieceBytes) {
      if (isHere(at)) log.landed(at / blockSizeBytes, pieceBytes / blockSizeBytes)
    }
    await log.close()
  }
  const record: DiskRecord = { id, name: 'bench', sizeBytes, generation: 2, state, folder: place, path } as DiskRecord
  const records = {
    load: async () => ({ disks: [], migrations: [], peers: [] }),
    commit: async () => {},
    close: async () => {},
  }
  const services: DiskServices = {
    files,
    records,
    siteId: 'bench',
    readOnly: false,
    holdsAfterPowerLoss: false,
    errorNames: nbdErrorCodes,
    clock: systemClock,
    log: () => {},
  }
  const asked = { askSwitchover: async () => {}, flushSource: async () => {} }
  const remote = { source, frozen: source, landed: () => {}, ...asked }
  const disk = await Disk.open(services, record, remote)
  disks.push(disk)
  const here = Array.from({ length: sizeBytes / blockSizeBytes }, (_, block) => block * blockSizeBytes).filter(isHere)
  const offsets = Float64Array.from({ length: 4096 }, () => here[Math.floor(Math.random() * here.length)]!)
  return { name, session: disk.open('bench'), offsets, nanoseconds: [] }
}

/** Nanoseconds for each read. */
async function read({ session, offsets }: Subject, count: number): Promise<number> {
  const target = Buffer.alloc(blockSizeBytes)
  const startedMs = performance.now()
  for (let index = 0; index < count; index++) {
    const pending = session.read(offsets[index % offsets.length]!, target)
    // A page that the kernel has taken back meanwhile: rare, and in all rows alike.
    if (pending !== undefined) await pending
  }
  return ((performance.now() - startedMs) * 1e6) / count
}

function reportOf(subjects: readonly Subject[]): string {
  const base = subjects[0]!.nanoseconds
  const rows = subjects.map(({ name, nanoseconds }) => {
    const ratios = nanoseconds.map((value, round) => value / base[round]!)
    return `| ${name} | ${median(nanoseconds).toFixed(0)} | ${median(ratios).toFixed(3)} |`
  })
  return [
    '# The cost of presence',
    '',
    `    npm run bench:presence -- --rounds ${rounds}`,
    '',
    `- ${availableParallelism()} cores, Linux ${release()}, Node ${process.version}`,
    `- 4 KiB reads from the page cache through a session, without a socket; ${rounds} rounds of ${readsPerRound}, in turn`,
    '',
    'Medians; the ratio is that of one round to the owned disk of the same round.',
    '',
    '| disk | ns a read | to owned |',
    '| --- | ---: | ---: |',
    ...rows,
    '',
  ].join('\n')
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
}
