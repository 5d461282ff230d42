#!/usr/bin/env node
process.env.UV_THREADPOOL_SIZE ??= '16'
const { execute } = await import('@oclif/core')
await execute({ dir: import.meta.url })
