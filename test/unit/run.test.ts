/** The core as the shell drives it: runs on a journal in memory, a clock in the hand. */
import { describe, expect, it } from 'vitest'
import { MemoryJournal } from '../../coordinator/journal/memory-journal.ts'
import { Runs } from '../../coordinator/run/runs.ts'
import { codecs, payloadSize } from '../../shared/codec.ts'
import type { Lease, Refusal, Start, UpdateRequest, Verdict } from '../../shared/protocol.ts'
import { parseRunSpec, type RunSpec } from '../../shared/run-spec.ts'
import { emptyDataset } from '../simulation/examples.ts'

const NOW = Date.UTC(2026, 0, 1)

function specOf(overrides: object = {}): RunSpec {
  const parsed = parseRunSpec({
    dataset: { name: 'mnist', train: 40, test: 10 },
    model: { template: 'softmax' },
    strategy: { name: 'downpour', batchSize: 4, pushEvery: 1 },
    codec: { up: 'f32' },
    evaluateEveryEpochs: 0,
    stop: { epochs: 1 },
    journal: 'everything',
    ...overrides,
  })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.spec
}

const synchronous = { strategy: { name: 'synchronous', batchSize: 8, portionSize: 4 } }

/** A coordinator of its own, or one that came back on `journal`. */
class Desk {
  readonly journal: MemoryJournal
  readonly runs: Runs
  readonly warnings: string[] = []
  now: number

  constructor(journal = new MemoryJournal(), now = NOW) {
    this.journal = journal
    this.now = now
    this.runs = new Runs({
      journal,
      openDataset: emptyDataset,
      blob: (bytes) => ({ hash: '0'.repeat(64), bytes }),
      boot: `b${now}`,
      listener: { queued() {}, work() {}, event() {}, warn: (message) => this.warnings.push(message) },
    })
    this.runs.recover(now)
  }

  /** kill -9 and a new start, `ms` later. */
  again(ms = 1_000): Desk {
    return new Desk(this.journal.reopen(), this.now + ms)
  }

  hello(volunteer: string, { trusted = false, run }: { trusted?: boolean; run?: string } = {}): void {
    expect(this.runs.hello({ volunteer, backend: 'wasm', device: '', trusted }, run, this.now)).toBeNull()
  }

  passes(ms: number): void {
    this.now += ms
  }

  ask(volunteer: string): Lease | string {
    const reply = this.runs.lease(volunteer, this.now)
    return 'lease' in reply ? reply.lease : 'code' in reply ? reply.code : reply.reason
  }

  lease(volunteer: string): Lease {
    const lease = this.ask(volunteer)
    if (typeof lease === 'string') throw new Error(`${volunteer} got no lease: ${lease}`)
    return lease
  }

  start(volunteer: string, lease: Lease): Start {
    const start = this.runs.start(volunteer, lease.id, this.now)
    if ('ok' in start) throw new Error(start.message)
    return start
  }

  /** What the coordinator says at once, or with the commit, when there is one. */
  submit(volunteer: string, lease: Lease, version: number, lies: Partial<UpdateRequest> = {}, value = 0.1): Said {
    const examples = lease.segments.reduce((sum, { from, to }) => sum + to - from, 0)
    const gradient = lease.kind === 'gradient'
    const size = gradient ? payloadSize(codecs[lease.codec], 15) : 0
    const counts = gradient
      ? { minibatches: Math.ceil(examples / lease.batchSize), correct: 0 }
      : { minibatches: 0, correct: 5 }
    const update = { lease: lease.id, version, ...counts, examples, lossSum: examples, computeMs: 100, size, ...lies }
    const said: Said = { verdict: null }
    const payload = new Uint8Array(new Float32Array(size / 4).fill(value).buffer)
    this.runs.submit(volunteer, update, payload, this.now, (verdict) => {
      said.verdict = verdict
    })
    return said
  }

  /** A whole lease, from asking to the answer. */
  work(volunteer: string, lies: Partial<UpdateRequest> = {}): string {
    const lease = this.lease(volunteer)
    const { version } = this.start(volunteer, lease)
    this.now += 100
    const said = this.submit(volunteer, lease, version, lies)
    this.runs.commit(this.now)
    return codeOf(said)
  }

  get journalled(): number {
    return this.runs.list().reduce((sum, { id }) => sum + [...this.journal.read(id, 0)].length, 0)
  }
}

interface Said {
  verdict: Verdict | Refusal | null
}

function codeOf({ verdict }: Said): string {
  if (verdict === null) return 'nothing yet'
  return verdict.ok ? verdict.verdict : verdict.code
}

