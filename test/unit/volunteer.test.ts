/** What a volunteer makes of the leases that it is granted. */
import { describe, expect, test } from 'vitest'
import type { ModelDescription } from '../../client/volunteer/compute/engine.ts'
import { codecs, decodeVector, encodeVector } from '../../shared/codec.ts'
import { layout } from '../../shared/layout.ts'
import { buildModel } from '../../shared/models.ts'
import { type Lease, refuse } from '../../shared/protocol.ts'
import { PromptClock } from '../support/prompt-clock.ts'
import { SoftmaxEngine } from '../support/softmax-engine.ts'
import { benchForEachTest, expected, model, parametersOf, reached } from '../support/volunteer-bench.ts'

const bench = benchForEachTest()
const { volunteer, lease, updated } = bench

describe('a volunteer', () => {
  test('[L1] computes what its lease names and returns it', async () => {
    bench.coordinator.startOf = () => ({ version: 3, localRate: 0.5 })
    bench.coordinator.grant(lease('l1'))
    volunteer()
    await updated(1)
    const [update] = bench.coordinator.updates
    const { gradient, lossSum, correct } = await expected(lease('l1'), parametersOf(3), 0.5)
    expect(update).toMatchObject({ lease: 'l1', version: 3, minibatches: 3, examples: 20, correct, lossSum })
    expect(decodeVector(codecs.f32, update.bytes, model.layout.size)).toEqual(gradient)
    expect(gradient!.some((slope) => Math.abs(slope) > 0.01)).toBe(true)
  })

  test('evaluates as stored where the lease says so, and sends what each example came to', async () => {
    const evaluation = lease('e1', { kind: 'evaluate', shuffled: false })
    bench.coordinator.grant(evaluation)
    volunteer()
    await updated(1)
    const { lossSum, correct, outcomes } = await expected(evaluation, parametersOf(0), 0)
    const [update] = bench.coordinator.updates
    expect(update).toMatchObject({ minibatches: 0, examples: 20, size: 100, lossSum, correct, measureSum: null })
    expect(Uint8Array.from(update.bytes)).toEqual(outcomes)
  })

  test('adds up minibatches as the lease says, and takes the sample it names', async () => {
    bench.coordinator.startOf = () => ({ version: 1, localRate: 0.5 })
    const leases = [lease('l1', { reduce: 'sum' }), lease('l2', { fraction: 0.5 }), lease('l3', { fraction: 1e-9 })]
    bench.coordinator.grant(...leases)
    volunteer()
    await updated(3)
    const sent = bench.coordinator.updates.map(({ bytes }) => decodeVector(codecs.f32, bytes, model.layout.size))
    for (const i of [0, 1]) {
      expect(sent[i]).toEqual((await expected(leases[i], parametersOf(1), 0.5)).gradient)
    }
    expect(bench.coordinator.updates[0].examples).toBe(20)
    expect(bench.coordinator.updates[1].examples).toBeGreaterThan(3)
    expect(bench.coordinator.updates[1].examples).toBeLessThan(17)
    expect(bench.coordinator.updates[2]).toMatchObject({ minibatches: 0, examples: 0, lossSum: 0 })
    expect(sent[2]).toEqual(new Float32Array(model.layout.size))
  })

  test('loads a model with its fixed parameters, and says its second measure', async () => {
    const fixedLayout = layout([{ name: 'below/kernel', shape: [2, 3], init: { kind: 'zeros' } }])
    const values = Float32Array.of(1, 2, 3, 4, 5, 6)
    const put = (hash: string) => {
      const blob = {
        ...model,
        fixed: { hash, layout: fixedLayout },
        objective: { kind: 'reconstruct' },
        augment: { shift: 1, rotate: 0, zoom: 0, flip: false },
      }
      return bench.coordinator.putBlob(new TextEncoder().encode(JSON.stringify(blob)))
    }
    const good = put(bench.coordinator.putBlob(new Uint8Array(values.buffer)))
    const short = put(bench.coordinator.putBlob(new Uint8Array(values.buffer, 4)))
    bench.coordinator.grant(lease('l1', { model: short }), lease('l2', { model: good }))
    const loaded: ModelDescription[] = []
    const engine = new SoftmaxEngine()
    const load = engine.load.bind(engine)
    engine.load = (description) => {
      loaded.push(description)
      return load(description)
    }
    volunteer({ openEngine: async () => engine })
    await updated(1)
    expect(bench.coordinator.givenBack).toEqual(['l1'])
    expect(bench.coordinator.updates[0]).toMatchObject({ lease: 'l2', measureSum: 0 })
    expect(loaded).toHaveLength(1)
    expect(loaded[0]).toMatchObject({ fixed: { layout: fixedLayout, values }, objective: { kind: 'reconstruct' } })
    // Augmented examples are not the plain ones.
    const { gradient } = await expected(lease('l2'), parametersOf(0), 0)
    expect(decodeVector(codecs.f32, bench.coordinator.updates[0].bytes, model.layout.size)).not.toEqual(gradient)
  })

  test('fetches the next lease while it computes, and starts it with the update: one start is ever asked for', async () => {
    let version = 0
    bench.coordinator.startOf = () => ({ version: version++ })
    const leases = ['l1', 'l2', 'l3', 'l4'].map((id) =>
      lease(id, { segments: [lease(id).segments[Number(id[1]) % 2]] }),
    )
    bench.coordinator.grant(...leases)
    // Computing takes until the next lease is ready.
    const nextIsReady = () => (one.volunteer as unknown as { next: unknown }).next !== null
    const computed = () => reached(() => bench.coordinator.updates.length === 3 || nextIsReady())
    const one = volunteer({ openEngine: async () => new SoftmaxEngine(() => {}, computed) })
    await updated(4)
    expect(bench.coordinator.updates.map(({ lease, version }) => [lease, version])).toEqual([
      ['l1', 0],
      ['l2', 1],
      ['l3', 2],
      ['l4', 3],
    ])
    const events = bench.coordinator.events()
    expect(events.filter((event) => event === 'start')).toHaveLength(1)
    // The second lease was asked for, and its shard downloaded, before the first update was sent.
    expect(
      events.slice(0, events.indexOf('update')).filter((event) => event === 'lease').length,
    ).toBeGreaterThanOrEqual(2)
    expect(bench.coordinator.updates.map(({ next }) => next)).toEqual(['l2', 'l3', 'l4', undefined])
  })

  test('[L2] fetches the parameters beside the examples where the lease says their version', async () => {
    const certain = lease('l1', { version: 3 })
    const shards = certain.segments.map(({ shard }) => shard)
    bench.coordinator.startOf = () => ({ version: 3 })
    bench.coordinator.grant(certain)
    const versions = () =>
      bench.coordinator.log.filter(({ event, request }) => event === 'download' && request.blob.run)
    // No shard comes before the parameters are asked for.
    bench.coordinator.hold = (event, { blob }) =>
      event === 'download' && shards.includes(blob.hash) ? reached(() => versions().length > 0) : undefined
    volunteer()
    await updated(1)
    const { gradient } = await expected(certain, parametersOf(3), 0)
    expect(decodeVector(codecs.f32, bench.coordinator.updates[0].bytes, model.layout.size)).toEqual(gradient)
    expect(versions()).toHaveLength(1)
  })

  test('fetches them once more, with the start, where they did not come', async () => {
    const certain = lease('l1', { version: 3 })
    const shards = certain.segments.map(({ shard }) => shard)
    bench.coordinator.startOf = () => ({ version: 3 })
    bench.coordinator.grant(certain)
    let refused = 0
    bench.coordinator.intervene = (event, { blob }: { blob: { run?: string } }) =>
      event === 'download' && blob.run && refused++ === 0 ? refuse('version-gone', 'for the test') : undefined
    bench.coordinator.hold = (event, { blob }) =>
      event === 'download' && shards.includes(blob.hash) ? reached(() => refused > 0) : undefined
    volunteer()
    await updated(1)
    expect(bench.coordinator.updates[0]).toMatchObject({ lease: 'l1', version: 3 })
    expect(bench.coordinator.givenBack).toEqual([])
  })

  test('[L12] sends what is sure of being wanted with its announcement', async () => {
    // Larger than a chunk.
    const large = buildModel({ template: 'softmax' }, { inputShape: [2, 2, 1], classes: 5000 }, null)
    const hash = bench.coordinator.putBlob(new TextEncoder().encode(JSON.stringify(large)))
    bench.coordinator.putVersion('r', 0, encodeVector(codecs.f32, new Float32Array(large.layout.size)))
    bench.coordinator.holdAnswer = (event) =>
      event === 'update' ? reached(() => bench.coordinator.events().includes('finish')) : undefined
    bench.coordinator.grant(lease('l1', { model: hash, sure: true }))
    volunteer()
    await updated(1)
    expect(bench.coordinator.updates[0]).toMatchObject({ lease: 'l1', size: 4 * large.layout.size })
  })

  test('[L10] where leases overlap computes the second one while the update of the first is on its way', async () => {
    const names = ['l1', 'l2', 'l3', 'l4', 'l5']
    bench.coordinator.startOf = (id) => ({ version: names.indexOf(id) })
    bench.coordinator.grant(...names.map((id) => lease(id, { overlaps: true })))
    let computing = 0
    const atHand = () => (one.volunteer as unknown as { next: { lease: Lease } | null }).next?.lease.id
    // Each lease is computed until the one after the next is at hand.
    const computed = () => {
      const awaited = names[++computing + 1]
      return reached(() => awaited === undefined || atHand() === awaited)
    }
    const one = volunteer({ openEngine: async () => new SoftmaxEngine(undefined, computed) })
    // The first update is not taken before the second lease is being computed, nor the second before the third is.
    bench.coordinator.hold = (event, { lease }: { lease: string }) => {
      const place = names.indexOf(lease)
      return event === 'update' && place < 2 ? reached(() => computing > place + 1) : undefined
    }
    await updated(5)
    expect(bench.coordinator.updates.map(({ lease, version }) => [lease, version])).toEqual(
      names.map((id, i) => [id, i]),
    )
    // Two are begun of their own, the others by the update before the last.
    const asked = bench.coordinator.log.filter(({ event }) => event === 'start').map(({ request }) => request.lease)
    expect(asked).toEqual(['l1', 'l2'])
    expect(bench.coordinator.updates.map(({ next }) => next)).toEqual(['l3', 'l4', 'l5', undefined, undefined])
  })

  test('[L10] begins one lease at a time again where they overlap no more', async () => {
    bench.coordinator.startOf = () => ({ version: bench.coordinator.updates.length })
    const names = ['l1', 'l2', 'l3', 'l4', 'l5', 'l6']
    bench.coordinator.grant(...names.map((id, place) => lease(id, { overlaps: place < 2 })))
    let computing = 0
    const computed = async () => void computing++
    volunteer({ openEngine: async () => new SoftmaxEngine(undefined, computed) })
    bench.coordinator.hold = (event, { lease }: { lease: string }) => {
      const place = names.indexOf(lease)
      return event === 'update' && place < 2 ? reached(() => computing > place + 1) : undefined
    }
    await updated(6)
    // What is begun already is computed first; from then on each begins when the one before it is in.
    expect(bench.coordinator.updates.map(({ lease }) => lease)).toEqual(names)
    const versions = bench.coordinator.updates.map(({ version }) => version)
    expect([versions.slice(0, 3), versions.slice(4)]).toEqual([
      [0, 0, 1],
      [4, 5],
    ])
  })

  test('does not compute again what it is told again', async () => {
    bench.coordinator.grant(lease('l1'), lease('l2'), lease('l2'), lease('l3'))
    volunteer()
    await updated(3)
    const sent = bench.coordinator.log.filter(({ event }) => event === 'update').map(({ request }) => request.lease)
    expect(sent).toEqual(['l1', 'l2', 'l3'])
  })

  test('downloads nothing twice: shards, model, and parameters of the same version', async () => {
    bench.coordinator.grant(...['l1', 'l2', 'l3'].map((id) => lease(id)))
    volunteer()
    await updated(3)
    expect(bench.coordinator.events().filter((event) => event === 'download')).toHaveLength(4)
  })

  test('[D2] goes on from its own replica where the start says so, and from the version where it lost it', async () => {
    bench.coordinator.startOf = (id) => ({ version: 2, localRate: 0.5, continues: { l2: 'l1', l4: 'l0' }[id] ?? null })
    bench.coordinator.grant(lease('l1'), lease('l2'), lease('l3'), lease('l4'))
    volunteer()
    await updated(4)
    const first = await expected(lease('l1'), parametersOf(2), 0.5)
    const second = await expected(lease('l2'), first.replica, 0.5)
    const sent = bench.coordinator.updates.map(({ bytes }) => decodeVector(codecs.f32, bytes, model.layout.size))
    expect(sent[0]).toEqual(first.gradient)
    expect(sent[1]).toEqual(second.gradient)
    expect(sent[1]).not.toEqual(first.gradient)
    expect(sent[2]).toEqual(first.gradient)
    expect(sent[3]).toEqual(first.gradient)
  })

  test('keeps to the time box and says how much it did', async () => {
    const clock = new PromptClock()
    bench.coordinator.grant(lease('l1', { budgetMs: 100 }))
    volunteer({ clock, openEngine: async () => new SoftmaxEngine(() => clock.advance(60)) })
    await updated(1)
    expect(bench.coordinator.updates[0]).toMatchObject({ minibatches: 2, examples: 16, computeMs: 120 })
  })

  test('waits as long as it is told, then asks again', async () => {
    const clock = new PromptClock()
    bench.coordinator.intervene = (event, _request, count) =>
      event === 'lease' && count <= 2 ? ({ ok: true, waitMs: 1234, reason: 'warm start' } as never) : undefined
    bench.coordinator.grant(lease('l1'))
    const { statuses } = volunteer({ clock })
    await updated(1)
    expect(clock.slept.filter((ms) => ms === 1234)).toHaveLength(2)
    expect(statuses.map(({ state, reason }) => `${state}: ${reason}`)).toContain('waiting: warm start')
  })

  test('tells how it goes', async () => {
    bench.coordinator.grant(lease('l1'), lease('l2'))
    const { volunteer: one, statuses } = volunteer()
    await reached(() => one.status.updatesAccepted === 2)
    expect(one.status.examples).toBe(40)
    one.stop()
    const states = statuses.map(({ state }) => state).filter((state, i, all) => state !== all[i - 1])
    expect(states.slice(0, 2)).toEqual(['starting', 'connecting'])
    expect(states).toContain('working')
    expect(one.status).toMatchObject({ backend: 'cpu', device: 'plain loops', token: 'token-1', updatesRefused: 0 })
  })

  test('its speed is that of all its time at work, sending included, waiting not', async () => {
    const clock = new PromptClock()
    bench.coordinator.intervene = (event, _request, count) => {
      if (event === 'update') clock.advance(120)
      return event === 'lease' && count === 1 ? ({ ok: true, waitMs: 1234, reason: 'warm start' } as never) : undefined
    }
    bench.coordinator.grant(lease('l1'))
    const { volunteer: one } = volunteer({
      clock,
      openEngine: async () => new SoftmaxEngine(() => clock.advance(60)),
    })
    await reached(() => one.status.updatesAccepted === 1)
    expect(clock.slept).toContain(1234)
    expect(one.status.examplesPerSecond).toBeCloseTo((1000 * 20) / (3 * 60 + 120))
  })

  test('its speed is soon what it was after an hour asleep', async () => {
    const clock = new PromptClock()
    const during = [100, 3_600_000, 60_000, 60_000]
    bench.coordinator.intervene = (event) => {
      if (event === 'update') clock.advance(during.shift() ?? 0)
      return undefined
    }
    bench.coordinator.grant(lease('l1'), lease('l2'), lease('l3'), lease('l4'))
    const { volunteer: one, statuses } = volunteer({ clock })
    await reached(() => one.status.updatesAccepted === 4)
    const speeds = [1, 2, 3, 4].map(
      (updates) => statuses.find(({ updatesAccepted }) => updatesAccepted === updates)!.examplesPerSecond,
    )
    expect(speeds[0]).toBeCloseTo(200)
    expect(speeds[1]).toBeLessThan(1)
    expect(speeds[3]).toBeGreaterThan(0.8 * (20 / 60))
  })
})
