// The project's own text files, and what the code files among them import. Read anew at each run; nothing is cached.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export const projectFolder = join(import.meta.dirname, '../..')

const generated = ['node_modules', '.git', 'dist', 'coverage', 'results', 'package-lock.json', 'oclif.manifest.json']

/** Paths below the project's folder, of the files whose names end so, below `folders`. */
export function filesBelow(folders: readonly string[], ending: RegExp): string[] {
  return folders.flatMap((folder) => walk(folder)).filter((path) => ending.test(path))
}

export function contentOf(path: string): string {
  return readFileSync(join(projectFolder, path), 'utf8')
}

export interface Import {
  /** The importing file, such as 'src/disk/disk.ts'. */
  readonly from: string
  /** As written, such as '../nbd/export.ts'. */
  readonly specifier: string
  readonly isTypeOnly: boolean
}

/** Static, dynamic and side-effect imports, re-exports, and files that are started as workers. */
export function importsOf(path: string): Import[] {
  const content = withoutComments(contentOf(path))
  const found: Import[] = []
  for (const [, words, specifier] of content.matchAll(/^(?:import|export)\s([^'"`;=]*?\sfrom\s)?\s*'([^']+)'/gm)) {
    found.push({ from: path, specifier: specifier!, isTypeOnly: /^type\s/.test(words ?? '') })
  }
  for (const [, specifier] of content.matchAll(/\bimport\(\s*'([^']+)'/g)) {
    found.push({ from: path, specifier: specifier!, isTypeOnly: false })
  }
  for (const [, specifier] of content.matchAll(/\bnew URL\(\s*'(\.[^']+)'\s*,\s*import\.meta\.url/g)) {
    found.push({ from: path, specifier: specifier!, isTypeOnly: false })
  }
  return found
}

function walk(folder: string): string[] {
  const entries = readdirSync(join(projectFolder, folder), { withFileTypes: true })
  return entries
    .filter((entry) => !generated.includes(entry.name))
    .flatMap((entry) => {
      const path = join(folder, entry.name)
      return entry.isDirectory() ? walk(path) : entry.isFile() ? [path] : []
    })
}

function withoutComments(content: string): string {
  return content.replace(/^\s*\/\/.*$/gm, '').replace(/^\s*\/\*[\s\S]*?\*\//gm, '')
}
