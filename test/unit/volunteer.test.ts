import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { MemoryBlobs } from '../../client/volunteer/blobs.ts'
import type { ModelDescription } from '../../client/volunteer/compute/engine.ts'
import { Examples } from '../../client/volunteer/examples.ts'
import { Volunteer, type VolunteerOptions } from '../../client/volunteer/volunteer.ts'
import type { VolunteerStatus } from '../../client/volunteer/worker-messages.ts'
import { codecs, decodeVector, encodeVector } from '../../shared/codec.ts'
import { layout } from '../../shared/layout.ts'
import { buildModel } from '../../shared/models.ts'
import type { Lease, Refusal } from '../../shared/protocol.ts'
import { encodeShard, type Shard } from '../../shared/shard.ts'
import { PromptClock } from '../support/prompt-clock.ts'
import { SoftmaxEngine, softmaxTrainer } from '../support/softmax-engine.ts'
import { WireCoordinator } from '../support/wire-coordinator.ts'

const model = buildModel({ template: 'softmax' }, { inputShape: [2, 2, 1], classes: 3 }, null)
const shards: Shard[] = [0, 1].map((index) => ({
  examples: 40,
  inputShape: [2, 2, 1],
  inputs: Uint8Array.from({ length: 160 }, (_, i) => (i * 37 + 11 * index) & 255),
  labels: Uint8Array.from({ length: 40 }, (_, i) => (i * 7 + index) % 3),
}))
const parametersOf = (version: number) =>
  Float32Array.from({ length: model.layout.size }, (_, i) => Math.sin(i + version))

let coordinator: WireCoordinator
let hashes: string[]
let modelHash: string
let volunteers: { volunteer: Volunteer; ended: Promise<VolunteerStatus> }[]

beforeEach(async () => {
  coordinator = await WireCoordinator.listen()
  hashes = shards.map((shard) => coordinator.putBlob(gzipSync(encodeShard(shard))))
  modelHash = coordinator.putBlob(new TextEncoder().encode(JSON.stringify(model)))
  for (let version = 0; version < 6; version++) {
    coordinator.putVersion('r', version, encodeVector(codecs.f32, parametersOf(version)))
  }
  volunteers = []
})

afterEach(async () => {
  for (const { volunteer } of volunteers) volunteer.stop()
  await Promise.all(volunteers.map(({ ended }) => ended))
  await coordinator.close()
})

function volunteer(options: Partial<VolunteerOptions> = {}) {
  const statuses: VolunteerStatus[] = []
  const engine = new SoftmaxEngine()
  const volunteer = new Volunteer({
    address: coordinator.url,
    openEngine: async () => engine,
    cache: new MemoryBlobs(),
    clock: new PromptClock(),
    uniform: () => 0.5,
    onStatus: (status) => statuses.push(status),
    ...options,
  })
  const ended = volunteer.run()
  const started = { volunteer, ended, statuses, engine }
  volunteers.push(started)
  return started
}

function lease(id: string, change: Partial<Lease> = {}): Lease {
  return {
    id,
    run: 'r',
    stage: 0,
    kind: 'gradient',
    model: modelHash,
    seed: 5,
    shuffled: true,
    fraction: 1,
    reduce: 'mean',
    compensated: false,
    overlaps: false,
    batchSize: 8,
    segments: [
      { shard: hashes[1], shardIndex: 1, epoch: 2, from: 30, to: 40 },
      { shard: hashes[0], shardIndex: 0, epoch: 2, from: 0, to: 10 },
    ],
    budgetMs: 1e9,
    codec: 'f32',
    parametersCodec: 'f32',
    ...change,
  }
}

/** What the lease comes to, computed beside the volunteer. */
async function expected(of: Lease, parameters: Float32Array, localRate: number) {
  const trainer = softmaxTrainer(model)
  trainer.begin(parameters)
  const order = of.segments.map(({ shardIndex }) => shards[shardIndex])
  for (const minibatch of new Examples(of, order).minibatches()) {
    const weight = of.reduce === 'sum' ? minibatch.count : 1
    if (of.kind === 'gradient') trainer.step(minibatch, { localRate, weight })
    else trainer.evaluate(minibatch)
  }
  return { ...(await trainer.finish()), replica: await trainer.replica() }
}

