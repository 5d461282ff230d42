// A registry on loopback with the packages that this clone has, so that `npm install` resolves and unpacks as it does for
// anybody, and asks nobody else. What the clone lacks is not there: an optional package for another kind of machine.

import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { findTool } from '../tools.ts'

interface PackageJson {
  readonly name: string
  readonly version: string
  readonly bundleDependencies?: unknown
  readonly bundledDependencies?: unknown
}

export interface CloneRegistry extends AsyncDisposable {
  readonly url: string
  /** Names that were asked for and are not there. */
  readonly refused: readonly string[]
}

export async function serveRegistry(modules: string): Promise<CloneRegistry> {
  const folders = new Map([...packagesBelow(modules)].map((folder) => [keyOf(readPackage(folder)), folder]))
  const refused: string[] = []
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url!, 'http://registry').pathname.slice(1))
    const archive = path.match(/^-\/(.+)\.tgz$/)?.[1]
    if (archive !== undefined && folders.has(archive)) {
      pack(folders.get(archive)!).pipe(response)
      return
    }
    const found = [...folders.values()].map(readPackage).filter(({ name }) => name === path)
    if (found.length === 0) refused.push(path)
    response.writeHead(found.length > 0 ? 200 : 404, { 'content-type': 'application/json' })
    response.end(JSON.stringify(found.length > 0 ? packument(found, url()) : { error: 'not found' }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  return {
    url: url(),
    refused,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

const keyOf = ({ name, version }: PackageJson): string => `${name}@${version}`
const readPackage = (folder: string): PackageJson => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
const bundles = (one: PackageJson): boolean => Boolean(one.bundleDependencies ?? one.bundledDependencies)

/** Packages of a node_modules folder and, below them, those that they do not bring themselves. */
function* packagesBelow(modules: string): Generator<string> {
  for (const entry of readdirSync(modules, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name.startsWith('.')) continue
    const path = join(modules, entry.name)
    if (entry.name.startsWith('@')) yield* packagesBelow(path)
    else {
      yield path
      const hasOwn = readdirSync(path).includes('node_modules') && !bundles(readPackage(path))
      if (hasOwn) yield* packagesBelow(join(path, 'node_modules'))
    }
  }
}

function packument(found: readonly PackageJson[], url: string): object {
  const versions = found.map((one) => [one.version, { ...one, dist: { tarball: `${url}-/${keyOf(one)}.tgz` } }])
  return {
    name: found[0]!.name,
    'dist-tags': { latest: found.at(-1)!.version },
    versions: Object.fromEntries(versions),
  }
}

function pack(folder: string): NodeJS.ReadableStream {
  const own = bundles(readPackage(folder)) ? [] : ['--exclude=./node_modules']
  const words = ['-C', folder, ...own, '--transform=s,^\\.,package,', '--use-compress-program=gzip -1', '-cf', '-', '.']
  const child = spawn(findTool('tar')!, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  return child.stdout
}
