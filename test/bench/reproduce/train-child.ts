/**
 * `npm run train` as a child of the reproduction: it ends, leaving a run to go on with, when its parent does, however
 * that ended.
 */
process.once('disconnect', () => process.kill(process.pid, 'SIGINT'))
// Of train.ts only what it does is wanted, which begins with the import.
await import('../../../coordinator/train.ts')

export {}
