#!/usr/bin/env node
// Starts vmstore. Any Node from 12 on can read this file, so that an old one can say what is missing.
/* global process */

var major = Number(process.versions.node.split('.')[0])

if (major < 24) {
  console.error(
    'vmstore needs Node 24 or later and this is ' +
      process.version +
      ': in a clone, `npm ci` brings the right one, and `npx vmstore` and the npm scripts use it there.',
  )
  process.exit(1)
}

// Before anything uses the pool: its size is read once. A few disks that hang must not stop all the others; a disk's share
// is in src/store/descriptor.ts.
if (!process.env.UV_THREADPOOL_SIZE) process.env.UV_THREADPOOL_SIZE = '64'

// node:sqlite is what it is, and we test against it; other warnings are shown.
var emitWarning = process.emitWarning
process.emitWarning = (warning, ...rest) => {
  var type = rest[0] && typeof rest[0] === 'object' ? rest[0].type : rest[0]
  if (type === 'ExperimentalWarning' && /SQLite/.test(String(warning))) return
  return emitWarning.call(process, warning, ...rest)
}

// The young generation of V8 stays small, from the first module on: a request leaves next to nothing that survives, and one
// of the usual 3 x 16 MiB is only memory.
import('node:v8')
  .then((v8) => {
    v8.setFlagsFromString('--semi-space-growth-factor=1')
    return import('./compile-cache.js')
  })
  .then((cache) => {
    cache.keepCompiledCode()
    return import('node:fs')
  })
  .then((fs) => {
    // A clone runs its TypeScript; a package that was built has JavaScript in its place.
    var isClone = fs.existsSync(new URL('../src/cli/main.ts', import.meta.url))
    return isClone ? import('../src/cli/main.ts') : import('../dist/src/cli/main.js')
  })
  .then((cli) => cli.main())
