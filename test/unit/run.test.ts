/** Leases and updates as the core grants and takes them, on a journal in memory. */
import { describe, expect, it } from 'vitest'
import { sampled } from '../../coordinator/run/shards.ts'
import type { Lease, UpdateRequest } from '../../shared/protocol.ts'
import { emptyDataset } from '../simulation/examples.ts'
import { codeOf, type Desk, desk, specOf, stateOf } from '../support/desk.ts'

const synchronous = { strategy: { name: 'synchronous', batchSize: 8, portionSize: 4 } }
const pass = { strategy: { name: 'gradient-descent', portionSize: 20, batchSize: 20 }, updateRule: undefined }

describe('journal', () => {
  it('[J1] acknowledges an update that is in the journal', () => {
    const at = desk()
    at.hello('ann')
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    const before = at.journalled
    expect(codeOf(at.submit('ann', lease, version))).toBe('accepted')
    expect(at.journalled).toBe(before + 1)
  })

  it('[J3] takes nothing while the disk is full, and the same update when there is room', () => {
    const at = desk()
    at.hello('ann')
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    const before = stateOf(at)
    at.journal.failNext('full')
    expect(at.submit('ann', lease, version)).toMatchObject({ ok: false, code: 'storage-full', next: 'retry' })
    expect(stateOf(at)).toBe(before)
    expect(codeOf(at.submit('ann', lease, version))).toBe('accepted')
    expect(at.runs.get('r0')!.history.counts.updates).toBe(1)
  })

  it('[J2] comes back from a checkpoint with the same clock and curves as from the first entry', () => {
    const at = desk({ checkpointEvery: 3, stop: { epochs: 2 } })
    at.hello('ann')
    for (let i = 0; i < 8; i++) {
      at.now += 700
      at.work('ann')
    }
    const before = stateOf(at)
    expect(at.runs.get('r0')!.history.counts.seconds).toBeCloseTo(6.4, 9)
    expect(stateOf(at.again())).toBe(before)
  })

  it('folds in what it journalled though nobody can be told', () => {
    const at = desk()
    at.hello('ann')
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    at.deaf = true
    expect(() => at.submit('ann', lease, version)).toThrow('the sockets are gone')
    expect(at.runs.get('r0')!.history.counts.updates).toBe(1)
    expect(at.broken).toEqual([])
    expect(stateOf(at.again())).toBe(stateOf(at))
  })

  it('[J2] says that it is broken when what it journalled cannot be folded in', () => {
    const at = desk()
    at.hello('ann')
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    const fault = new Error('invariant: for the test')
    at.runs.get('r0')!.history.fold = () => {
      throw fault
    }
    expect(() => at.submit('ann', lease, version)).toThrow(fault)
    expect(at.broken).toEqual([fault])
  })
})

