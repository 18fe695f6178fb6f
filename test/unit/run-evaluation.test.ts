/** Which version is tested, by whom, and what comes of it. */
import { describe, expect, it } from 'vitest'
import { outputsOf } from '../../shared/topology.ts'
import { emptyDataset } from '../simulation/examples.ts'
import { codeOf, Desk, desk, specOf } from '../support/desk.ts'

describe('evaluation', () => {
  /** A run whose training is complete, its last version waiting to be tested. */
  function trained(overrides: object = {}): Desk {
    const at = desk({ dataset: { name: 'mnist', train: 4, test: 4000 }, ...overrides })
    at.hello('ann')
    at.hello('own', { trusted: true })
    expect(at.work('ann')).toBe('accepted')
    expect(at.runs.get('r0')).toMatchObject({ trained: true, over: false, state: 'running' })
    return at
  }

  const correct = { correct: 5 }

  it('[P4] goes to trusted volunteers only, in parts, and ends the run', () => {
    const at = trained()
    expect(at.ask('ann')).toBe('training is complete; the model is being tested')
    expect(at.work('own', correct)).toBe('accepted')
    expect(at.work('own', correct)).toBe('accepted')
    const run = at.runs.get('r0')!
    expect(run).toMatchObject({ state: 'finished', over: true })
    expect(run.history.series.test).toMatchObject([{ version: 1, loss: 1, accuracy: 10 / 4000 }])
  })

  it('counts each part once, though the disk was full when it came', () => {
    const at = trained()
    const parts = [at.lease('own'), at.lease('own')]
    for (const part of parts) at.start('own', part)
    at.journal.failNext('full')
    const said = parts.map((part) => codeOf(at.submit('own', part, 1, correct)))
    // The first part is none of the journal's business: only the whole test is.
    expect(said).toEqual(['accepted', 'storage-full'])
    const run = at.runs.get('r0')!
    expect(run).toMatchObject({ state: 'running', over: false })
    expect(codeOf(at.submit('own', parts[1], 1, correct))).toBe('accepted')
    expect(run.history.series.test).toMatchObject([{ version: 1, loss: 1, accuracy: 10 / 4000 }])
    expect(run).toMatchObject({ state: 'finished', over: true })
  })

  it('begins anew after a restart, of which only whole tests survive', () => {
    const at = trained()
    const [first] = [at.lease('own'), at.lease('own')]
    at.start('own', first)
    expect(codeOf(at.submit('own', first, 1, correct))).toBe('accepted')
    expect(at.runs.get('r0')).toMatchObject({ over: false })
    const back = at.again()
    back.hello('own', { trusted: true })
    expect(back.work('own', correct)).toBe('accepted')
    expect(back.work('own', correct)).toBe('accepted')
    expect(back.runs.get('r0')).toMatchObject({ over: true })
  })

  it.each<[string, (at: Desk) => void]>([
    [
      'paused and resumed',
      (at) => ['paused', 'running'].map((to) => at.runs.move(at.runs.get('r0')!, to as 'paused', null, at.now)),
    ],
    ['stopped', (at) => at.runs.move(at.runs.get('r0')!, 'finished', null, at.now)],
  ])(
    'goes on in a run that is %s meanwhile: each example counts once, and what is lost is tested by others',
    (_, change) => {
      const at = trained({ dataset: { name: 'mnist', train: 4, test: 10_000 } })
      at.hello('two', { trusted: true })
      const [first, second, third] = [at.lease('own'), at.lease('own'), at.lease('two')]
      at.start('own', first)
      change(at)
      at.runs.giveBack('two', { lease: third.id })
      expect(codeOf(at.submit('own', first, 1, correct))).toBe('accepted')
      const { version } = at.start('own', second)
      expect(codeOf(at.submit('own', second, version, correct))).toBe('accepted')
      expect([at.work('own', correct), at.work('own', correct)]).toEqual(['accepted', 'accepted'])
      const run = at.runs.get('r0')!
      expect(run.history.series.test).toMatchObject([{ version: 1, loss: 1, accuracy: 20 / 10_000 }])
      expect(run).toMatchObject({ state: 'finished', over: true })
      at.passes(3_600_000)
      at.runs.bye('own', at.now)
    },
  )

  it('ends a run that was paused meanwhile, as soon as it is resumed', () => {
    const at = trained()
    const run = at.runs.get('r0')!
    at.runs.move(run, 'paused', null, at.now)
    at.work('own', correct)
    at.work('own', correct)
    expect(run.state).toBe('paused')
    at.runs.move(run, 'running', null, at.now)
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

  it('is over for all who hold a part of it when one finds that the loss is not finite', () => {
    const at = desk({
      dataset: { name: 'mnist', train: 4, test: 4000 },
      strategy: { name: 'sandblaster', portionSize: 4, batchSize: 4, tolerance: 0 },
      codec: { up: 'f32' },
      stop: { epochs: 20 },
      evaluateEveryEpochs: 0.01,
    })
    for (const own of ['one', 'two']) at.hello(own, { trusted: true })
    at.hello('ann')
    const run = at.runs.get('r0')!
    /** A pass over all four examples, of which each has the loss ½‖w - 1‖². */
    const pass = () => {
      const lease = at.lease('ann')
      const { version } = at.start('ann', lease)
      const slopes = run.history.parameters.snapshot().map((weight) => 4 * (weight - 1))
      const lossSum = slopes.reduce((sum, slope) => sum + slope ** 2 / 8, 0)
      const payload = new Uint8Array(Float32Array.of(...slopes, ...slopes.map(() => 0)).buffer)
      const counts = { minibatches: 1, examples: 4, correct: 0, lossSum, computeMs: 1, size: payload.length }
      expect(codeOf(at.runs.submit('ann', { lease: lease.id, version, ...counts }, payload, at.now))).toBe('accepted')
    }
    // Until a search tries a point while the one before it is tested.
    while (!(run.history.strategy.probes && run.inspect().evaluating !== null)) pass()
    const [first, second] = [at.lease('one'), at.lease('two')]
    const { version } = at.start('one', first)
    at.start('two', second)
    expect(codeOf(at.submit('one', first, version, { lossSum: null, size: 0 }))).toBe('accepted')
    expect(run.state).toBe('running')
    expect(codeOf(at.submit('two', second, version, correct))).toBe('lease-settled')
  })

  it('is not asked for again by a restart, of a version that is tested', () => {
    const at = desk({ stop: { epochs: 3 }, evaluateEveryEpochs: 1 })
    at.hello('ann')
    at.hello('own', { trusted: true })
    for (let i = 0; i < 10; i++) expect(at.work('ann')).toBe('accepted')
    expect(at.work('own', correct)).toBe('accepted')
    expect(at.work('ann')).toBe('accepted')
    const back = at.again()
    back.hello('ann')
    back.hello('own', { trusted: true })
    expect(typeof back.ask('own')).toBe('string')
    for (let i = 0; i < 9; i++) expect(back.work('ann')).toBe('accepted')
    expect(back.work('own', correct)).toBe('accepted')
    expect(back.runs.get('r0')!.history.series.test.map(({ epoch }) => epoch)).toEqual([1, 2])
  })

  it('takes no more examples at a time than its volunteer has memory for', () => {
    const at = new Desk(undefined, undefined, (of) => ({ ...emptyDataset(of), inputShape: [96, 96, 3] }))
    const dataset = { name: 'mnist', train: 4, test: 1_000 }
    at.runs.create('r0', specOf({ model: { template: 'cnn' }, dataset }), at.now)
    at.hello('ann')
    at.hello('own', { trusted: true })
    const lease = at.lease('ann')
    const { version } = at.start('ann', lease)
    const { layout, topology } = at.runs.get('r0')!.model
    const { size } = layout
    const counts = { minibatches: 1, examples: 4, lossSum: 4, correct: 0, computeMs: 1, size: 4 * size }
    const update = { lease: lease.id, version, ...counts }
    expect(codeOf(at.runs.submit('ann', update, new Uint8Array(4 * size), at.now))).toBe('accepted')
    const part = at.lease('own')
    expect(part.batchSize).toBeLessThan(500)
    expect(part.batchSize * outputsOf(topology)).toBeLessThanOrEqual(2 ** 26)
  })

  it('is of each run in turn', () => {
    const at = desk({ stop: { epochs: 5 }, evaluateEveryEpochs: 1 })
    const runs = ['r0', 'r1', 'r2']
    for (const run of runs.slice(1))
      at.runs.create(run, specOf({ stop: { epochs: 5 }, evaluateEveryEpochs: 1 }), at.now)
    at.hello('own', { trusted: true })
    const epoch = (run: string) => {
      at.hello(run, { run })
      for (let i = 0; i < 10; i++) expect(at.work(run)).toBe('accepted')
    }
    runs.forEach(epoch)
    const tested: string[] = []
    // One part is computed while the next one is at hand, as a volunteer does.
    for (let part = at.lease('own'); tested.length < 6; ) {
      const { version } = at.start('own', part)
      const next = at.lease('own')
      expect(codeOf(at.submit('own', part, version, correct))).toBe('accepted')
      // Whichever it was, it is to be tested again at once.
      epoch(part.run)
      tested.push(part.run)
      part = next
    }
    expect(tested.slice(0, 3).sort()).toEqual(runs)
    expect(tested.slice(3).sort()).toEqual(runs)
  })

  it('stays with who asks for the next part before it begins this one', () => {
    const at = desk({ stop: { epochs: 5 }, evaluateEveryEpochs: 1 })
    at.runs.create('r1', specOf({ stop: { epochs: 5 }, evaluateEveryEpochs: 1 }), at.now)
    at.hello('own', { trusted: true })
    for (const run of ['r0', 'r1']) {
      at.hello(run, { run })
      for (let i = 0; i < 10; i++) expect(at.work(run)).toBe('accepted')
    }
    const part = at.lease('own')
    expect(at.runs.lease('own', at.now)).toMatchObject({ ok: true, waitMs: expect.any(Number) })
    const { called } = at
    const { version } = at.start('own', part)
    expect(at.called).toBeGreaterThan(called)
    const next = at.lease('own')
    expect(next.run).not.toBe(part.run)
    expect(codeOf(at.submit('own', part, version, correct))).toBe('accepted')
    expect(codeOf(at.submit('own', next, at.start('own', next).version, correct))).toBe('accepted')
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