/** For what no message tells: looks again at every turn of the event loop. */
async function reached(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}

const updated = (count: number) => coordinator.until(() => coordinator.updates.length >= count)
const refusing = (code: Refusal['code'], next: Refusal['next'], retryAfterMs?: number): Refusal => ({
  ok: false,
  code,
  message: `told ${code}`,
  next,
  retryAfterMs,
})

describe('a volunteer', () => {
  test('[L1] computes what its lease names and returns it', async () => {
    coordinator.startOf = () => ({ version: 3, localRate: 0.5 })
    coordinator.grant(lease('l1'))
    volunteer()
    await updated(1)
    const [update] = coordinator.updates
    const { gradient, lossSum, correct } = await expected(lease('l1'), parametersOf(3), 0.5)
    expect(update).toMatchObject({ lease: 'l1', version: 3, minibatches: 3, examples: 20, correct, lossSum })
    expect(decodeVector(codecs.f32, update.bytes, model.layout.size)).toEqual(gradient)
    expect(gradient!.some((slope) => Math.abs(slope) > 0.01)).toBe(true)
  })

  test('evaluates as stored where the lease says so, and sends what each example came to', async () => {
    const evaluation = lease('e1', { kind: 'evaluate', shuffled: false })
    coordinator.grant(evaluation)
    volunteer()
    await updated(1)
    const { lossSum, correct, outcomes } = await expected(evaluation, parametersOf(0), 0)
    const [update] = coordinator.updates
    expect(update).toMatchObject({ minibatches: 0, examples: 20, size: 100, lossSum, correct, measureSum: null })
    expect(Uint8Array.from(update.bytes)).toEqual(outcomes)
  })

  test('adds up minibatches as the lease says, and takes the sample it names', async () => {
    coordinator.startOf = () => ({ version: 1, localRate: 0.5 })
    const leases = [lease('l1', { reduce: 'sum' }), lease('l2', { fraction: 0.5 }), lease('l3', { fraction: 1e-9 })]
    coordinator.grant(...leases)
    volunteer()
    await updated(3)
    const sent = coordinator.updates.map(({ bytes }) => decodeVector(codecs.f32, bytes, model.layout.size))
    for (const i of [0, 1]) {
      expect(sent[i]).toEqual((await expected(leases[i], parametersOf(1), 0.5)).gradient)
    }
    expect(coordinator.updates[0].examples).toBe(20)
    expect(coordinator.updates[1].examples).toBeGreaterThan(3)
    expect(coordinator.updates[1].examples).toBeLessThan(17)
    expect(coordinator.updates[2]).toMatchObject({ minibatches: 0, examples: 0, lossSum: 0 })
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
      return coordinator.putBlob(new TextEncoder().encode(JSON.stringify(blob)))
    }
    const good = put(coordinator.putBlob(new Uint8Array(values.buffer)))
    const short = put(coordinator.putBlob(new Uint8Array(values.buffer, 4)))
    coordinator.grant(lease('l1', { model: short }), lease('l2', { model: good }))
    const loaded: ModelDescription[] = []
    const engine = new SoftmaxEngine()
    const load = engine.load.bind(engine)
    engine.load = (description) => {
      loaded.push(description)
      return load(description)
    }
    volunteer({ openEngine: async () => engine })
    await updated(1)
    expect(coordinator.givenBack).toEqual(['l1'])
    expect(coordinator.updates[0]).toMatchObject({ lease: 'l2', measureSum: 0 })
    expect(loaded).toHaveLength(1)
    expect(loaded[0]).toMatchObject({ fixed: { layout: fixedLayout, values }, objective: { kind: 'reconstruct' } })
    // Augmented examples are not the plain ones.
    const { gradient } = await expected(lease('l2'), parametersOf(0), 0)
    expect(decodeVector(codecs.f32, coordinator.updates[0].bytes, model.layout.size)).not.toEqual(gradient)
  })

  test('fetches the next lease while it computes, and starts it with the update: one start is ever asked for', async () => {
    let version = 0
    coordinator.startOf = () => ({ version: version++ })
    const leases = ['l1', 'l2', 'l3', 'l4'].map((id) =>
      lease(id, { segments: [lease(id).segments[Number(id[1]) % 2]] }),
    )
    coordinator.grant(...leases)
    // Computing takes until the next lease is ready.
    const nextIsReady = () => (one.volunteer as unknown as { next: unknown }).next !== null
    const computed = () => reached(() => coordinator.updates.length === 3 || nextIsReady())
    const one = volunteer({ openEngine: async () => new SoftmaxEngine(() => {}, computed) })
    await updated(4)
    expect(coordinator.updates.map(({ lease, version }) => [lease, version])).toEqual([
      ['l1', 0],
      ['l2', 1],
      ['l3', 2],
      ['l4', 3],
    ])
    const events = coordinator.events()
    expect(events.filter((event) => event === 'start')).toHaveLength(1)
    // The second lease was asked for, and its shard downloaded, before the first update was sent.
    expect(
      events.slice(0, events.indexOf('update')).filter((event) => event === 'lease').length,
    ).toBeGreaterThanOrEqual(2)
    expect(coordinator.updates.map(({ next }) => next)).toEqual(['l2', 'l3', 'l4', undefined])
  })

  test('[L10] where leases overlap computes the second one while the update of the first is on its way', async () => {
    const names = ['l1', 'l2', 'l3', 'l4', 'l5']
    coordinator.startOf = (id) => ({ version: names.indexOf(id) })
    coordinator.grant(...names.map((id) => lease(id, { overlaps: true })))
    let computing = 0
    const atHand = () => (one.volunteer as unknown as { next: { lease: Lease } | null }).next?.lease.id
    // Each lease is computed until the one after the next is at hand.
    const computed = () => {
      const awaited = names[++computing + 1]
      return reached(() => awaited === undefined || atHand() === awaited)
    }
    const one = volunteer({ openEngine: async () => new SoftmaxEngine(undefined, computed) })
    // The first update is not taken before the second lease is being computed, nor the second before the third is.
    coordinator.hold = (event, { lease }: { lease: string }) => {
      const place = names.indexOf(lease)
      return event === 'update' && place < 2 ? reached(() => computing > place + 1) : undefined
    }
    await updated(5)
    expect(coordinator.updates.map(({ lease, version }) => [lease, version])).toEqual(names.map((id, i) => [id, i]))
    // Two are begun of their own, the others by the update before the last.
    const asked = coordinator.log.filter(({ event }) => event === 'start').map(({ request }) => request.lease)
    expect(asked).toEqual(['l1', 'l2'])
    expect(coordinator.updates.map(({ next }) => next)).toEqual(['l3', 'l4', 'l5', undefined, undefined])
  })

  test('[L10] begins one lease at a time again where they overlap no more', async () => {
    coordinator.startOf = () => ({ version: coordinator.updates.length })
    const names = ['l1', 'l2', 'l3', 'l4', 'l5', 'l6']
    coordinator.grant(...names.map((id, place) => lease(id, { overlaps: place < 2 })))
    let computing = 0
    const computed = async () => void computing++
    volunteer({ openEngine: async () => new SoftmaxEngine(undefined, computed) })
    coordinator.hold = (event, { lease }: { lease: string }) => {
      const place = names.indexOf(lease)
      return event === 'update' && place < 2 ? reached(() => computing > place + 1) : undefined
    }
    await updated(6)
    // What is begun already is computed first; from then on each begins when the one before it is in.
    expect(coordinator.updates.map(({ lease }) => lease)).toEqual(names)
    const versions = coordinator.updates.map(({ version }) => version)
    expect([versions.slice(0, 3), versions.slice(4)]).toEqual([
      [0, 0, 1],
      [4, 5],
    ])
  })

  test('does not compute again what it is told again', async () => {
    coordinator.grant(lease('l1'), lease('l2'), lease('l2'), lease('l3'))
    volunteer()
    await updated(3)
    const sent = coordinator.log.filter(({ event }) => event === 'update').map(({ request }) => request.lease)
    expect(sent).toEqual(['l1', 'l2', 'l3'])
  })

  test('downloads nothing twice: shards, model, and parameters of the same version', async () => {
    coordinator.grant(...['l1', 'l2', 'l3'].map((id) => lease(id)))
    volunteer()
    await updated(3)
    expect(coordinator.events().filter((event) => event === 'download')).toHaveLength(4)
  })

  test('[D2] goes on from its own replica where the start says so, and from the version where it lost it', async () => {
    coordinator.startOf = (id) => ({ version: 2, localRate: 0.5, continues: { l2: 'l1', l4: 'l0' }[id] ?? null })
    coordinator.grant(lease('l1'), lease('l2'), lease('l3'), lease('l4'))
    volunteer()
    await updated(4)
    const first = await expected(lease('l1'), parametersOf(2), 0.5)
    const second = await expected(lease('l2'), first.replica, 0.5)
    const sent = coordinator.updates.map(({ bytes }) => decodeVector(codecs.f32, bytes, model.layout.size))
    expect(sent[0]).toEqual(first.gradient)
    expect(sent[1]).toEqual(second.gradient)
    expect(sent[1]).not.toEqual(first.gradient)
    expect(sent[2]).toEqual(first.gradient)
    expect(sent[3]).toEqual(first.gradient)
  })

  test('keeps to the time box and says how much it did', async () => {
    const clock = new PromptClock()
    coordinator.grant(lease('l1', { budgetMs: 100 }))
    volunteer({ clock, openEngine: async () => new SoftmaxEngine(() => clock.advance(60)) })
    await updated(1)
    expect(coordinator.updates[0]).toMatchObject({ minibatches: 2, examples: 16, computeMs: 120 })
  })

  test('waits as long as it is told, then asks again', async () => {
    const clock = new PromptClock()
    coordinator.intervene = (event, _request, count) =>
      event === 'lease' && count <= 2 ? ({ ok: true, waitMs: 1234, reason: 'warm start' } as never) : undefined
    coordinator.grant(lease('l1'))
    const { statuses } = volunteer({ clock })
    await updated(1)
    expect(clock.slept.filter((ms) => ms === 1234)).toHaveLength(2)
    expect(statuses.map(({ state, reason }) => `${state}: ${reason}`)).toContain('waiting: warm start')
  })

  test('tells how it goes', async () => {
    coordinator.grant(lease('l1'), lease('l2'))
    const { volunteer: one, statuses } = volunteer()
    await reached(() => one.status.updatesAccepted === 2)
    expect(one.status.examples).toBe(40)
    one.stop()
    const states = statuses.map(({ state }) => state).filter((state, i, all) => state !== all[i - 1])
    expect(states.slice(0, 2)).toEqual(['starting', 'connecting'])
    expect(states).toContain('working')
    expect(one.status).toMatchObject({ backend: 'cpu', device: 'plain loops', token: 'token-1', updatesRefused: 0 })
  })
})

