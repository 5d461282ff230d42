// npm run bench:neighbours. What a guest feels of others: the 99th percentile of its 4 KiB reads at depth 1, by fio, alone and
// beside the move of another disk (at both sites), a comparison, and crowds of clients of other disks. With --against FOLDER,
// another checkout is measured in turn with this one, round by round.
// Always: in each round both sites are new, and a round's ratios are to what the same round found alone.

import { execFile, spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, release, tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { ControlClient } from '../src/control/client.ts'

const run = promisify(execFile)
const bytesPerMib = 2 ** 20
const victimBytes = 64 * bytesPerMib
const moverBytes = 1024 * bytesPerMib
/** Every second 4 KiB block holds data. */
const fragments = 2 ** 16
const blockBytes = 4096
const crowd = 64
const waitMs = 60_000
const stopMs = 5000

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    against: { type: 'string' },
    folder: { type: 'string', default: tmpdir() },
  },
})
const rounds = Number(values.rounds)
const seconds = Number(values.seconds)
if (!(rounds >= 1 && seconds >= 1)) throw new Error('--rounds and --seconds are numbers of at least 1')

interface Build {
  readonly title: string
  readonly folder: string
}

interface Site {
  readonly client: ControlClient
  uriOf(disk: string): string
  stop(): Promise<void>
}

interface Reading {
  readonly build: string
  readonly round: number
  readonly row: string
  /** At depth 1, of reads of 4 KiB. */
  readonly p99Ms: number
}

/** Each row, and what it is held against. */
const rowsTo: readonly (readonly [row: string, base: string])[] = [
  ['alone: one site', 'alone: one site'],
  ['BLOCK_STATUS of a fragmented disk', 'alone: one site'],
  ['zeroing', 'alone: one site'],
  ['alone: source', 'alone: source'],
  ['a move: source', 'alone: source'],
  ['a comparison: source', 'alone: source'],
  ['alone: destination', 'alone: destination'],
  ['a move: destination', 'alone: destination'],
  ['a comparison: destination', 'alone: destination'],
]

const here = resolve(import.meta.dirname, '..')
const builds: readonly Build[] = [
  ...(values.against === undefined ? [] : [{ title: 'before', folder: resolve(values.against) }]),
  { title: 'this build', folder: here },
]
const folder = await mkdtemp(join(values.folder, 'vmstore-neighbours-'))
const readings: Reading[] = []
try {
  await makeImages()
  for (let round = 1; round <= rounds; round++) {
    for (const build of builds) {
      console.error(`round ${round} of ${rounds}: ${build.title}`)
      await measure(build, round)
    }
  }
  const report = await reportOf()
  const results = join(import.meta.dirname, 'results')
  await mkdir(results, { recursive: true })
  await writeFile(join(results, `neighbours-${new Date().toISOString().slice(0, 10)}.md`), report)
  console.log(report)
} finally {
  await rm(folder, { recursive: true, force: true })
}

async function measure(build: Build, round: number): Promise<void> {
  const place = await mkdtemp(join(folder, 'round-'))
  const sites: Site[] = []
  try {
    for (const name of ['a', 'b']) sites.push(await start(build, join(place, name)))
    const [source, destination] = sites as [Site, Site]
    const { token } = await source.client.invite({ name: 'b' })
    await destination.client.join({ token, name: 'a' })
    const add = (row: string, p99Ms: number) => {
      readings.push({ build: build.title, round, row, p99Ms })
      console.error(`  ${row}: ${p99Ms.toFixed(3)} ms`)
    }
    const both = async (row: string) => {
      const [there, away] = await Promise.all(sites.map((site) => p99Of(site)))
      add(`${row}: source`, there!)
      add(`${row}: destination`, away!)
    }
    for (const site of sites) await p99Of(site) // Pages, and code, that are met for the first time.
    add('alone: one site', await p99Of(source))
    await both('alone')
    for (const kind of ['status', 'zero'] as const) {
      const uri = source.uriOf(kind === 'status' ? 'fragmented' : 'scratch')
      const options = [join(here, 'bench', 'storm.ts'), kind, uri, String(crowd), String(seconds + 2)]
      const storm = run(process.execPath, options)
      await sleep(1000)
      add(kind === 'status' ? 'BLOCK_STATUS of a fragmented disk' : 'zeroing', await p99Of(source))
      const { stdout } = await storm
      console.error(`  ${kind}: ${stdout.trim()} answers`)
    }
    await measureMove(source, destination, both)
  } finally {
    await Promise.all(sites.map((site) => site.stop()))
    await rm(place, { recursive: true, force: true })
  }
}

async function measureMove(source: Site, destination: Site, both: (row: string) => Promise<void>): Promise<void> {
  const { id } = await source.client.migrate({
    ...{ disk: 'mover', to: 'b', mode: 'post-copy', switchover: 'now', switchoverWaitMs: 10_000, source: 'keep' },
  })
  const deadlineMs = performance.now() + waitMs
  const view = () => destination.client.showMigration(id)
  while ((await view()).state !== 'copying') {
    if (performance.now() > deadlineMs) throw new Error('the move does not begin to copy')
    await sleep(20)
  }
  await both('a move')
  if ((await view()).state !== 'copying')
    console.error('  the copy was over before the measurement was: take more --seconds off')
  await destination.client.pause(id)
  let isOver = false
  let comparedBytes = 0
  const compare = async () => {
    while (!isOver) comparedBytes += (await destination.client.verifyDisk('mover')).bytes.compared
  }
  const comparing = compare()
  await both('a comparison')
  isOver = true
  await comparing
  console.error(`  compared: ${Math.round(comparedBytes / bytesPerMib)} MiB`)
}