describe('leases', () => {
  it.each([
    ['a batch', synchronous],
    ['a pass', { ...pass, stop: { epochs: 4 } }],
  ])('[L2] of %s says its version when granted, and has its parameters from then on', (_name, changes) => {
    const at = desk(changes)
    at.hello('ann')
    const run = at.runs.get('r0')!
    for (let version = 0; version < 3; version++) {
      const granted = [at.lease('ann'), at.lease('ann')]
      expect(granted.map((lease) => lease.version)).toEqual([version, version])
      for (const lease of granted) {
        expect(run.versions.bytes(version)).not.toBeNull()
        expect(at.start('ann', lease).version).toBe(version)
        expect(at.submit('ann', lease, version)).toMatchObject({ ok: true })
      }
      expect(run.versions.bytes(version)).toBeNull()
    }
  })

  it('[L2] [V4] keeps the version of a lease that was granted no longer than the lease', () => {
    const at = desk(synchronous)
    for (const who of ['ann', 'bob', 'cid']) at.hello(who)
    const run = at.runs.get('r0')!
    const [anns, bobs] = [at.lease('ann'), at.lease('bob')]
    at.runs.giveBack('ann', { lease: anns.id })
    at.runs.bye('bob', at.now)
    expect(run.inspect().leases).toEqual([])
    for (const _ of [anns, bobs]) at.work('cid')
    expect(run.parameters.version).toBe(1)
    expect(run.versions.bytes(0)).toBeNull()
  })

  it('[L6] [G4] frees what was granted into a line that had died, when its volunteer is back on another one', () => {
    const at = desk(synchronous)
    for (const who of ['ann', 'bob']) at.hello(who)
    const bobs = at.lease('bob')
    const begun = at.start('bob', bobs)
    const unheard = at.lease('ann')
    at.hello('ann')
    expect(at.lease('ann').segments).toEqual(unheard.segments)
    at.hello('bob')
    expect(at.submit('bob', bobs, begun.version)).toMatchObject({ ok: true })
  })

  it('[L11] [L8] gives a copy of a late portion to who has nothing to do', () => {
    const at = desk({
      dataset: { name: 'mnist', train: 12, test: 10 },
      strategy: { ...synchronous.strategy, batchSize: 12 },
    })
    for (const who of ['ann', 'bob', 'cid']) at.hello(who)
    const [anns, bobs, cids] = ['ann', 'bob', 'cid'].map((who) => at.lease(who))
    at.start('ann', anns)
    at.start('bob', bobs)
    at.submit('cid', cids, at.start('cid', cids).version)
    // Past twice what they should take, and before they expire.
    at.passes(12_000)
    expect(at.ask('bob')).toMatch(/this batch is out with other volunteers/)
    expect(at.lease('cid').segments).toEqual(anns.segments)
  })

  for (const [name, changes] of Object.entries({
    'a batch': { ...synchronous, dataset: { name: 'mnist', train: 8, test: 10 } },
    'a pass': pass,
  })) {
    it(`[L11] leaves the last portion of ${name} to who has none, not to who wants one ahead`, () => {
      const at = desk(changes)
      for (const who of ['ann', 'bob']) at.hello(who)
      at.start('ann', at.lease('ann'))
      expect(at.ask('ann')).toMatch(/for those who have nothing to do/)
      const bobs = at.lease('bob')
      expect(at.submit('bob', bobs, at.start('bob', bobs).version)).toMatchObject({ ok: true })
    })

    it(`[L11] lets one have the last portion of ${name} at hand when nobody else is there`, () => {
      const at = desk(changes)
      for (const who of ['ann', 'bob']) at.hello(who)
      at.start('ann', at.lease('ann'))
      at.runs.bye('bob', at.now)
      expect(at.lease('ann')).toBeTypeOf('object')
    })
  }

  it('[L3] settles a lease once, however often it is sent, at once or later', () => {
    const at = desk()
    at.hello('ann')
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    const said = [at.submit('ann', lease, version), at.submit('ann', lease, version)]
    expect(said.map(codeOf)).toEqual(['accepted', 'lease-settled'])
    expect(at.runs.get('r0')!.history.counts.examples).toBe(4)
  })

  it('fails when its loss on the test examples is not finite, and says why', () => {
    const at = desk({ evaluateEveryEpochs: 0.25 })
    at.hello('ann')
    at.hello('own', { trusted: true })
    for (let i = 0; i < 20 && !at.runs.get('r0')!.wantsTrusted; i++) at.work('ann')
    expect(at.work('own', { lossSum: null })).toBe('accepted')
    const run = at.runs.get('r0')!
    expect(run.detail(at.now)).toMatchObject({ state: 'failed', reason: expect.stringContaining('diverged') })
    expect(run.wantsTrusted).toBe(false)
    expect(run.over).toBe(true)
  })

  it('[E2] frees what a lease did not do', () => {
    const at = desk({ strategy: { name: 'downpour', batchSize: 4, pushEvery: 5 } })
    at.hello('ann')
    expect(at.work('ann', { minibatches: 2, examples: 8 })).toBe('accepted')
    expect(at.runs.get('r0')!.history.epochs.inspect()).toEqual([
      { epoch: 0, done: [{ from: 0, to: 8 }], free: [{ from: 8, to: 40 }] },
    ])
  })

  it('[L6] a volunteer holds two leases, of all runs together', () => {
    const at = desk()
    at.runs.create('r1', specOf(), at.now)
    at.hello('ann', { run: 'r0' })
    at.start('ann', at.lease('ann'))
    at.start('ann', at.lease('ann'))
    expect(at.ask('ann')).toBe('busy')
    at.hello('ann', { run: 'r1' })
    expect(at.ask('ann')).toBe('busy')
  })

  it('[L5] does not believe that somebody computed for longer than its lease was out', () => {
    const at = desk({ ...synchronous, stop: { epochs: 3 } })
    at.hello('ann')
    expect(at.work('ann', { computeMs: 1e300 })).toBe('accepted')
    const { deadlineMs } = at.start('ann', at.lease('ann'))
    expect(deadlineMs).toBeLessThan(60_000)
  })

  it('announcing again and again does not keep a lease', () => {
    const at = desk(synchronous)
    at.hello('ann')
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    const done = { minibatches: 1, examples: 4, lossSum: 4, correct: 0, computeMs: 1, size: 60 }
    for (let seconds = 0; seconds < 300; seconds += 10) {
      at.now += 10_000
      at.runs.expire(at.now)
      const refusal = at.runs.announce('ann', { lease: lease.id, version, ...done }, at.now)
      if (refusal !== null) return expect(refusal.code).toBe('lease-expired')
    }
    expect.fail('the lease is still held')
  })

  it("[T1] giving back somebody else's lease does not touch how that one is timed", () => {
    const at = desk()
    at.hello('ann')
    at.hello('eve')
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    expect(at.runs.giveBack('eve', { lease: lease.id })).toMatchObject({ code: 'lease-foreign' })
    at.now += 2_000
    at.submit('ann', lease, version, { computeMs: 500 })
    expect(at.runs.get('r0')!.roster.get('ann')).toMatchObject({ examplesPerSecond: 8, overheadMs: 1_500 })
  })
})

