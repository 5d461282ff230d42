// The part of Reflect's metadata that @peculiar/x509 needs of its host when it is loaded: its container keeps the types of
// constructors by it. Import this before the library. Leaves a full implementation alone.

type Metadata = Map<unknown, unknown>

const all = new WeakMap<object, Metadata>()

function own(target: object): Metadata {
  let metadata = all.get(target)
  if (!metadata) {
    metadata = new Map()
    all.set(target, metadata)
  }
  return metadata
}

function getMetadata(key: unknown, target: object | null): unknown {
  for (let each = target; each; each = Object.getPrototypeOf(each)) {
    const metadata = all.get(each)
    if (metadata?.has(key)) return metadata.get(key)
  }
  return undefined
}

if (!('getMetadata' in Reflect)) {
  Object.assign(Reflect, {
    getMetadata,
    getOwnMetadata: (key: unknown, target: object) => all.get(target)?.get(key),
    hasMetadata: (key: unknown, target: object) => getMetadata(key, target) !== undefined,
    hasOwnMetadata: (key: unknown, target: object) => all.get(target)?.has(key) ?? false,
    defineMetadata: (key: unknown, value: unknown, target: object) => void own(target).set(key, value),
    metadata: (key: unknown, value: unknown) => (target: object) => void own(target).set(key, value),
  })
}
