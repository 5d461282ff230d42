import type { ObjectTransport } from 'vmstore/transport'
export declare const sqliteTransport: ObjectTransport
export default function transports(): Promise<ObjectTransport[]>
