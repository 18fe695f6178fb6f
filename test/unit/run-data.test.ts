/** A run whose data are not there when the coordinator comes back: gone, or other ones in their place. */
import { describe, expect, test } from 'vitest'
import { Unfit } from '../../coordinator/datasets/unfit.ts'
import { picturesOf } from '../../coordinator/pictures/pictures.ts'
import { emptyDataset } from '../simulation/examples.ts'
import { Desk, desk, specOf, stateOf } from '../support/desk.ts'

type Open = typeof emptyDataset

const gone: Open = () => {
  throw new Unfit('dataset.trainInputs', 'cannot read /data/x')
}
/** The same number of other examples, of this shape. */
const others =
  (sha256: string, inputShape = [2, 2, 1]): Open =>
  (spec) => {
    const { train, test, ...dataset } = emptyDataset(spec)
    // Not a copy: its shards find each other.
    return { ...dataset, inputShape, train: Object.assign(train, { sha256 }), test }
  }

const UNDER_WAY = { stop: { epochs: 3 } }

describe('[J8] a run under way', () => {
  test.each<[string, Open, RegExp]>([
    [
      'are gone',
      gone,
      /^its data are not there: put them back and start the coordinator again\. dataset\.trainInputs: cannot read \/data\/x$/,
    ],
    [
      'are other ones',
      others('c0ffee'),
      /dataset: expected 40 training examples \[2, 2, 1\] of 3 classes with SHA-256 1…, got 40 .* c0ffee…$/,
    ],
    [
      'have another shape',
      others('1', [3, 3, 1]),
      /expected 40 training examples \[2, 2, 1\] .*, got 40 training examples \[3, 3, 1\]/,
    ],
  ])('whose data %s pauses as it is, and goes on when they are back', (_how, open, reason) => {
    const at = desk(UNDER_WAY)
    at.hello('ann')
    for (let i = 0; i < 5; i++) at.work('ann')
    const parameters = at.runs.get('r0')!.parameters.snapshot()
    const without = at.again(1_000, open)
    const run = without.runs.get('r0')!
    expect(run.detail(without.now)).toMatchObject({ state: 'paused', reason: expect.stringMatching(reason) })
    expect(run.parameters.snapshot()).toEqual(parameters)
    expect(without.warnings).toEqual(['the data of a run are not there'])
    without.hello('ann')
    expect(without.ask('ann')).toBe('the run is paused')
    expect(without.runs.move(run, 'running', null, without.now)).toMatch(
      /^its data are not there: put them back and start the coordinator again\. dataset/,
    )
    // Another start without them changes nothing.
    expect(without.again(1_000, open).runs.get('r0')!.state).toBe('paused')
    const back = without.again()
    expect(back.runs.get('r0')!.detail(back.now).reason).toBe(
      'its data were not there when the coordinator was started',
    )
    expect(back.runs.move(back.runs.get('r0')!, 'running', null, back.now)).toMatchObject({
      state: 'running',
      reason: null,
    })
    back.hello('ann')
    expect(back.work('ann')).toBe('accepted')
  })

  test('is alone in that: another one over the same files, written anew since, goes on', () => {
    // The operator creates r0, writes the files anew, and creates r1.
    let now: Open = emptyDataset
    const open: Open = (spec) => now(spec)
    const at = new Desk(undefined, undefined, open)
    at.runs.create('r0', specOf(UNDER_WAY), at.now)
    now = others('c0ffee')
    at.runs.create('r1', specOf(UNDER_WAY), at.now)
    const states = (from: Desk) => ['r0', 'r1'].map((id) => from.runs.get(id)!.state)
    expect(states(at.again(1_000, open))).toEqual(['paused', 'running'])
    now = emptyDataset
    const before = at.again(1_000, open)
    const resumed = (id: string) => before.runs.move(before.runs.get(id)!, 'running', null, before.now)
    expect(resumed('r0')).toMatchObject({ state: 'running' })
    expect(resumed('r1')).toMatch(/^its data are not there/)
  })
})

describe('[J8] a run that is over', () => {
  const over = (): Desk => {
    const at = desk({ model: { template: 'mlp', hidden: [4] } })
    at.hello('ann')
    const size = 4 * at.runs.get('r0')!.model.layout.size
    while (!at.runs.get('r0')!.trained) {
      const lease = at.lease('ann')
      const { version } = at.start('ann', lease)
      const examples = lease.segments.reduce((sum, { from, to }) => sum + to - from, 0)
      const counts = {
        minibatches: Math.ceil(examples / lease.batchSize),
        examples,
        lossSum: examples,
        correct: 0,
        computeMs: 1,
      }
      at.runs.submit('ann', { lease: lease.id, version, ...counts, size }, new Uint8Array(size), at.now)
    }
    at.hello('own', { trusted: true })
    const test = at.lease('own')
    const { version } = at.start('own', test)
    const outcomes = new Uint8Array(5 * 10)
    const counts = { minibatches: 0, examples: 10, lossSum: 10, correct: 5, computeMs: 1, size: outcomes.length }
    at.runs.submit('own', { lease: test.id, version, ...counts }, outcomes, at.now)
    expect(at.runs.get('r0')!.state).toBe('finished')
    return at
  }
  const names = (at: Desk) => picturesOf(at.runs.lastGood(at.runs.get('r0')!)).map(({ name }) => name)

  test('needs no data: it is there as it was, but for the pictures of examples', () => {
    const at = over()
    expect(names(at)).toContain('confusion')
    const without = at.again(1_000, gone)
    expect(stateOf(without)).toBe(stateOf(at))
    expect(without.runs.get('r0')!.state).toBe('finished')
    expect(names(without)).toEqual(names(at).filter((name) => name.startsWith('filters')))
  })

  test('and was never tested at its end is over all the same', () => {
    const at = desk()
    at.hello('ann')
    at.work('ann')
    at.runs.move(at.runs.get('r0')!, 'finished', null, at.now)
    const without = at.again(1_000, gone)
    expect(without.runs.get('r0')!.over).toBe(true)
    without.hello('own', { trusted: true })
    expect(typeof without.ask('own')).toBe('string')
  })
})

test('[J8] a run of which nobody wrote down what its data were cannot come back without them', () => {
  const at = desk(UNDER_WAY)
  const [created] = [...at.journal.read('r0', 0)]
  delete (created.data as { data?: unknown }).data
  const old = new Desk()
  old.journal.append([created])
  expect(old.again().runs.get('r0')!.state).toBe('draft')
  expect(() => old.again(1_000, gone)).toThrow(
    /^run r0 \(.*\) lacks its data; put them back\. dataset\.trainInputs: cannot read \/data\/x$/,
  )
})
