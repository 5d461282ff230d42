// Where this vmstore lies: the folder that has bin/run.js. In a clone these files lie in its src/; in a package that was
// built, in dist/src/.

import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

export const packageFolder = folderWith('bin/run.js', import.meta.dirname)
export const runFile = join(packageFolder, 'bin', 'run.js')
/** Where the package.json lies that oclif reads, and below it src/commands and plugins/. */
export const codeFolder = join(import.meta.dirname, '../..')

function folderWith(path: string, from: string): string {
  for (let folder = from; folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, path))) return folder
  }
  throw new Error(`${path} is missing above ${from}: install vmstore again`)
}
