export { DirTransport } from './dir-transport.ts'
