// `npm run build`, which `npm pack` runs: makes dist/, the vmstore that is installed. Node strips no types below node_modules,
// so that TypeScript becomes JavaScript here. A clone never runs dist/.
//
// What always holds: dist/ has the layout of the clone (src/, plugins/, package.json, oclif.manifest.json), nothing in it
// names a .ts file, and a bundled plugin reaches vmstore by a path, so that no registry is asked for either.

import { execFileSync } from 'node:child_process'
import { cpSync, globSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

interface PackageJson {
  readonly name: string
  readonly dependencies?: Readonly<Record<string, string>>
  readonly exports?: Readonly<Record<string, unknown>>
  readonly oclif: { readonly hooks?: Readonly<Record<string, string>> }
}

const top = join(import.meta.dirname, '..')
const built = join(top, 'dist')

const readJson = (path: string): PackageJson => JSON.parse(readFileSync(path, 'utf8'))
const writeJson = (path: string, value: unknown): void => writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`)
/** 'a.ts' becomes 'a.js', wherever a file of ours is named in quotes. */
const withoutTypes = (text: string): string => text.replaceAll(/(?<=['"][^'"\n]*)\.ts(?=['"])/g, '.js')

function build(): void {
  rmSync(built, { recursive: true, force: true })
  execFileSync(
    process.execPath,
    [join(top, 'node_modules/typescript/bin/tsc'), '-p', join(top, 'tsconfig.build.json')],
    {
      stdio: 'inherit',
    },
  )
  for (const path of globSync(join(built, '**/*.{js,d.ts}'))) mend(path)
  for (const path of globSync('src/**/*.{html,css,svg}', { cwd: top })) copy(path) // What no compiler makes.
  const own = readJson(join(top, 'package.json'))
  for (const name of readdirSync(join(top, 'plugins'))) buildPlugin(name, own)
  const { version, type, engines, dependencies, oclif } = own as unknown as Record<string, unknown>
  writeJson(join(built, 'package.json'), { name: own.name, version, private: true, type, engines, dependencies, oclif })
  writeFileSync(
    join(built, 'oclif.manifest.json'),
    withoutTypes(readFileSync(join(top, 'oclif.manifest.json'), 'utf8')),
  )
}

/** The compiler rewrites what is imported; workers, types and vmstore's own name are left to us. */
function mend(path: string): void {
  const text = readFileSync(path, 'utf8')
  const toTransport = relative(dirname(path), join(built, 'src/transport'))
  const mended = text
    .replaceAll(/(new URL\(\s*'\.[^']*)\.ts'/g, "$1.js'")
    .replaceAll(/((?:from|import)\s*\(?\s*['"]\.[^'"]*)\.ts(?=['"])/g, '$1.js')
    .replaceAll(/(from\s+['"])vmstore\/transport(?=['"])/g, `$1${toTransport}/index.js`)
  if (mended !== text) writeFileSync(path, mended)
}

function copy(path: string): void {
  mkdirSync(dirname(join(built, path)), { recursive: true })
  cpSync(join(top, path), join(built, path))
}

function buildPlugin(name: string, own: PackageJson): void {
  const plugin = readJson(join(top, 'plugins', name, 'package.json'))
  for (const dependency of Object.keys(plugin.dependencies ?? {})) {
    if (own.dependencies?.[dependency] === undefined)
      throw new Error(
        `${plugin.name} needs ${dependency}: add it to the dependencies of vmstore, which brings the plugin`,
      )
  }
  writeFileSync(
    join(built, 'plugins', name, 'package.json'),
    withoutTypes(readFileSync(join(top, 'plugins', name, 'package.json'), 'utf8')),
  )
}

build()