/** In milliseconds. */
async function p99Of(site: Site): Promise<number> {
  const shape = ['--rw=randread', '--bs=4k', '--iodepth=1', '--norandommap', '--time_based', `--runtime=${seconds}`]
  const fixed = ['--name=victim', '--ioengine=nbd', '--thread', '--output-format=json']
  const { stdout } = await run('fio', [...fixed, ...shape, `--uri=${site.uriOf('victim')}`])
  const report = JSON.parse(stdout.slice(stdout.indexOf('{')))
  return report.jobs[0].read.clat_ns.percentile['99.000000'] / 1e6
}

async function start(build: Build, place: string): Promise<Site> {
  const images = ['victim', 'mover', 'fragmented', 'scratch'].map((name) => join(folder, `${name}.raw`))
  await mkdir(place)
  const program = join(build.folder, 'bin', 'run.js')
  const isSource = place.endsWith('a')
  const files: string[] = []
  for (const image of isSource ? images : images.slice(0, 1)) {
    // One for all, for some file systems take minutes to remove it; nobody writes to it.
    const own = image.endsWith('fragmented.raw') ? image : join(place, basename(image))
    if (own !== image) await run('cp', ['--reflink=auto', image, own])
    else await rm(`${image}.vmstore`, { recursive: true, force: true }) // Of the last site that served it.
    files.push(own)
  }
  const socket = join(place, 'nbd.sock')
  const options = ['serve', ...files, '--json', '--root', join(place, 'root'), '--peer', 'tcp://127.0.0.1:0']
  const nbd = ['--nbd', `nbd+unix:///?socket=${socket}`, '--log-level', 'error']
  const child = spawn(process.execPath, [program, ...options, ...nbd], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise<void>((over) => child.once('exit', () => over()))
  for await (const line of createInterface({ input: child.stdout })) {
    const said = JSON.parse(line)
    if (said.type !== 'listening') continue
    const client = new ControlClient(said.control)
    const stop = async () => {
      await client.close()
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), stopMs)
      await ended
      clearTimeout(timer)
    }
    return { client, uriOf: (disk) => `nbd+unix:///${disk}?socket=${socket}`, stop }
  }
  throw new Error(`${build.title} does not come up`)
}

async function makeImages(): Promise<void> {
  const piece = randomFillSync(Buffer.alloc(bytesPerMib))
  for (const [name, sizeBytes] of [
    ['victim', victimBytes],
    ['mover', moverBytes],
    ['scratch', 512 * bytesPerMib],
  ] as const) {
    await using file = await open(join(folder, `${name}.raw`), 'w')
    for (let at = 0; at < sizeBytes; at += piece.length) await file.write(piece, 0, piece.length, at)
  }
  await using file = await open(join(folder, 'fragmented.raw'), 'w')
  await file.truncate(2 * fragments * blockBytes)
  for (let index = 0; index < fragments; index++) await file.write(piece, 0, blockBytes, 2 * index * blockBytes)
  await file.sync()
}

async function reportOf(): Promise<string> {
  const head = builds.flatMap(({ title }) => [`${title}, ms`, 'to alone'])
  const rows = rowsTo.map(([row, base]) => {
    const cells = builds.flatMap(({ title }) => {
      const found = (name: string) => readings.filter((one) => one.build === title && one.row === name)
      const alone = found(base)
      const ratios = found(row).map(({ p99Ms }, index) => p99Ms / alone[index]!.p99Ms)
      return [median(found(row).map(({ p99Ms }) => p99Ms)).toFixed(3), median(ratios).toFixed(1)]
    })
    return `| ${[row, ...cells].join(' | ')} |`
  })
  const { stdout } = await run('git', ['rev-parse', '--short', 'HEAD'], { cwd: here })
  const kernel = /^\d+(\.\d+)*/.exec(release())?.[0]
  return [
    `# Beside others, ${new Date().toISOString().slice(0, 10)}`,
    '',
    `    npm run bench:neighbours -- --rounds ${rounds} --seconds ${seconds}${builds.length > 1 ? ' --against FOLDER' : ''}`,
    '',
    `- ${availableParallelism()} cores, Linux ${kernel}, Node ${process.version}, vmstore ${stdout.trim()}; nothing is pinned`,
    `- the 99th percentile of 4 KiB random reads from the page cache, depth 1, over a Unix socket, by fio; medians of ${rounds} rounds, in turn`,
    `- beside ${crowd} clients with 4 requests each: statuses over ${fragments} fragments; zeroing of 64 KiB. Or beside another disk of ${moverBytes / 2 ** 30} GiB: its copy over loopback, its comparison`,
    '- both sites and all clients share the cores; "source" and "destination" are measured at the same time',
    '',
    `| a guest's reads beside | ${head.join(' | ')} |`,
    `| --- |${head.map(() => ' ---: |').join('')}`,
    ...rows,
    '',
  ].join('\n')
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
