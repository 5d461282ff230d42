#!/usr/bin/env node
// What `npx vmstore` runs in a clone.
import '../bin/run.js'
