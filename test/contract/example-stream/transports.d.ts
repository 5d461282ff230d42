import type { StreamTransport } from 'vmstore/transport'
export declare const unixTransport: StreamTransport
export default function transports(): Promise<StreamTransport[]>
