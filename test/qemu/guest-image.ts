// What a test guest boots: the kernel of Debian's cloud image with the modules that it needs, a C file as its init, and
// what programs of this machine the init starts.

import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { findTool, needTool } from '../tools.ts'

const kernelPackage = 'linux-image-cloud-amd64'

export interface GuestImage {
  readonly kernel: string
  readonly initramfs: string
}

export interface GuestParts {
  /** Beside this file; becomes /init. */
  readonly init: string
  /** Kernel modules, without those that they need. */
  readonly modules: readonly string[]
  /** Programs of this machine, found under their names in the root folder; what they are linked to comes with them. */
  readonly programs?: readonly string[]
}

/** Skips, by name, what cannot run here: a package that is no program is asked for like one. */
export function needGuestTools(context: Mocha.Context): void {
  needTool(
    context,
    ...['qemu-system-x86_64', 'gcc', 'cpio'],
    ...(kernelVersion() === undefined ? [kernelPackage] : []),
    ...(findTool('gcc') && !hasStaticLibrary() ? ['libc6-dev'] : []),
  )
}

export function buildGuest(folder: string, parts: GuestParts): GuestImage {
  const version = kernelVersion()!
  const tree = join(folder, 'initramfs')
  for (const each of ['dev', 'm', 'modules', 'proc', 'sys']) mkdirSync(join(tree, each), { recursive: true })
  const source = join(import.meta.dirname, parts.init)
  execFileSync('gcc', ['-O2', '-Wall', '-Werror', '-static', '-pthread', '-s', '-o', join(tree, 'init'), source])
  const modules = modulesInOrder(version, parts.modules)
  for (const path of modules) copyFileSync(path, join(tree, 'modules', basename(path)))
  writeFileSync(join(tree, 'modules', 'order'), modules.map((path) => `${basename(path)}\n`).join(''))
  for (const program of parts.programs ?? []) addProgram(tree, findTool(program)!)
  const names = ['.', ...readdirSync(tree, { recursive: true, encoding: 'utf8' }).sort()] // A folder before what is in it.
  const archive = execFileSync('cpio', ['--create', '--format=newc', '--quiet'], {
    cwd: tree,
    input: names.join('\n'),
    maxBuffer: 64 * 2 ** 20,
  })
  const initramfs = join(folder, 'initramfs.gz')
  writeFileSync(initramfs, gzipSync(archive, { level: 1 }))
  return { kernel: join('/boot', `vmlinuz-${version}`), initramfs }
}

/** The newest of the installed ones. */
function kernelVersion(): string | undefined {
  if (!existsSync('/boot')) return undefined
  const versions = readdirSync('/boot').flatMap((name) => /^vmlinuz-(.+-cloud-amd64)$/.exec(name)?.[1] ?? [])
  return versions
    .filter((version) => existsSync(dependenciesFile(version)))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1)
}

function dependenciesFile(version: string): string {
  return join('/lib/modules', version, 'modules.dep')
}

/** Paths of the wanted modules and of all that they need, these first. What is built into the kernel is in no list. */
function modulesInOrder(version: string, wantedModules: readonly string[]): string[] {
  const needs = new Map<string, string[]>()
  for (const line of readFileSync(dependenciesFile(version), 'utf8').split('\n')) {
    const [path = '', others = ''] = line.split(':')
    needs.set(path, others.split(' ').filter(Boolean))
  }
  const ordered = new Set<string>()
  for (const wanted of wantedModules) {
    const path = [...needs.keys()].find((each) => basename(each).split('.')[0] === wanted)
    if (path) for (const each of [...needs.get(path)!.toReversed(), path]) ordered.add(each)
  }
  const packed = [...ordered].find((path) => !path.endsWith('.ko'))
  if (packed) throw new Error(`the guest's init loads plain modules only, and this kernel has ${packed}`)
  return [...ordered].map((path) => join('/lib/modules', version, path))
}

/** The program, and the libraries that ldd names, where it names them. */
export function addProgram(tree: string, path: string): void {
  copyFileSync(path, join(tree, basename(path)))
  const told = execFileSync('ldd', [path], { encoding: 'utf8' })
  for (const [, library] of told.matchAll(/(?:=> |^\s*)(\/\S+) \(/gm)) {
    mkdirSync(join(tree, dirname(library!)), { recursive: true })
    copyFileSync(library!, join(tree, library!))
  }
}

/** gcc answers with the bare name what it does not find. */
function hasStaticLibrary(): boolean {
  return execFileSync('gcc', ['-print-file-name=libc.a'], { encoding: 'utf8' }).startsWith('/')
}
