// npm run plants [-- [--record] WORD...]: plants known bugs, one at a time, in a copy of the source, and sees whether the
// crash model finds each. A model that finds nothing proves nothing. With words: only plants whose name has one of them.
// --record: writes what was found into the table of docs/safety.md.
// Exits 1 when a plant is not found, does not fit the source any more, or only breaks the program; and when the model
// finds something in a copy in which nothing was planted: in its first seeds, or in one that is said to find a plant.

import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Plant, plants } from './plants-list.ts'

const top = join(import.meta.dirname, '../..')
const tablePath = join(top, 'docs/safety.md')
const seedLimit = 8000
const soundSeeds = 200
const timeLimitMs = 600_000

interface Finding {
  readonly seed: number
  /** What the model said, without what differs from run to run. */
  readonly sentence: string
}

/** Runs the model on a copy of the source. undefined: it finds nothing. */
function run(edit: (copy: string) => void, seeds: number, first = 1): Finding | undefined {
  const copy = mkdtempSync(join(tmpdir(), 'vmstore-plant-'))
  try {
    for (const folder of ['src', 'test/model']) cpSync(join(top, folder), join(copy, folder), { recursive: true })
    for (const file of ['test/random.ts', 'package.json']) cpSync(join(top, file), join(copy, file))
    symlinkSync(join(top, 'node_modules'), join(copy, 'node_modules'))
    edit(copy)
    const { status, stderr } = spawnSync(
      process.execPath,
      ['test/model/main.ts', '--seeds', `${seeds}`, '--first', `${first}`],
      {
        cwd: copy,
        encoding: 'utf8',
        timeout: timeLimitMs,
      },
    )
    if (status === 0) return undefined
    const seed = /Replay: npm run simulate -- --first (\d+) /.exec(stderr)?.[1]
    if (seed === undefined) throw new Error(`the program broke, or took too long:\n${stderr.slice(0, 1000)}`)
    return { seed: Number(seed), sentence: sentenceOf(stderr) }
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

function sentenceOf(stderr: string): string {
  const first = stderr.split('\n')[0]!.replace(/^(AssertionError \[ERR_ASSERTION\]|Error|TypeError): /, '')
  return first
    .replace(/^seed \d+ at \d+ ms: /, '')
    .replace(/[|]/g, '/')
    .slice(0, 100)
}

function plantInto(copy: string, plant: Plant): void {
  const path = join(copy, plant.file)
  const text = readFileSync(path, 'utf8')
  if (!text.includes(plant.was)) throw new Error(`the plant does not fit ${plant.file} any more`)
  writeFileSync(
    path,
    text.replace(plant.was, () => plant.becomes),
  )
}

/** Puts the findings into their rows; rows of other plants stay. */
function record(found: ReadonlyMap<string, Finding>): void {
  const lines = readFileSync(tablePath, 'utf8').split('\n')
  const begin = lines.findIndex((line) => line.startsWith('| plant |'))
  const end = lines.findIndex((line, index) => index > begin && !line.startsWith('|'))
  const before = new Map(lines.slice(begin + 2, end).map((line) => [line.split('|')[1]!.trim(), line]))
  const rows = plants.flatMap(({ name, file }) => {
    const finding = found.get(name)
    const row = finding ? `| ${name} | ${file} | ${finding.seed} | ${finding.sentence} |` : before.get(name)
    return row === undefined ? [] : [row]
  })
  lines.splice(begin + 2, end - begin - 2, ...rows)
  writeFileSync(tablePath, lines.join('\n'))
}

const { values, positionals } = parseArgs({ options: { record: { type: 'boolean' } }, allowPositionals: true })
const wanted = plants.filter(({ name }) => positionals.length === 0 || positionals.some((word) => name.includes(word)))
const found = new Map<string, Finding>()
let faults = 0
const fault = (sentence: string) => {
  faults++
  process.stdout.write(`${sentence}\n`)
}
const sound = run(() => {}, soundSeeds)
if (sound) fault(`NOTHING PLANTED, and seed ${sound.seed} fails: ${sound.sentence}`)
for (const plant of wanted) {
  try {
    const finding = run((copy) => plantInto(copy, plant), seedLimit)
    if (finding && run(() => {}, 1, finding.seed)) {
      fault(`NOT FOUND: ${plant.name}: seed ${finding.seed} fails without it too`)
    } else if (finding) {
      found.set(plant.name, finding)
      process.stdout.write(`found by seed ${finding.seed}: ${plant.name}\n    ${finding.sentence}\n`)
    } else fault(`NOT FOUND: ${plant.name}`)
  } catch (error) {
    fault(`FAULTY: ${plant.name}: ${(error as Error).message}`)
  }
}
if (values.record) record(found)
process.exitCode = faults === 0 ? 0 : 1