describe('what is refused', () => {
  const lies: [string, Partial<UpdateRequest>, number, string][] = [
    ['a NaN', {}, Number.NaN, 'non-finite'],
    ['an infinity', {}, Number.NEGATIVE_INFINITY, 'non-finite'],
    ['a huge norm', {}, 1e6, 'norm-too-large'],
    ['another size', { size: 64 }, 0.1, 'wrong-length'],
    ['more examples than it holds', { examples: 5 }, 0.1, 'impossible-count'],
    ['no minibatch', { minibatches: 0, examples: 0 }, 0.1, 'impossible-count'],
    ['more minibatches than it holds', { minibatches: 2 }, 0.1, 'impossible-count'],
    ['more right than there are', { correct: 5 }, 0.1, 'impossible-count'],
    ['a loss whose sum is infinite', { lossSum: 1.7e308 }, 0.1, 'impossible-count'],
    ['a loss below zero', { lossSum: -1 }, 0.1, 'impossible-count'],
    ['a version to come', { version: 9 }, 0.1, 'version-unknown'],
    ['a lease of nobody', { lease: 'r0.x.1' }, 0.1, 'lease-unknown'],
    ['a run of nobody', { lease: 'r9.x.1' }, 0.1, 'lease-unknown'],
  ]

  it.each(lies)('[T1] %s changes nothing but its own lease', (_what, lie, value, code) => {
    const at = desk()
    at.hello('ann')
    at.hello('bob')
    const bobs = at.lease('bob')
    const { version } = at.start('bob', bobs)
    const lease = at.lease('ann')
    const started = at.start('ann', lease)
    const before = [stateOf(at).replace(/"free":\[[^\]]*\]/g, ''), at.journalled]
    expect(codeOf(at.submit('ann', lease, started.version, lie, value))).toBe(code)
    expect([stateOf(at).replace(/"free":\[[^\]]*\]/g, ''), at.journalled]).toEqual(before)
    expect(codeOf(at.submit('bob', bobs, version))).toBe('accepted')
  })

  it('[T1] a lease of another volunteer, and one that was not started', () => {
    const at = desk()
    at.hello('ann')
    at.hello('eve')
    const lease = at.lease('ann')
    expect(codeOf(at.submit('eve', lease, 0))).toBe('lease-foreign')
    expect(codeOf(at.submit('ann', lease, 0))).toBe('lease-not-started')
    at.start('ann', lease)
    expect(codeOf(at.submit('eve', lease, 0))).toBe('lease-foreign')
    expect(at.runs.start('eve', lease.id, at.now)).toMatchObject({ code: 'lease-foreign' })
  })

  it('[S1] what is too old when it is taken, those before it being taken first', () => {
    const at = desk({ strategy: { name: 'downpour', batchSize: 4, pushEvery: 1, maxStaleness: 1 } })
    const crowd = ['ann', 'bob', 'cid', 'dan'].map((volunteer) => {
      at.hello(volunteer)
      const lease = at.lease(volunteer)
      return { volunteer, lease, version: at.start(volunteer, lease).version }
    })
    const said = crowd.map(({ volunteer, lease, version }) => at.submit(volunteer, lease, version))
    expect(said.map(codeOf)).toEqual(['accepted', 'accepted', 'stale', 'stale'])
    expect(at.runs.get('r0')!.history.counts.stalenessSum).toBe(1)
  })
})

