// The documents that people copy from, and the pieces of them that programs read.

import { contentOf, filesBelow } from '../architecture/sources.ts'

export interface Snippet {
  /** Where it begins, such as 'README.md:77'. */
  readonly place: string
  readonly text: string
}

/** README.md, docs/*.md and what lies in the folders of docs/: paths below the project's folder. */
export const documents: readonly string[] = ['README.md', ...filesBelow(['docs'], /./)]

/** Fenced blocks of a language, as ```xml. */
export function fenced(language: string): Snippet[] {
  return inProse(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))
}

/** What stands between single backquotes on one line of prose. */
export function quoted(): Snippet[] {
  return inProse(/(?<!`)`([^`\n]+)`(?!`)/g)
}

function inProse(pattern: RegExp): Snippet[] {
  const prose = documents.filter((path) => path.endsWith('.md'))
  return prose.flatMap((path) => {
    const content = contentOf(path)
    return [...content.matchAll(pattern)].map((match) => {
      const line = content.slice(0, match.index).split('\n').length
      return { place: `${path}:${line}`, text: match[1]! }
    })
  })
}
