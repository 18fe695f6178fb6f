/** How long a volunteer may keep its lease: what it claims of its speed earns it no far deadline. */
import { describe, expect, it } from 'vitest'
import { Roster } from '../../coordinator/run/roster.ts'
import { codecs, payloadSize } from '../../shared/codec.ts'
import type { UpdateRequest } from '../../shared/protocol.ts'
import { codeOf, type Desk, desk } from '../support/desk.ts'

const NOW = Date.UTC(2026, 0, 1)
/** The time box, and the most that is believed of a lease done whole beyond it and of what is not compute. */
const BOX_MS = 15_000
const WHOLE_MS = 60_000
const OVERHEAD_MS = 60_000
/** A lease may take this many times what it should. */
const FACTOR = 3
/** Half an hour, nearly all that uploads may take together. */
const DRAWN_OUT_MS = 1_700_000

describe('the roster', () => {
  it('[L5] believes at most a minute beside the compute, in the first lease and in the mean', () => {
    const roster = new Roster(() => 0)
    roster.join({ volunteer: 'ann', backend: 'wasm', device: '', trusted: false }, NOW)
    const { overheadMs: before } = roster.get('ann')!
    roster.credit('ann', 100, 1_000, 30_000)
    expect(before).toBeLessThan(30_000)
    expect(roster.get('ann')!.overheadMs).toBe(30_000)
    for (let i = 0; i < 50; i++) roster.credit('ann', 100, 0, DRAWN_OUT_MS)
    expect(roster.get('ann')!.overheadMs).toBeGreaterThan(OVERHEAD_MS - 1)
    expect(roster.get('ann')!.overheadMs).toBeLessThanOrEqual(OVERHEAD_MS)

    roster.join({ volunteer: 'bob', backend: 'wasm', device: '', trusted: false }, NOW)
    roster.credit('bob', 100, 0, DRAWN_OUT_MS)
    expect(roster.get('bob')!.overheadMs).toBe(OVERHEAD_MS)
  })
})

/** A synchronous run, whose portions are done whole, in two portions a batch, or more. */
const portions = (count = 2): Desk =>
  desk({
    dataset: { name: 'mnist', train: 20 * count, test: 10 },
    strategy: { name: 'synchronous', batchSize: 4 * count, portionSize: 4 },
    leaseSeconds: BOX_MS / 1000,
    stop: { epochs: 10 },
  })

/** A whole lease that is out for so long, its upload dripping in, and the compute that it claims. */
function work(at: Desk, volunteer: string, outMs: number, computeMs: number): void {
  const one = at.lease(volunteer)
  const { version } = at.start(volunteer, one)
  const done = { minibatches: 1, examples: 4, lossSum: 4, correct: 0, measureSum: null, size: 60 }
  const update: UpdateRequest = { lease: one.id, version, ...done, computeMs }
  expect(at.runs.announce(volunteer, update, at.now)).toBeNull()
  for (let leftMs = outMs; leftMs > 0; leftMs -= 20_000) {
    at.passes(Math.min(20_000, leftMs))
    expect(at.runs.uploading(volunteer, one.id, at.now)).toBeNull()
  }
  expect(codeOf(at.submit(volunteer, one, version, { ...done, computeMs }))).toBe('accepted')
}

/** What it is told when it asks for a lease. */
const asks = (at: Desk, volunteer: string) => at.runs.lease(volunteer, at.now)

