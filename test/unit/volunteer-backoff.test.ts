/**
 * A volunteer whose leases are refused in a row asks ever more slowly, and nothing but an accepted update ends that.
 */
import { beforeEach, expect, test } from 'vitest'
import { refuse } from '../../shared/protocol.ts'
import { PromptClock } from '../support/prompt-clock.ts'
import { benchForEachTest } from '../support/volunteer-bench.ts'

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

const bench = benchForEachTest()
let clock: HeldClock
let one: ReturnType<typeof bench.volunteer>

/** Leases that come to nothing, and at which of their messages. */
let refused: Map<string, 'start' | 'update'>

beforeEach(() => {
  refused = new Map()
  bench.coordinator.intervene = (event, request: { lease?: string }) =>
    event === refused.get(request.lease ?? '') ? refuse('stale', 'too old') : undefined
  clock = new HeldClock()
  one = bench.volunteer({ clock, uniform: () => LONGEST_DRAW })
})

const grant = (...ids: string[]) => bench.coordinator.grant(...ids.map((id) => bench.lease(id)))
const settled = () => bench.coordinator.updates.map(({ lease }) => lease)
const asked = () => bench.coordinator.events().filter((event) => event === 'lease').length

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
    await bench.coordinator.until(() => settled().length === 3)
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
  await bench.coordinator.until(() => settled().length === 1)
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
  await bench.coordinator.until(() => settled().length === 2)
  // The one that waited, and one more: without a wait, since an update was accepted.
  await bench.coordinator.until(() => asked() === 4)
  expect(clock.waits).toEqual([500])
})

test('news does end a wait that the coordinator asked for', async () => {
  clock.holds = BACKOFF_MS
  bench.coordinator.intervene = (event, _request, count) =>
    event === 'lease' && count === 2 ? ({ ok: true, waitMs: 5_000, reason: 'warm start' } as never) : undefined
  grant('l1', 'l2')
  await bench.coordinator.until(() => settled().length === 2)
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
