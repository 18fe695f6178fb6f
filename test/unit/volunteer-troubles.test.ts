/** A volunteer that is refused, cut off or stopped: it costs a lease and nothing else. */
import { describe, expect, test } from 'vitest'
import { codecs, decodeVector, encodeVector } from '../../shared/codec.ts'
import type { Refusal } from '../../shared/protocol.ts'
import { PromptClock } from '../support/prompt-clock.ts'
import { SoftmaxEngine } from '../support/softmax-engine.ts'
import { benchForEachTest, expected, model, parametersOf, reached } from '../support/volunteer-bench.ts'

const bench = benchForEachTest()
const { volunteer, lease, updated } = bench
const refusing = (code: Refusal['code'], next: Refusal['next'], retryAfterMs?: number): Refusal => ({
  ok: false,
  code,
  message: `told ${code}`,
  next,
  retryAfterMs,
})

describe('a volunteer that is refused', () => {
  test('drops the lease, gives it back and takes another', async () => {
    bench.coordinator.intervene = (event, request: { lease?: string }) =>
      event === 'update' && request.lease === 'l1' ? refusing('stale', 'new-lease') : undefined
    bench.coordinator.grant(lease('l1'), lease('l2'))
    const { volunteer: one } = volunteer()
    await updated(1)
    expect(bench.coordinator.updates[0].lease).toBe('l2')
    expect(one.status.updatesRefused).toBe(1)
    expect(bench.coordinator.givenBack).toEqual(['l1'])
  })

  test('gives back a lease whose shard cannot be had', async () => {
    const segment = { ...lease('l1').segments[0], shard: 'f'.repeat(64) }
    bench.coordinator.grant(lease('l1', { segments: [segment] }), lease('l2'))
    volunteer()
    await updated(1)
    expect(bench.coordinator.updates[0].lease).toBe('l2')
    expect(bench.coordinator.givenBack).toEqual(['l1'])
  })

  test('over and over asks ever more seldom', async () => {
    const clock = new PromptClock()
    bench.coordinator.intervene = (event, _request, count) =>
      event === 'lease' && count <= 5 ? refusing('run-not-running', 'new-lease') : undefined
    bench.coordinator.grant(lease('l1'))
    volunteer({ clock, uniform: () => 0.999999 })
    await updated(1)
    const waits = clock.slept.map((ms) => Math.round(ms)).filter((ms) => ms > 0)
    expect(waits.slice(0, 5)).toEqual([500, 1000, 2000, 4000, 8000])
  })

  test('with "retry" asks the same again, not before it was told', async () => {
    const clock = new PromptClock()
    bench.coordinator.intervene = (event, _request, count) =>
      event === 'update' && count <= 2 ? refusing('storage-full', 'retry', 4321) : undefined
    bench.coordinator.grant(lease('l1'))
    volunteer({ clock })
    await updated(1)
    expect(clock.slept.filter((ms) => ms === 4321)).toHaveLength(2)
  })

  test.each([
    ['protocol-version', 'update-page', 'hello'],
    ['malformed', 'stop', 'lease'],
    ['malformed', 'stop', 'update'],
  ] as const)('with %s (%s) at its %s ends as failed and says why', async (code, next, at) => {
    bench.coordinator.intervene = (event) => (event === at ? refusing(code, next) : undefined)
    bench.coordinator.grant(lease('l1'))
    const { ended, engine } = volunteer()
    expect(await ended).toMatchObject({ state: 'failed', reason: `told ${code}` })
    expect(engine.closed).toBe(true)
  })
})

describe('a volunteer whose connection is lost', () => {
  test.each(['lease', 'start', 'download', 'update'] as const)('at its %s goes on as the same one', async (at) => {
    for (const cut of ['cut-before', 'cut-after'] as const) {
      let done = false
      bench.coordinator.intervene = (event) => {
        if (event !== at || done) return undefined
        done = true
        return cut
      }
      const before = bench.coordinator.updates.length
      const hellosBefore = bench.coordinator.hellos.length
      bench.coordinator.grant(lease(`a-${cut}`), lease(`b-${cut}`), lease(`c-${cut}`))
      const one = volunteer()
      await updated(before + 2)
      const hellos = bench.coordinator.hellos.slice(hellosBefore)
      expect(hellos.length).toBe(2)
      expect(hellos[1]).toMatchObject({ token: 'token-1', instance: hellos[0].instance })
      one.volunteer.stop()
      await one.ended
      bench.coordinator.leases.length = 0
    }
    // No lease was settled twice.
    const settled = bench.coordinator.updates.map(({ lease }) => lease)
    expect(new Set(settled).size).toBe(settled.length)
  })

  test('[J6] does not take parameters of before for the same version: a loss of power may have made it another', async () => {
    bench.coordinator.intervene = (event, _request, count) => {
      if (event !== 'update' || count > 1) return undefined
      bench.coordinator.putVersion('r', 0, encodeVector(codecs.f32, parametersOf(5)))
      return 'cut-after'
    }
    bench.coordinator.grant(lease('l1'), lease('l2'))
    volunteer()
    await updated(2)
    const sent = bench.coordinator.updates.map(({ bytes }) => decodeVector(codecs.f32, bytes, model.layout.size))
    expect(sent[0]).toEqual((await expected(lease('l1'), parametersOf(0), 0)).gradient)
    expect(sent[1]).toEqual((await expected(lease('l2'), parametersOf(5), 0)).gradient)
  })

  test('counts an update whose acknowledgement never came', async () => {
    bench.coordinator.intervene = (event, _request, count) =>
      event === 'update' && count === 1 ? 'cut-after' : undefined
    bench.coordinator.grant(lease('l1'), lease('l2'))
    const { volunteer: one } = volunteer()
    await updated(2)
    await reached(() => one.status.updatesAccepted === 2)
    expect(bench.coordinator.updates.map(({ lease }) => lease)).toEqual(['l1', 'l2'])
    expect(one.status.updatesRefused).toBe(0)
  })
})

describe('a volunteer that stops', () => {
  test('gives back what it holds, closes and says so', async () => {
    bench.coordinator.grant(lease('l1'), lease('l2'))
    // Stopped in the middle of the first lease, with the second at hand.
    const one = volunteer({
      openEngine: async () =>
        new SoftmaxEngine(() => {
          if (one.volunteer.status.state === 'working') one.volunteer.stop()
        }),
    })
    expect(await one.ended).toMatchObject({ state: 'stopped', reason: null, token: 'token-1' })
    expect(bench.coordinator.updates).toEqual([])
    expect(bench.coordinator.givenBack).toContain('l1')
    expect(one.statuses.at(-1)?.state).toBe('stopped')
  })

  test('while it waits for work, or for a coordinator that is away, ends at once', async () => {
    const waiting = volunteer()
    await bench.coordinator.until(() => bench.coordinator.events().includes('lease'))
    waiting.volunteer.stop()
    expect(await waiting.ended).toMatchObject({ state: 'stopped' })

    const lonely = volunteer({ address: 'http://127.0.0.1:1' })
    await new Promise((resolve) => setImmediate(resolve))
    lonely.volunteer.stop()
    expect(await lonely.ended).toMatchObject({ state: 'stopped' })
  })

  test('for want of a device fails and says what was wrong', async () => {
    const { ended } = volunteer({ openEngine: () => Promise.reject(new Error('no device can be used')) })
    expect(await ended).toMatchObject({ state: 'failed', reason: 'no device can be used' })
    expect(bench.coordinator.hellos).toEqual([])
  })
})
