/**
 * A process with several volunteers in it, each with a connection, an identity and a pace of its own: a crowd of 32 is
 * a few processes. They compute in one thread, one after the other, so the pace must leave room for them all.
 * It ends when its parent does.
 */
import { MemoryBlobs } from '../../../client/volunteer/blobs.ts'
import type { Engine } from '../../../client/volunteer/compute/engine.ts'
import { openEngine } from '../../../client/volunteer/compute/engines.ts'
import { Volunteer } from '../../../client/volunteer/volunteer.ts'

/** The only argument, as JSON. */
export interface CrowdProcessOptions {
  readonly url: string
  readonly run: string
  /** One for each volunteer: examples a second, or null for as fast as it goes. */
  readonly paces: readonly (number | null)[]
}

const { url, run, paces } = JSON.parse(process.argv[2]) as CrowdProcessOptions
const cache = new MemoryBlobs()
let opening: Promise<unknown> = Promise.resolve()
/** One after the other: they share a backend, which is started by the first. */
function engine(): Promise<Engine> {
  const opened = opening.then(() => openEngine('wasm'))
  opening = opened.catch(() => {})
  return opened
}
const crowd = paces.map((pace) => new Volunteer({ address: url, run, pace, cache, openEngine: engine }))
const stop = () => {
  for (const volunteer of crowd) volunteer.stop()
}
process.once('disconnect', stop)
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, stop)
if (process.connected === false) stop()
const ended = await Promise.all(crowd.map((volunteer) => volunteer.run()))
const failed = ended.find(({ state }) => state === 'failed')
if (failed !== undefined) console.error(`a volunteer failed: ${failed.reason}`)
process.exit(failed === undefined ? 0 : 1)