describe('a volunteer that is refused', () => {
  test('drops the lease, gives it back and takes another', async () => {
    coordinator.intervene = (event, request: { lease?: string }) =>
      event === 'update' && request.lease === 'l1' ? refusing('stale', 'new-lease') : undefined
    coordinator.grant(lease('l1'), lease('l2'))
    const { volunteer: one } = volunteer()
    await updated(1)
    expect(coordinator.updates[0].lease).toBe('l2')
    expect(one.status.updatesRefused).toBe(1)
    expect(coordinator.givenBack).toEqual(['l1'])
  })

  test('gives back a lease whose shard cannot be had', async () => {
    const segment = { ...lease('l1').segments[0], shard: 'f'.repeat(64) }
    coordinator.grant(lease('l1', { segments: [segment] }), lease('l2'))
    volunteer()
    await updated(1)
    expect(coordinator.updates[0].lease).toBe('l2')
    expect(coordinator.givenBack).toEqual(['l1'])
  })

  test('over and over asks ever more seldom', async () => {
    const clock = new PromptClock()
    coordinator.intervene = (event, _request, count) =>
      event === 'lease' && count <= 5 ? refusing('run-not-running', 'new-lease') : undefined
    coordinator.grant(lease('l1'))
    volunteer({ clock, uniform: () => 0.999999 })
    await updated(1)
    const waits = clock.slept.map((ms) => Math.round(ms)).filter((ms) => ms > 0)
    expect(waits.slice(0, 5)).toEqual([500, 1000, 2000, 4000, 8000])
  })

  test('with "retry" asks the same again, not before it was told', async () => {
    const clock = new PromptClock()
    coordinator.intervene = (event, _request, count) =>
      event === 'update' && count <= 2 ? refusing('storage-full', 'retry', 4321) : undefined
    coordinator.grant(lease('l1'))
    volunteer({ clock })
    await updated(1)
    expect(clock.slept.filter((ms) => ms === 4321)).toHaveLength(2)
  })

  test.each([
    ['protocol-version', 'update-page', 'hello'],
    ['malformed', 'stop', 'lease'],
    ['malformed', 'stop', 'update'],
  ] as const)('with %s (%s) at its %s ends as failed and says why', async (code, next, at) => {
    coordinator.intervene = (event) => (event === at ? refusing(code, next) : undefined)
    coordinator.grant(lease('l1'))
    const { ended, engine } = volunteer()
    expect(await ended).toMatchObject({ state: 'failed', reason: `told ${code}` })
    expect(engine.closed).toBe(true)
  })
})