describe('warm start', () => {
  const warm = { strategy: { name: 'downpour', batchSize: 4, pushEvery: 1, warmStart: 2 } }

  it('[W1] one volunteer trains until its updates are in, then two', () => {
    const at = desk(warm)
    for (const volunteer of ['ann', 'bob', 'cid']) at.hello(volunteer)
    expect(at.ask('bob')).toBe('warm start: 1 volunteer trains first')
    for (let i = 0; i < 2; i++) expect(at.work('ann')).toBe('accepted')
    expect(at.work('bob')).toBe('accepted')
    expect(at.ask('cid')).toBe('warm start: 2 volunteers train first')
  })

  it('does not wait for somebody who is there and does nothing', () => {
    const at = desk(warm)
    at.hello('idle')
    at.hello('ann')
    expect(at.ask('ann')).toBe('warm start: 1 volunteer trains first')
    at.now += 31_000
    expect(at.work('ann')).toBe('accepted')
  })

  it.each([
    ['lets its leases expire', (at: Desk) => at.passes(60_000)],
    [
      'sends what is not finite',
      (at: Desk, lease: Lease) => at.submit('bad', lease, at.start('bad', lease).version, {}, Number.NaN),
    ],
    ['gives its leases back', (at: Desk, lease: Lease) => at.runs.giveBack('bad', { lease: lease.id })],
  ])('does not wait for somebody who %s', (_what, misbehave) => {
    const at = desk(warm)
    at.hello('bad')
    at.hello('ann')
    const lease = at.lease('bad')
    expect(at.ask('ann')).toBe('warm start: 1 volunteer trains first')
    misbehave(at, lease)
    at.runs.expire(at.now)
    expect(at.work('ann')).toBe('accepted')
    expect(at.ask('bad')).toBe('warm start: 1 volunteer trains first')
  })
})

describe('a run whose samples were all empty', () => {
  const dataset = { name: 'mnist', train: 40, test: 10 } as const
  const fraction = 1 / 40
  const isEmpty = (seed: number) => sampled(emptyDataset(dataset).train, seed, 0, fraction, { from: 0, to: 40 }) === 0

  it.each([
    ['the last of them came in', false],
    ['it goes on, where it was paused then', true],
  ])('[T4] fails when %s', (_when, paused) => {
    const seed = Array.from({ length: 50 }, (_, i) => i).find(isEmpty)
    const at = desk({ ...pass, dataset, seed, strategy: { ...pass.strategy, portionSize: 40, fraction } })
    const run = at.runs.get('r0')!
    at.hello('ann')
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    if (paused) at.runs.move(run, 'paused', null, at.now)
    const nothing = { minibatches: 0, examples: 0, lossSum: 0 }
    expect(codeOf(at.submit('ann', lease, version, nothing))).toBe('accepted')
    if (paused) at.runs.move(run, 'running', null, at.now)
    expect(run.detail(at.now)).toMatchObject({
      state: 'failed',
      reason: expect.stringMatching(/empty; raise fraction$/),
    })
    expect(stateOf(at.again())).toBe(stateOf(at))
  })
})

describe('an upload', () => {
  it.each([
    [
      'of a run that is over',
      'run-not-running',
      (at: Desk) => at.runs.move(at.runs.get('r0')!, 'finished', null, at.now),
    ],
    ['that is too stale', 'stale', (at: Desk) => at.work('bob')],
  ])('%s is refused at its next bytes, and its lease is over', (_which, code, happens) => {
    const at = desk({ strategy: { name: 'downpour', batchSize: 4, pushEvery: 1, maxStaleness: 0 } })
    at.hello('ann')
    at.hello('bob')
    const { id, batchSize } = at.lease('ann')
    const { version } = at.start('ann', { id } as Lease)
    const counts = { minibatches: 1, examples: batchSize, lossSum: 4, correct: 0, computeMs: 1, size: 60 }
    expect(at.runs.announce('ann', { lease: id, version, ...counts }, at.now)).toBeNull()
    expect(at.runs.uploading('ann', id, at.now)).toBeNull()
    happens(at)
    expect(at.runs.uploading('ann', id, at.now)).toMatchObject({ code })
    expect(at.runs.get('r0')!.holds('ann')).toBe(0)
    expect(at.runs.get('r0')!.updatesRefused).toBe(1)
  })
})
