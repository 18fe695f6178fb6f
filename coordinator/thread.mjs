/**
 * Where a worker thread begins: Node 20 reads no TypeScript, so tsx is registered before `workerData.entry` is loaded.
 */
import { workerData } from 'node:worker_threads'
import { register } from 'tsx/esm/api'

register()
await import(workerData.entry)
