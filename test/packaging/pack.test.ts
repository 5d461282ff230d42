// `npm pack`, and what comes of it where it is installed.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { needTool } from '../tools.ts'
import { serveRegistry } from './registry-of-clone.ts'

const project = join(import.meta.dirname, '../..')
const modules = join(project, 'node_modules')
const npm = join(modules, 'npm/bin/npm-cli.js')
/** What a clone has, and `npm pack` looks at. */
const wanted =
  /^(?:bin|src|plugins|packaging|docs|LICENSE|README\.md|\.npmrc|package\.json|tsconfig.*\.json|oclif\.manifest\.json)$/

describe('the package that is installed', function () {
  this.timeout(480_000)
  const folder = mkdtempSync(join(tmpdir(), 'vmstore-pack-'))
  const empty = join(folder, 'empty')
  const home = join(folder, 'home')
  const env = {
    ...ownEnvironment(),
    HOME: home,
    npm_config_cache: join(folder, 'cache'),
    npm_config_userconfig: join(folder, 'npmrc'),
  }
  let refused: readonly string[] = []

  before(async function () {
    needTool(this, 'tar', 'gzip')
    // A copy, so that a dist/ which somebody built in the clone, or builds now, is left alone.
    const clone = join(folder, 'clone')
    for (const name of readdirSync(project).filter((each) => wanted.test(each)))
      cpSync(join(project, name), join(clone, name), { recursive: true })
    symlinkSync(modules, join(clone, 'node_modules'))
    for (const each of [empty, home]) mkdirSync(each)
    execFileSync(process.execPath, [npm, 'pack', '--pack-destination', folder], { cwd: clone, env, stdio: 'pipe' })
    const archive = readdirSync(folder).find((name) => name.endsWith('.tgz'))
    assert(archive, 'npm pack made an archive')
    await using registry = await serveRegistry(modules)
    refused = registry.refused
    const install = [npm, 'install', '--no-audit', '--no-fund', '--registry', registry.url, join(folder, archive)]
    await promisify(execFile)(process.execPath, install, { cwd: empty, env })
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  const vmstore = (...words: string[]): string =>
    execFileSync(process.execPath, [join(empty, 'node_modules/.bin/vmstore'), ...words], {
      cwd: empty,
      env,
      encoding: 'utf8',
    })

  it('asks the registry for no package of ours', () => {
    assert.deepEqual(
      refused.filter((name) => /vmstore/.test(name)),
      [],
    )
  })

  it('has JavaScript alone', () => {
    const paths = readdirSync(join(empty, 'node_modules/vmstore'), { recursive: true, encoding: 'utf8' })
    assert(paths.includes('dist/src/commands/serve.js'))
    assert.deepEqual(
      paths.filter((path) => /(?<!\.d)\.ts$/.test(path)),
      [],
    )
  })

  it('names its commands and the transports that come with it', () => {
    assert.match(vmstore('--version'), /^vmstore\/\d/)
    const help = vmstore('migrate', '--help')
    assert.match(help, /--switchover/)
    const listed = JSON.parse(vmstore('transport', 'list', '--json')) as { plugin: string }[]
    const bundled = readdirSync(join(project, 'plugins')).map((name) => `@vmstore/${name}`)
    assert.deepEqual([...new Set(listed.map(({ plugin }) => plugin))].sort(), bundled.sort())
  })

  it('moves a disk between two sites', () => {
    const lines = vmstore('demo', '--size', '32M', '--json').trim().split('\n')
    const result = JSON.parse(lines.at(-1)!) as { type: string }
    assert.equal(result.type, 'result')
  })

  it('lets a plugin import the contract, and run its suite over a driver', () => {
    const spec = join(empty, 'driver.spec.mjs')
    writeFileSync(
      spec,
      `import { contractVersion, TransportError } from 'vmstore/transport'
import { streamTransportContract } from 'vmstore/transport/testkit'
import { TcpTransport } from './node_modules/vmstore/dist/plugins/transport-tcp/src/index.js'
if (contractVersion !== 1 || new TransportError('denied', 'so').code !== 'denied') throw new Error('another contract')
streamTransportContract('tcp, as installed', () => new TcpTransport(), () => new URL('tcp://127.0.0.1:0'))
`,
    )
    const mocha = join(modules, 'mocha/bin/mocha.js')
    const told = execFileSync(process.execPath, [mocha, '--no-config', '--timeout', '60000', spec], {
      cwd: empty,
      env,
      encoding: 'utf8',
    })
    assert.match(told, /[1-9]\d* passing/)
  })

  it('has types for plugins written in TypeScript', () => {
    const types = join(empty, 'node_modules/vmstore/dist/src/transport/index.d.ts')
    assert(existsSync(types))
    writeFileSync(
      join(empty, 'driver.ts'),
      "import { contractVersion, type TransportDriver } from 'vmstore/transport'\nexport const drivers: TransportDriver[] = []\nexport const version: 1 = contractVersion\n",
    )
    const nodeTypes = ['--typeRoots', join(modules, '@types'), '--types', 'node']
    const words = ['--noEmit', '--strict', '--module', 'nodenext', '--ignoreConfig', ...nodeTypes, 'driver.ts']
    execFileSync(process.execPath, [join(modules, 'typescript/bin/tsc'), ...words], { cwd: empty, env, stdio: 'pipe' })
  })

  it('is of the version that the clone has, in every package.json of ours', () => {
    const versionOf = (path: string) =>
      (JSON.parse(readFileSync(join(project, path), 'utf8')) as { version: string }).version
    assert.equal(versionOf('src/package.json'), versionOf('package.json'))
  })
})

/** Without what npm and the user's own settings put there. Node is the one that runs this. */
function ownEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|VMSTORE_|XDG_|NODE_OPTIONS)/i.test(name))
  const path = [join(modules, 'node/bin'), process.env['PATH']].join(delimiter)
  return { ...Object.fromEntries(kept), PATH: path }
}
