// How a migration is named at the command line; the daemon finds it.

import { Args } from '@oclif/core'

export const migrationArgument = Args.string({
  description: 'its id, the beginning of it, or the name of a disk of it',
  required: true,
})
