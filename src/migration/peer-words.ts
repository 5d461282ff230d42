// What a peer says in words, which ends on terminals and in logs: without control characters, and no longer than told.

import { z } from 'zod'
import { printable } from '../link/wire/messages.ts'

export const peerWords = (maxLength: number, minLength = 0) =>
  z.string().min(minLength).max(maxLength).transform(printable)
