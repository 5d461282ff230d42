// An answer that is an error, by the name that S3 gives it.

export class S3Failure extends Error {
  readonly status: number
  readonly code: string
  readonly headers: Readonly<Record<string, string>>
  constructor(status: number, code: string, message = code, headers: Readonly<Record<string, string>> = {}) {
    super(message)
    this.status = status
    this.code = code
    this.headers = headers
  }
}

/** This server does less than S3, and says so of everything else. */
export const notImplemented = (what: string): S3Failure =>
  new S3Failure(501, 'NotImplemented', `${what} is not implemented`)
