// What holds for every file of the project.

import assert from 'node:assert/strict'
import { Plugin } from '@oclif/core'
import { contentOf, filesBelow, projectFolder } from './sources.ts'

const everywhere = filesBelow(['.'], /\.(ts|js|c|json|md|ya?ml|sh)$|^\.ci\/|^LICENSE$/)

/** 'path:line: what stands there', of the lines that match. */
function linesWith(pattern: RegExp, paths: readonly string[]): string[] {
  return paths.flatMap((path) =>
    contentOf(path)
      .split('\n')
      .flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  )
}

describe('the tree', () => {
  it('oclif.manifest.json is what `npm run manifest` would make', async () => {
    const plugin = new Plugin({
      errorOnManifestCreate: true,
      ignoreManifest: true,
      respectNoCacheDefault: true,
      root: projectFolder,
      type: 'core',
    })
    await plugin.load()
    const made = JSON.parse(JSON.stringify(plugin.manifest)) as { commands: object }
    const kept = JSON.parse(contentOf('oclif.manifest.json')) as { commands: object }
    const next = 'run `npm run manifest` and commit what it writes'
    assert.deepEqual(Object.keys(kept.commands).sort(), Object.keys(made.commands).sort(), next)
    assert.deepEqual(kept, made, next)
  })

  it('no test is focused, so that all run', () => {
    assert.deepEqual(
      linesWith(/\b(?:describe|context|suite|it|specify|test)\.only\b|\bf(?:describe|it)\(/, everywhere),
      [],
    )
  })

  it('no test skips without a reason that is told at the end of the run: skipHere and needTool of test/tools.ts', () => {
    const tests = filesBelow(['test', 'plugins'], /\.ts$/).filter((path) => path !== 'test/tools.ts')
    assert(tests.length > 100)
    assert.deepEqual(linesWith(/[.]skip\b|\bx(?:it|describe|specify)\(|\bit\((['"`]).*\1\)\s*$/, tests), [])
  })

  it('nothing is left for later in a comment: what is to be done is an issue', () => {
    assert.deepEqual(linesWith(/\b(?:TO(?:DO)|FIX(?:ME)|XX(?:X))\b/, everywhere), [])
  })

  it('no path of the machine on which it was written', () => {
    assert.deepEqual(linesWith(/(?<![\w.~-])\/(?:home|root|work|Users)\/\w/, everywhere), [])
  })
})
