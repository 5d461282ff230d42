// Whom connections of a network are counted by. Pure.

/**
 * undefined: it is not known. A host of IPv6 has at least 2^64 addresses of its own, so that those of one /64 count as one;
 * an address of IPv4 is the same in either writing.
 */
export function sourceOfAddress(address: string | undefined): string | undefined {
  if (address === undefined) return undefined
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '')
  return plain.includes(':') ? `${networkOf(plain)}::/64` : plain
}

/** The first four groups. */
function networkOf(address: string): string {
  const [head = '', tail] = address.toLowerCase().split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const after = tail === '' ? 0 : tail.split(':').length
    // Where `::` stands for fewer groups than are wanted, the tail gives the rest.
    const zeros = Math.max(0, 8 - groups.length - after)
    groups.push(...Array.from({ length: zeros }, () => '0'), ...(tail === '' ? [] : tail.split(':')))
  }
  return groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')
}
