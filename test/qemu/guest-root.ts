// A root file system for test guests in which this project runs: Node, what the project needs of node_modules, and programs
// of this machine with their libraries, as an ext4 image.

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { findTool } from '../tools.ts'
import { addProgram } from './guest-image.ts'

const project = join(import.meta.dirname, '../..')
const sources = ['bin', 'src', 'plugins', 'package.json', 'oclif.manifest.json']
const sizeBytes = 512 * 2 ** 20
const folders = ['dev', 'etc', 'm', 'proc', 'run', 'sys', 'tmp']

/** The path of the image. In it: /node, the programs by their names, and /vmstore. */
export function buildRoot(folder: string, programs: readonly string[]): string {
  const tree = join(folder, 'root')
  for (const each of [...folders, 'vmstore']) mkdirSync(join(tree, each), { recursive: true })
  writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0:root:/run:/bin/sh\n') // Node asks who it is.
  addProgram(tree, process.execPath)
  for (const program of programs) addProgram(tree, findTool(program)!)
  for (const each of sources) copy(each, tree)
  for (const each of neededModules()) copy(each, tree)
  const image = join(folder, 'root.img')
  execFileSync(findTool('mke2fs')!, ['-q', '-F', '-t', 'ext4', '-d', tree, image, String(sizeBytes / 1024)])
  return image
}

function copy(path: string, tree: string): void {
  // A package that lies in another one is asked for by itself.
  const filter = (from: string) => from === join(project, path) || basename(from) !== 'node_modules'
  cpSync(join(project, path), join(tree, 'vmstore', path), { recursive: true, dereference: true, filter })
}

/** Folders of the packages that the project needs where it runs, over others too; from the project's folder. */
function neededModules(): string[] {
  const found = new Map<string, string>()
  const visit = (from: string): void => {
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
      readFileSync(join(from, 'package.json'), 'utf8'),
    )
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      const path = placeOf(name, from)
      if (path === undefined || found.has(path)) continue // An optional one is for another kind of machine.
      found.set(path, relative(project, path))
      visit(path)
    }
  }
  visit(project)
  return [...found.values()].sort()
}

/** Where Node would find the package, as the path by which it is found: a workspace is a link to another place. */
function placeOf(name: string, from: string): string | undefined {
  for (let folder = from; folder.startsWith(project); folder = dirname(folder)) {
    const path = join(folder, 'node_modules', name)
    if (existsSync(path)) return path
    if (realpathSync(folder) !== folder) folder = realpathSync(folder)
  }
  return undefined
}