describe('a volunteer whose connection is lost', () => {
  test.each(['lease', 'start', 'download', 'update'] as const)('at its %s goes on as the same one', async (at) => {
    for (const cut of ['cut-before', 'cut-after'] as const) {
      let done = false
      coordinator.intervene = (event) => {
        if (event !== at || done) return undefined
        done = true
        return cut
      }
      const before = coordinator.updates.length
      const hellosBefore = coordinator.hellos.length
      coordinator.grant(lease(`a-${cut}`), lease(`b-${cut}`), lease(`c-${cut}`))
      const one = volunteer()
      await updated(before + 2)
      const hellos = coordinator.hellos.slice(hellosBefore)
      expect(hellos.length).toBe(2)
      expect(hellos[1]).toMatchObject({ token: 'token-1', instance: hellos[0].instance })
      one.volunteer.stop()
      await one.ended
      coordinator.leases.length = 0
    }
    // No lease was settled twice.
    const settled = coordinator.updates.map(({ lease }) => lease)
    expect(new Set(settled).size).toBe(settled.length)
  })

  test('[J6] does not take parameters of before for the same version: a loss of power may have made it another', async () => {
    coordinator.intervene = (event, _request, count) => {
      if (event !== 'update' || count > 1) return undefined
      coordinator.putVersion('r', 0, encodeVector(codecs.f32, parametersOf(5)))
      return 'cut-after'
    }
    coordinator.grant(lease('l1'), lease('l2'))
    volunteer()
    await updated(2)
    const sent = coordinator.updates.map(({ bytes }) => decodeVector(codecs.f32, bytes, model.layout.size))
    expect(sent[0]).toEqual((await expected(lease('l1'), parametersOf(0), 0)).gradient)
    expect(sent[1]).toEqual((await expected(lease('l2'), parametersOf(5), 0)).gradient)
  })

  test('counts an update whose acknowledgement never came', async () => {
    coordinator.intervene = (event, _request, count) => (event === 'update' && count === 1 ? 'cut-after' : undefined)
    coordinator.grant(lease('l1'), lease('l2'))
    const { volunteer: one } = volunteer()
    await updated(2)
    await reached(() => one.status.updatesAccepted === 2)
    expect(coordinator.updates.map(({ lease }) => lease)).toEqual(['l1', 'l2'])
    expect(one.status.updatesRefused).toBe(0)
  })
})

describe('a volunteer that stops', () => {
  test('gives back what it holds, closes and says so', async () => {
    coordinator.grant(lease('l1'), lease('l2'))
    // Stopped in the middle of the first lease, with the second at hand.
    const one = volunteer({
      openEngine: async () =>
        new SoftmaxEngine(() => {
          if (one.volunteer.status.state === 'working') one.volunteer.stop()
        }),
    })
    expect(await one.ended).toMatchObject({ state: 'stopped', reason: null, token: 'token-1' })
    expect(coordinator.updates).toEqual([])
    expect(coordinator.givenBack).toContain('l1')
    expect(one.statuses.at(-1)?.state).toBe('stopped')
  })

  test('while it waits for work, or for a coordinator that is away, ends at once', async () => {
    const waiting = volunteer()
    await coordinator.until(() => coordinator.events().includes('lease'))
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
    expect(coordinator.hellos).toEqual([])
  })
})
