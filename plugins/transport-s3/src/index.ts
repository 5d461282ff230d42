export { S3Transport } from './s3-transport.ts'
