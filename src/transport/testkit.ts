// The transport contract as a mocha suite: any author runs it over a driver, ours run it too. It needs mocha's globals and
// nothing else. Every wait here ends by the test's own timeout; nothing sleeps.

export { objectTransportContract } from './testkit-object.ts'
export { testOptions } from './testkit-options.ts'
export { streamTransportContract } from './testkit-stream.ts'