describe('a deadline', () => {
  it('[L5] is three times what the volunteer was measured to take, compute and the rest', () => {
    const at = portions()
    at.hello('ann')
    work(at, 'ann', 20_000, 8_000)
    expect(at.start('ann', at.lease('ann')).deadlineMs).toBe(FACTOR * 20_000)
  })

  it('[L5] is not far for who draws a lease out and claims to have computed in no time', () => {
    const at = portions()
    at.hello('eve')
    for (const computeMs of [0, 1, 1e-9]) {
      work(at, 'eve', DRAWN_OUT_MS, computeMs)
      const lease = at.lease('eve')
      // Four examples at the claimed speed take a millisecond.
      expect(at.start('eve', lease).deadlineMs).toBeLessThanOrEqual(FACTOR * (OVERHEAD_MS + 1))
      at.passes(FACTOR * (OVERHEAD_MS + 1))
      expect(asks(at, 'eve')).toHaveProperty('lease')
      at.passes(FACTOR * (BOX_MS + WHOLE_MS + OVERHEAD_MS))
    }
  })

  it('[L5] of a lease done whole is not far for who claims to be slow, and others do it after twice what it should take', () => {
    const at = portions()
    at.hello('eve')
    at.hello('bob')
    work(at, 'eve', DRAWN_OUT_MS, DRAWN_OUT_MS)
    work(at, 'bob', 1_000, 1_000)
    // Both have done their portion of the first batch; eve sits on one of the second.
    const { deadlineMs } = at.start('eve', at.lease('eve'))
    expect(deadlineMs).toBe(FACTOR * (BOX_MS + WHOLE_MS))
    work(at, 'bob', 1_000, 1_000)
    expect(asks(at, 'bob')).toHaveProperty('waitMs')
    const expectedMs = deadlineMs / FACTOR
    at.passes(2 * expectedMs - 1_000)
    expect(asks(at, 'bob')).toHaveProperty('waitMs')
    at.passes(1)
    work(at, 'bob', 1_000, 1_000)
    // The batch is whole: the next one begins.
    expect(at.start('bob', at.lease('bob')).version).toBe(2)
  })

  it('[L5] goes further away each time that it was too near, until the lease can be done', () => {
    const at = portions()
    at.hello('ann')
    const takesMs = 50_000
    const deadlines: number[] = []
    for (let tries = 0; tries < 10; tries++) {
      const { deadlineMs } = at.start('ann', at.lease('ann'))
      deadlines.push(deadlineMs)
      if (deadlineMs > takesMs) break
      at.passes(deadlineMs)
    }
    expect(deadlines.at(-1)).toBeGreaterThan(takesMs)
    deadlines.slice(1).forEach((deadline, i) => {
      expect(deadline).toBeGreaterThan(deadlines[i])
    })
  })

  /** A run whose portions are far larger than its time box. */
  const large = (more: object = {}): Desk =>
    desk({
      ...more,
      dataset: { name: 'mnist', train: 30_000, test: 10 },
      strategy: { name: 'synchronous', batchSize: 30_000, portionSize: 30_000 },
      leaseSeconds: BOX_MS / 1000,
      stop: { epochs: 10 },
    })
  /** One portion that takes so long is tried once; what comes of it. */
  const tried = (at: Desk, volunteer: string, takesMs: number, lease = at.lease(volunteer)): string => {
    const { version, deadlineMs } = at.start(volunteer, lease)
    const counts = { minibatches: 1, examples: 30_000, lossSum: 1, correct: 0, computeMs: takesMs }
    at.passes(Math.min(takesMs, deadlineMs))
    return codeOf(at.submit(volunteer, lease, version, counts))
  }
  const [EXPIRED, ACCEPTED] = ['lease-expired', 'accepted']

  // 90 and 20 examples a second: 22 and a hundred time boxes.
  it.each([
    [333_000, [EXPIRED, ACCEPTED, ACCEPTED, ACCEPTED]],
    [1_500_000, [EXPIRED, EXPIRED, EXPIRED, ACCEPTED, ACCEPTED, ACCEPTED]],
  ])('[L5] of a portion that takes %d ms goes as far as that, and stays there', (takesMs, told) => {
    const at = large()
    at.hello('ann')
    expect(told.map(() => tried(at, 'ann', takesMs))).toEqual(told)
  })

  it('[L5] goes further for all of a crowd of slow ones, and not beyond half an hour or so', () => {
    const at = large()
    at.hello('ann')
    at.hello('bob')
    expect(tried(at, 'ann', 333_000)).toBe(EXPIRED)
    for (const volunteer of ['bob', 'ann', 'ann', 'bob']) expect(tried(at, volunteer, 333_000)).toBe(ACCEPTED)
    const deadlines = Array.from({ length: 8 }, () => {
      const { deadlineMs } = at.start('bob', at.lease('bob'))
      at.passes(deadlineMs)
      return deadlineMs
    })
    expect(Math.max(...deadlines)).toBeGreaterThanOrEqual(FACTOR * 8 * (BOX_MS + WHOLE_MS))
    expect(Math.max(...deadlines)).toBeLessThanOrEqual(FACTOR * (8 * (BOX_MS + WHOLE_MS) + OVERHEAD_MS))
  })

  it('[L5] goes further for who was faster once, however fast they all were, and stays there', () => {
    const at = large()
    const crowd = ['ann', 'bob']
    crowd.forEach((volunteer) => {
      at.hello(volunteer)
    })
    for (const volunteer of crowd) expect(tried(at, volunteer, 15_000)).toBe(ACCEPTED)
    const told: string[] = []
    for (let i = 0; i < 14; i++) told.push(tried(at, crowd[i % 2], 430_000))
    expect(told.indexOf(ACCEPTED)).toBeLessThan(10)
    expect(told.lastIndexOf(EXPIRED)).toBeLessThan(10)
  })

  it('[L5] goes further though somebody who could do it sooner is there and does nothing', () => {
    const at = large()
    at.hello('eve')
    expect(tried(at, 'eve', 0)).toBe(ACCEPTED)
    at.hello('bob')
    const told = Array.from({ length: 4 }, () => {
      at.runs.giveBack('eve', { lease: at.lease('eve').id })
      return tried(at, 'bob', 333_000)
    })
    expect(told).toEqual([EXPIRED, ACCEPTED, ACCEPTED, ACCEPTED])
  })

  it('[L5] is not far any more once somebody does in time what others did not', () => {
    const at = large()
    at.hello('eve')
    for (let i = 0; i < 6; i++) expect(tried(at, 'eve', 3_600_000)).toBe(EXPIRED)
    at.hello('bob')
    expect(tried(at, 'bob', 100_000)).toBe(ACCEPTED)
    /** Eve sits on a portion; bob asks, as who waits does, and does it as soon as he gets it. */
    for (let i = 0; i < 6; i++) {
      const { deadlineMs } = at.start('eve', at.lease('eve'))
      expect(deadlineMs).toBeLessThanOrEqual(FACTOR * (BOX_MS + WHOLE_MS + OVERHEAD_MS))
      let backup = at.ask('bob')
      for (; typeof backup === 'string'; backup = at.ask('bob')) at.passes(5_000)
      expect(tried(at, 'bob', 10_000, backup)).toBe(ACCEPTED)
    }
  })

  it.each([10, 0.5])(
    '[L5] of a test by %d examples a second goes further away and its parts become smaller, whatever a crowd does meanwhile',
    (perSecond) => {
      const at = desk({
        dataset: { name: 'mnist', train: 4000, test: 5000 },
        evaluateEveryEpochs: 0.01,
        stop: { epochs: 900 },
      })
      at.hello('ann')
      at.hello('own', { trusted: true })
      for (let i = 0; i < 100 && !at.runs.get('r0')!.wantsTrusted; i++) at.work('ann')
      const sizes: number[] = []
      for (let told = ''; told !== 'accepted' && sizes.length < 10; ) {
        const part = at.lease('own')
        expect(part.kind).toBe('evaluate')
        const examples = part.segments.reduce((sum, { from, to }) => sum + to - from, 0)
        const { version } = at.start('own', part)
        const takesMs = (1000 * examples) / perSecond
        for (let left = takesMs; left > 0; left -= 5_000) {
          at.passes(5_000)
          at.work('ann')
        }
        told = codeOf(at.submit('own', part, version, { computeMs: takesMs }))
        sizes.push(examples)
      }
      expect(sizes[0]).toBe(2_500)
      expect(sizes.length).toBeGreaterThan(1)
      expect(sizes.length).toBeLessThan(10)
      sizes.slice(1).forEach((size, i) => {
        expect(size).toBeLessThan(sizes[i])
      })
    },
  )

  it('[L5] is not far for who does both by turns, and lets leases expire, while others get on', () => {
    const at = portions(3)
    at.hello('eve')
    at.hello('bob')
    for (let i = 0; i < 12; i++) {
      work(at, 'eve', DRAWN_OUT_MS, i % 2 === 0 ? 0 : DRAWN_OUT_MS)
      const lease = at.lease('eve')
      const { deadlineMs } = at.start('eve', lease)
      expect(deadlineMs).toBeLessThanOrEqual(FACTOR * (BOX_MS + WHOLE_MS + OVERHEAD_MS))
      work(at, 'bob', 1_000, 1_000)
      at.passes(deadlineMs)
      expect(at.runs.start('eve', lease.id, at.now)).toMatchObject({ code: 'lease-expired' })
      work(at, 'bob', 1_000, 1_000)
    }
  })

  it('[L5] is as far as ever where tabs were closed: that says nothing of how long the work takes', () => {
    const at = large()
    at.hello('ann')
    const { deadlineMs } = at.start('ann', at.lease('ann'))
    for (let i = 0; i < 3; i++) {
      at.hello(`bob${i}`)
      at.runs.bye(i === 0 ? 'ann' : `bob${i - 1}`, at.now)
      at.passes(deadlineMs)
      expect(at.start(`bob${i}`, at.lease(`bob${i}`)).deadlineMs).toBe(deadlineMs)
    }
  })

  it('[L5] goes further though a test gets on meanwhile', () => {
    const at = large({ evaluateEveryEpochs: 1 })
    at.hello('ann')
    at.hello('own', { trusted: true })
    expect(tried(at, 'ann', 200_000)).toBe(ACCEPTED)
    const lease = at.lease('ann')
    const { deadlineMs } = at.start('ann', lease)
    expect(at.work('own')).toBe(ACCEPTED)
    at.passes(deadlineMs)
    expect(at.runs.start('ann', lease.id, at.now)).toMatchObject({ code: 'lease-expired' })
    expect(tried(at, 'ann', 333_000)).toBe(ACCEPTED)
  })

  it('[L5] is as far as ever in a new stage: an example is other work there', () => {
    const at = desk({
      dataset: { name: 'mnist', train: 30_000, test: 10 },
      model: { template: 'mlp', hidden: [3], activation: 'sigmoid' },
      pretrain: { epochs: 1, strategy: { name: 'synchronous', batchSize: 30_000, portionSize: 30_000 } },
      strategy: { name: 'synchronous', batchSize: 30_000, portionSize: 30_000 },
      leaseSeconds: BOX_MS / 1000,
      stop: { epochs: 2 },
    })
    const run = at.runs.get('r0')!
    const submitted = (takesMs: number): string => {
      const lease = at.lease('ann')
      const { version, deadlineMs } = at.start('ann', lease)
      at.passes(Math.min(takesMs, deadlineMs))
      const counts = { minibatches: Math.ceil(30_000 / lease.batchSize), examples: 30_000, lossSum: 1, correct: 0 }
      const size = payloadSize(codecs[lease.codec], run.model.layout.size)
      const update = { lease: lease.id, version, ...counts, measureSum: null, computeMs: takesMs, size }
      return codeOf(at.runs.submit('ann', update, new Uint8Array(size), at.now))
    }
    at.hello('ann')
    at.hello('own', { trusted: true })
    expect([submitted(400_000), submitted(400_000)]).toEqual([EXPIRED, ACCEPTED])
    while (run.history.stage.index === 0) expect(at.work('own', { correct: 0 })).toBe(ACCEPTED)
    expect(at.start('ann', at.lease('ann')).deadlineMs).toBeLessThanOrEqual(FACTOR * (BOX_MS + WHOLE_MS + OVERHEAD_MS))
  })
})
