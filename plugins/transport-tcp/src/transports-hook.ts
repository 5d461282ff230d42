export default async function transports(): Promise<unknown[]> {
  return [1 as number]
}
