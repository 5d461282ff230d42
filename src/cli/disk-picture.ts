// The picture of disks that move: where most of each part is, at any width. Pure.

import type { MigrationView, MovedDiskView } from '../control/types.ts'

type Letter = 'h' | 'a' | 'w' | 's' | 'z'
const letters: readonly Letter[] = ['h', 'a', 'w', 's', 'z']

const unicode: Readonly<Record<Letter, string>> = { h: '█', a: '▓', w: '▒', s: '░', z: '·' }
const ascii: Readonly<Record<Letter, string>> = { h: '#', a: '+', w: 'w', s: '-', z: '.' }

export interface PictureStyle {
  /** Columns. */
  readonly width: number
  readonly isUnicode: boolean
}

const leastWidth = 20
/** Of several disks; a move may have 64. */
const mostPictures = 6

/** One line a disk, and what the signs mean; none while nothing is known. */
export function pictureLines(view: MigrationView, style: PictureStyle): readonly string[] {
  const pictured = view.disks.filter(({ picture, hasLeft }) => picture && !hasLeft).slice(0, mostPictures)
  if (pictured.length === 0 || style.width < leastWidth) return []
  const signs = style.isUnicode ? unicode : ascii
  const names = view.disks.length > 1 ? Math.max(...pictured.map(({ name }) => name.length)) : 0
  const nameWidth = Math.min(names, style.width - leastWidth)
  const lines = pictured.map((disk) => lineOf(disk, nameWidth, style.width, signs))
  return [...lines, legendOf(view, signs)]
}

function lineOf(
  { name, picture }: MovedDiskView,
  nameWidth: number,
  width: number,
  signs: Record<Letter, string>,
): string {
  const label = nameWidth === 0 ? '' : `${name.slice(0, nameWidth).padEnd(nameWidth)} `
  return label + resized(picture!, Math.max(1, width - label.length), signs)
}

function legendOf({ role, peer }: MigrationView, signs: Readonly<Record<Letter, string>>): string {
  const [there, back] = role === 'source' ? [`at ${peer}`, 'here'] : ['here', `at ${peer}`]
  return `${signs.h} ${there} ${signs.a} copied ahead ${signs.w} guest wrote ${signs.s} ${back} ${signs.z} zero`
}

/** Each column shows what most of the cells under it are; narrower disks are stretched. */
function resized(picture: string, width: number, signs: Readonly<Record<Letter, string>>): string {
  let line = ''
  for (let column = 0; column < width; column++) {
    const from = Math.floor((column * picture.length) / width)
    const to = Math.max(from + 1, Math.floor(((column + 1) * picture.length) / width))
    line += signs[mostOf(picture.slice(from, to))]
  }
  return line
}

function mostOf(cells: string): Letter {
  let most: Letter = 's'
  let mostCount = 0
  for (const letter of letters) {
    const count = cells.split(letter).length - 1
    if (count > mostCount) [most, mostCount] = [letter, count]
  }
  return most
}

/** Whether a terminal shows more than ASCII, by what its environment says (POSIX: LC_ALL before LC_CTYPE before LANG). */
export function speaksUnicode(environment: Readonly<Record<string, string | undefined>>): boolean {
  const locale = environment['LC_ALL'] || environment['LC_CTYPE'] || environment['LANG'] || ''
  return /utf-?8/i.test(locale) && environment['TERM'] !== 'dumb' && environment['TERM'] !== 'linux'
}
