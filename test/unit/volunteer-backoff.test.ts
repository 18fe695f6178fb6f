/** A volunteer whose leases are refused in a row asks ever more slowly, and nothing but an accepted update ends that. */
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { MemoryBlobs } from '../../client/volunteer/blobs.ts'
import { Volunteer } from '../../client/volunteer/volunteer.ts'
import type { VolunteerStatus } from '../../client/volunteer/worker-messages.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import { buildModel } from '../../shared/models.ts'
import { type Lease, refuse } from '../../shared/protocol.ts'
import { encodeShard } from '../../shared/shard.ts'
import { PromptClock } from '../support/prompt-clock.ts'
import { SoftmaxEngine } from '../support/softmax-engine.ts'
import { WireCoordinator } from '../support/wire-coordinator.ts'

/** Where every draw is just below 1: back-offs of 500 ms, and twice as long each time. */
const LONGEST_DRAW = 1 - 1e-9
/** No back-off is shorter. */
const BACKOFF_MS = 250

/** Its sleeps take no time, but for those that are held: they last until they are let go. */
class HeldClock extends PromptClock {
  /** Sleeps of at least so long are held. */
  holds = Number.POSITIVE_INFINITY
  readonly held: { ms: number; letGo: () => void }[] = []

  override async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    await super.sleep(ms, signal)
    if (ms < this.holds) return
    await new Promise<void>((resolve, reject) => {
      const one = { ms, letGo: resolve }
      this.held.push(one)
      signal?.addEventListener('abort', () => {
        this.held.splice(this.held.indexOf(one), 1)
        reject(signal.reason)
      })
    })
  }

  get waits(): number[] {
    return this.slept.filter((ms) => ms > 0).map(Math.round)
  }
}

let coordinator: WireCoordinator
let lease: (id: string) => Lease
let clock: HeldClock
let one: { volunteer: Volunteer; ended: Promise<VolunteerStatus> }

/** Leases that come to nothing, and at which of their messages. */
let refused: Map<string, 'start' | 'update'>

beforeEach(async () => {
  coordinator = await WireCoordinator.listen()
  const model = buildModel({ template: 'softmax' }, { inputShape: [2, 2, 1], classes: 3 }, null)
  const shard = { examples: 8, inputShape: [2, 2, 1], inputs: new Uint8Array(32).fill(7), labels: new Uint8Array(8) }
  const segments = [
    { shard: coordinator.putBlob(gzipSync(encodeShard(shard))), shardIndex: 0, epoch: 0, from: 0, to: 8 },
  ]
  const modelHash = coordinator.putBlob(new TextEncoder().encode(JSON.stringify(model)))
  coordinator.putVersion('r', 0, encodeVector(codecs.f32, new Float32Array(model.layout.size)))
  const work = {
    stage: 0,
    kind: 'gradient',
    shuffled: true,
    fraction: 1,
    reduce: 'mean',
    compensated: false,
    overlaps: false,
    batchSize: 8,
  } as const
  const common = { run: 'r', model: modelHash, seed: 5, segments, ...work }
  lease = (id) => ({ id, ...common, budgetMs: 1e9, codec: 'f32', parametersCodec: 'f32' })
  refused = new Map()
  coordinator.intervene = (event, request: { lease?: string }) =>
    event === refused.get(request.lease ?? '') ? refuse('stale', 'too old') : undefined
  clock = new HeldClock()
  const volunteer = new Volunteer({
    address: coordinator.url,
    openEngine: async () => new SoftmaxEngine(),
    cache: new MemoryBlobs(),
    clock,
    uniform: () => LONGEST_DRAW,
  })
  one = { volunteer, ended: volunteer.run() }
})

afterEach(async () => {
  one.volunteer.stop()
  await one.ended
  await coordinator.close()
})

const grant = (...ids: string[]) => coordinator.grant(...ids.map(lease))
const settled = () => coordinator.updates.map(({ lease }) => lease)
const asked = () => coordinator.events().filter((event) => event === 'lease').length

/** It has done one lease and has no other; no message tells of it, so this looks at every turn of the event loop. */
async function idle(): Promise<void> {
  const { volunteer } = one
  while (volunteer.status.updatesAccepted !== 1 || volunteer.status.state !== 'waiting') {
    await new Promise((resolve) => setImmediate(resolve))
  }
}

test.each(['start', 'update'] as const)(
  'refused at its %s over and over it asks ever more slowly, until an update is accepted',
  async (at) => {
    for (const id of ['l1', 'l2', 'l3', 'l4']) refused.set(id, at)
    // Its start comes with the acceptance before it.
    refused.set('l6', 'update')
    grant('l1', 'l2', 'l3', 'l4', 'l5', 'l6', 'l7', 'l8')
    await coordinator.until(() => settled().length === 3)
    expect(settled()).toEqual(['l5', 'l7', 'l8'])
    // Half a second again after the one that was accepted.
    expect(clock.waits).toEqual([500, 1000, 2000, 4000, 500])
  },
)

test('refusals of all kinds count as one row, and the wait has an end', async () => {
  const ids = Array.from({ length: 10 }, (_, i) => `l${i}`)
  ids.forEach((id, i) => {
    refused.set(id, i % 2 === 0 ? 'start' : 'update')
  })
  grant(...ids, 'last')
  await coordinator.until(() => settled().length === 1)
  expect(clock.waits).toEqual([500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000, 30000])
})

test('news does not end a back-off that is under way; the next begins anew', async () => {
  clock.holds = BACKOFF_MS
  refused.set('l1', 'update')
  // The second is at hand before the first is refused: its end is news while the wait for the third lasts.
  grant('l1', 'l2', 'l3')
  await idle()
  expect(settled()).toEqual(['l2'])
  expect(clock.held.map(({ ms }) => Math.round(ms))).toEqual([500])
  expect(asked()).toBe(2)
  clock.held[0].letGo()
  await coordinator.until(() => settled().length === 2)
  // The one that waited, and one more: without a wait, since an update was accepted.
  await coordinator.until(() => asked() === 4)
  expect(clock.waits).toEqual([500])
})

test('news does end a wait that the coordinator asked for', async () => {
  clock.holds = BACKOFF_MS
  coordinator.intervene = (event, _request, count) =>
    event === 'lease' && count === 2 ? ({ ok: true, waitMs: 5_000, reason: 'warm start' } as never) : undefined
  grant('l1', 'l2')
  await coordinator.until(() => settled().length === 2)
  expect(clock.waits.filter((ms) => ms > BACKOFF_MS)).toHaveLength(1)
  expect(clock.held).toEqual([])
})

test('stop ends a back-off at once', async () => {
  clock.holds = BACKOFF_MS
  refused.set('l1', 'start')
  grant('l1', 'l2')
  await idle()
  expect(clock.held).toHaveLength(1)
  one.volunteer.stop()
  expect(await one.ended).toMatchObject({ state: 'stopped', reason: null })
})