function desk(overrides: object = {}): Desk {
  const at = new Desk()
  at.runs.create('r0', specOf(overrides), at.now)
  at.runs.commit(at.now)
  return at
}

const stateOf = (at: Desk, run = 'r0') => {
  const { counts, epochs, series, parameters } = at.runs.get(run)!.history
  return JSON.stringify([counts, epochs, series, parameters.version, [...parameters.snapshot()]])
}

describe('journal', () => {
  it('[J1] acknowledges an update after it is in the journal, with the commit', () => {
    const at = desk()
    at.hello('ann')
    const lease = at.lease('ann')
    const said = at.submit('ann', lease, at.start('ann', lease).version)
    const before = at.journalled
    expect(codeOf(said)).toBe('nothing yet')
    at.runs.commit(at.now)
    expect(codeOf(said)).toBe('accepted')
    expect(at.journalled).toBe(before + 1)
  })

  it('[J3] takes nothing while the disk is full, and the same update when there is room', () => {
    const at = desk()
    at.hello('ann')
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    const before = stateOf(at)
    at.journal.failNext('full')
    const first = at.submit('ann', lease, version)
    at.runs.commit(at.now)
    expect(first.verdict).toMatchObject({ ok: false, code: 'storage-full', next: 'retry' })
    expect(stateOf(at)).toBe(before)
    const second = at.submit('ann', lease, version)
    at.runs.commit(at.now)
    expect(codeOf(second)).toBe('accepted')
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

  it('folds in what it journalled though an answer cannot be given', () => {
    const at = desk()
    at.hello('ann')
    at.hello('bob')
    const [a, b] = [at.lease('ann'), at.lease('bob')]
    const update = (lease: Lease): UpdateRequest => {
      const done = { minibatches: 1, examples: 4, lossSum: 4, correct: 0, computeMs: 1, size: 60 }
      return { lease: lease.id, version: 0, ...done }
    }
    at.start('ann', a)
    at.start('bob', b)
    at.runs.submit('ann', update(a), new Uint8Array(60), at.now, () => {
      throw new Error('the socket is gone')
    })
    at.runs.submit('bob', update(b), new Uint8Array(60), at.now, () => {})
    expect(() => at.runs.commit(at.now)).toThrow('the socket is gone')
    expect(at.runs.get('r0')!.history.counts.updates).toBe(2)
    expect(stateOf(at.again())).toBe(stateOf(at))
  })
})

describe('leases', () => {
  it('[L3] settles a lease once, however often it is sent, at once or later', () => {
    const at = desk()
    at.hello('ann')
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    const said = [at.submit('ann', lease, version), at.submit('ann', lease, version)]
    at.runs.commit(at.now)
    said.push(at.submit('ann', lease, version))
    expect(said.map(codeOf)).toEqual(['accepted', 'busy', 'lease-settled'])
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
    expect(run.settled).toBe(true)
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
    at.runs.commit(at.now)
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
    at.runs.commit(at.now)
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
    expect(at.runs.pending).toBe(false)
    expect([stateOf(at).replace(/"free":\[[^\]]*\]/g, ''), at.journalled]).toEqual(before)
    const said = at.submit('bob', bobs, version)
    at.runs.commit(at.now)
    expect(codeOf(said)).toBe('accepted')
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

  it('[S1] what is too old when it is sent, counting what waits for the journal before it', () => {
    const at = desk({ strategy: { name: 'downpour', batchSize: 4, pushEvery: 1, maxStaleness: 1 } })
    const crowd = ['ann', 'bob', 'cid', 'dan'].map((volunteer) => {
      at.hello(volunteer)
      const lease = at.lease(volunteer)
      return { volunteer, lease, version: at.start(volunteer, lease).version }
    })
    const said = crowd.map(({ volunteer, lease, version }) => at.submit(volunteer, lease, version))
    at.runs.commit(at.now)
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

describe('evaluation', () => {
  /** A run whose training is complete, its last version waiting to be tested. */
  function trained(overrides: object = {}): Desk {
    const at = desk({ dataset: { name: 'mnist', train: 4, test: 4000 }, ...overrides })
    at.hello('ann')
    at.hello('own', { trusted: true })
    expect(at.work('ann')).toBe('accepted')
    expect(at.runs.get('r0')).toMatchObject({ trained: true, settled: false, state: 'running' })
    return at
  }

  const correct = { correct: 5 }

  it('[P4] goes to trusted volunteers only, in parts, and ends the run', () => {
    const at = trained()
    expect(at.ask('ann')).toBe('training is complete; the model is being tested')
    expect(at.work('own', correct)).toBe('accepted')
    expect(at.work('own', correct)).toBe('accepted')
    const run = at.runs.get('r0')!
    expect(run).toMatchObject({ state: 'finished', settled: true })
    expect(run.history.series.test).toMatchObject([{ version: 1, loss: 1, accuracy: 10 / 4000 }])
  })

  it('counts each part once, though the disk was full when it came', () => {
    const at = trained()
    const parts = [at.lease('own'), at.lease('own')]
    for (const part of parts) at.start('own', part)
    at.journal.failNext('full')
    for (const part of parts) at.submit('own', part, 1, correct)
    at.runs.commit(at.now)
    const run = at.runs.get('r0')!
    expect(run).toMatchObject({ state: 'running', settled: false })
    for (const part of parts) at.submit('own', part, 1, correct)
    at.runs.commit(at.now)
    expect(run.history.series.test).toMatchObject([{ version: 1, loss: 1, accuracy: 10 / 4000 }])
    expect(run).toMatchObject({ state: 'finished', settled: true })
  })

  it('is not over before it is in the journal', () => {
    const at = trained()
    const parts = [at.lease('own'), at.lease('own')]
    for (const part of parts) {
      at.start('own', part)
      at.submit('own', part, 1, correct)
    }
    expect(at.runs.get('r0')).toMatchObject({ settled: false })
    const back = at.again()
    back.hello('own', { trusted: true })
    expect(back.work('own', correct)).toBe('accepted')
    expect(back.work('own', correct)).toBe('accepted')
    expect(back.runs.get('r0')).toMatchObject({ settled: true })
  })

  it('ends a run that was paused meanwhile, as soon as it is resumed', () => {
    const at = trained()
    const run = at.runs.get('r0')!
    at.runs.move(run, 'paused', null, at.now)
    at.runs.commit(at.now)
    at.work('own', correct)
    at.work('own', correct)
    expect(run.state).toBe('paused')
    at.runs.move(run, 'running', null, at.now)
    at.runs.commit(at.now)
    expect(run.state).toBe('finished')
    expect(at.again().runs.get('r0')!.state).toBe('finished')
  })

  it('a state that was asked for before the run finished, and journalled after, does not undo that', () => {
    const at = trained()
    at.work('own', correct)
    at.work('own', correct)
    const { history } = at.runs.get('r0')!
    const data = { state: 'paused', reason: null }
    history.fold({ seq: 99, run: 'r0', at: at.now, kind: 'state', data, payload: null, pruned: false })
    expect(history.state).toBe('finished')
  })

  const tested = { dataset: { name: 'mnist', train: 40, test: 4000 }, evaluateEveryEpochs: 0.1 }

  it('[V4] keeps the version under test, however far training gets on', () => {
    const at = desk(tested)
    at.hello('ann')
    at.hello('own', { trusted: true })
    at.work('ann')
    const part = at.lease('own')
    for (let i = 0; i < 5; i++) at.work('ann')
    expect(at.start('own', part).version).toBe(1)
    expect(at.runs.get('r0')!.history.versions.bytes(1)).not.toBeNull()
  })

  it('begins anew with the newest version when memory for the one under test was wanting', () => {
    const at = desk(tested)
    at.hello('ann')
    at.hello('own', { trusted: true })
    at.work('ann')
    const [first, second] = [at.lease('own'), at.lease('own')]
    expect(at.start('own', first).version).toBe(1)
    at.work('ann')
    // As when too many versions are held: the oldest go.
    const { versions } = at.runs.get('r0')!.history
    while (versions.bytes(1) !== null) versions.release(1)
    expect(at.runs.start('own', second.id, at.now)).toMatchObject({ code: 'version-gone', next: 'new-lease' })
    expect(codeOf(at.submit('own', first, 1))).toBe('lease-settled')
    expect([at.work('own', correct), at.work('own', correct)]).toEqual(['accepted', 'accepted'])
    expect(at.runs.get('r0')!.history.series.test).toMatchObject([{ version: 2, accuracy: 10 / 4000 }])
  })

  it('gives a lost part to whoever asks next', () => {
    const at = trained()
    const lost = at.lease('own')
    at.start('own', lost)
    at.now += 3_600_000
    at.runs.expire(at.now)
    at.hello('own', { trusted: true })
    expect([at.work('own', correct), at.work('own', correct)]).toEqual(['accepted', 'accepted'])
    expect(at.runs.get('r0')!.state).toBe('finished')
  })
})
