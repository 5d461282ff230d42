// What watchers are told of a bound of the copy. Pure.

const mebibyte = 2 ** 20

export function rateSentence(maxRate: number | null): string {
  if (maxRate === null) return 'the background copy goes on without a bound'
  return `the background copy goes on at ${Number((maxRate / mebibyte).toFixed(2))} MiB/s at most`
}
