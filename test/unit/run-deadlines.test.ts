/** How long a volunteer may keep its lease: what it claims of its speed earns it no far deadline. */
import { describe, expect, it } from 'vitest'
import { MemoryJournal } from '../../coordinator/journal/memory-journal.ts'
import { Roster } from '../../coordinator/run/roster.ts'
import { Runs } from '../../coordinator/run/runs.ts'
import type { Lease, LeaseReply, Refusal, UpdateRequest } from '../../shared/protocol.ts'
import { parseRunSpec } from '../../shared/run-spec.ts'
import { emptyDataset } from '../simulation/examples.ts'

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
    const roster = new Roster()
    roster.join({ volunteer: 'ann', backend: 'wasm', device: '', trusted: false }, NOW)
    const { overheadMs: before } = roster.get('ann')!
    roster.measured('ann', 100, 1_000, 30_000)
    expect(before).toBeLessThan(30_000)
    expect(roster.get('ann')!.overheadMs).toBe(30_000)
    for (let i = 0; i < 50; i++) roster.measured('ann', 100, 0, DRAWN_OUT_MS)
    expect(roster.get('ann')!.overheadMs).toBeGreaterThan(OVERHEAD_MS - 1)
    expect(roster.get('ann')!.overheadMs).toBeLessThanOrEqual(OVERHEAD_MS)

    roster.join({ volunteer: 'bob', backend: 'wasm', device: '', trusted: false }, NOW)
    roster.measured('bob', 100, 0, DRAWN_OUT_MS)
    expect(roster.get('bob')!.overheadMs).toBe(OVERHEAD_MS)
  })
})

/** A synchronous run, whose portions are done whole, in two portions a batch. */
function desk() {
  const parsed = parseRunSpec({
    dataset: { name: 'mnist', train: 40, test: 10 },
    model: { template: 'softmax' },
    strategy: { name: 'synchronous', batchSize: 8, portionSize: 4 },
    codec: { up: 'f32' },
    evaluateEveryEpochs: 0,
    leaseSeconds: BOX_MS / 1000,
    stop: { epochs: 10 },
  })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  const runs = new Runs({
    journal: new MemoryJournal(),
    openDataset: emptyDataset,
    blob: (bytes) => ({ hash: '0'.repeat(64), bytes }),
    boot: 'b',
    listener: {
      work() {},
      event() {},
      broken: (error) => expect.fail(String(error)),
      warn: (message) => expect.fail(message),
    },
  })
  runs.create('r0', parsed.spec, NOW)
  let now = NOW
  const start = (volunteer: string, lease: Lease) => {
    const start = runs.start(volunteer, lease.id, now)
    if ('ok' in start) throw new Error(start.message)
    return start
  }
  const ask = (volunteer: string): LeaseReply | Refusal => runs.lease(volunteer, now)
  const lease = (volunteer: string): Lease => {
    const reply = ask(volunteer)
    if (!('lease' in reply)) throw new Error(`${volunteer} got no lease`)
    return reply.lease
  }
  return {
    ask,
    lease,
    start,
    hello: (volunteer: string) =>
      expect(runs.hello({ volunteer, backend: 'wasm', device: '', trusted: false }, undefined, now)).toBeNull(),
    passes(ms: number) {
      now += ms
      runs.expire(now)
    },
    /** A whole lease that is out for so long, its upload dripping in, and the compute that it claims. */
    work(volunteer: string, outMs: number, computeMs: number) {
      const one = lease(volunteer)
      const { version } = start(volunteer, one)
      const done = { minibatches: 1, examples: 4, lossSum: 4, correct: 0, measureSum: null, size: 60 }
      const update: UpdateRequest = { lease: one.id, version, ...done, computeMs }
      expect(runs.announce(volunteer, update, now)).toBeNull()
      for (let leftMs = outMs; leftMs > 0; leftMs -= 20_000) {
        this.passes(Math.min(20_000, leftMs))
        runs.uploading(one.id, now)
      }
      const verdict = runs.submit(volunteer, update, new Uint8Array(new Float32Array(15).fill(0.1).buffer), now)
      expect(verdict).toMatchObject({ ok: true, verdict: 'accepted' })
    },
  }
}

describe('a deadline', () => {
  it('[L5] is three times what the volunteer was measured to take, compute and the rest', () => {
    const at = desk()
    at.hello('ann')
    at.work('ann', 20_000, 8_000)
    expect(at.start('ann', at.lease('ann')).deadlineMs).toBe(FACTOR * 20_000)
  })

  it('[L5] is not far for who draws a lease out and claims to have computed in no time', () => {
    const at = desk()
    at.hello('eve')
    for (const computeMs of [0, 1, 1e-9]) {
      at.work('eve', DRAWN_OUT_MS, computeMs)
      const lease = at.lease('eve')
      // Four examples at the claimed speed take a millisecond.
      expect(at.start('eve', lease).deadlineMs).toBeLessThanOrEqual(FACTOR * (OVERHEAD_MS + 1))
      at.passes(FACTOR * (OVERHEAD_MS + 1))
      expect(at.ask('eve')).toHaveProperty('lease')
      at.passes(FACTOR * (BOX_MS + WHOLE_MS + OVERHEAD_MS))
    }
  })

  it('[L5] of a lease done whole is not far for who claims to be slow, and others do it after twice what it should take', () => {
    const at = desk()
    at.hello('eve')
    at.hello('bob')
    at.work('eve', DRAWN_OUT_MS, DRAWN_OUT_MS)
    at.work('bob', 1_000, 1_000)
    // Both have done their portion of the first batch; eve sits on one of the second.
    const { deadlineMs } = at.start('eve', at.lease('eve'))
    expect(deadlineMs).toBe(FACTOR * (BOX_MS + WHOLE_MS))
    at.work('bob', 1_000, 1_000)
    expect(at.ask('bob')).toHaveProperty('waitMs')
    const expectedMs = deadlineMs / FACTOR
    at.passes(2 * expectedMs - 1_000)
    expect(at.ask('bob')).toHaveProperty('waitMs')
    at.passes(1)
    at.work('bob', 1_000, 1_000)
    // The batch is whole: the next one begins.
    expect(at.start('bob', at.lease('bob')).version).toBe(2)
  })

  it('[L5] goes further away each time that it was too near, until the lease can be done', () => {
    const at = desk()
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

  it('[L5] is not far for who does both by turns', () => {
    const at = desk()
    at.hello('eve')
    for (let i = 0; i < 12; i++) {
      at.work('eve', DRAWN_OUT_MS, i % 2 === 0 ? 0 : DRAWN_OUT_MS)
      const { deadlineMs } = at.start('eve', at.lease('eve'))
      expect(deadlineMs).toBeLessThanOrEqual(FACTOR * (BOX_MS + WHOLE_MS + OVERHEAD_MS))
      at.passes(deadlineMs)
    }
  })
})
