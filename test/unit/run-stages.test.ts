/** Stages: what follows what, what a stage hands over, and that none of it is lost by a restart in the middle. */
import { describe, expect, it } from 'vitest'
import type { Checkpoint, NewEntry } from '../../coordinator/journal/journal.ts'
import { History } from '../../coordinator/run/history.ts'
import { stagesOf } from '../../coordinator/run/stages.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import { Random } from '../../shared/random.ts'
import { parseRunSpec, type RunSpec } from '../../shared/run-spec.ts'
import { emptyDataset } from '../simulation/examples.ts'
import { askOf } from '../support/downpour-bench.ts'
import { MemoryJournal } from '../support/memory-journal.ts'

function specOf(overrides: object = {}): RunSpec {
  const parsed = parseRunSpec({
    dataset: { name: 'mnist', train: 20, test: 10 },
    model: { template: 'mlp', hidden: [5, 3], activation: 'sigmoid' },
    pretrain: { epochs: 2, strategy: { name: 'synchronous', batchSize: 10, portionSize: 10 } },
    strategy: { name: 'synchronous', batchSize: 10, portionSize: 10 },
    updateRule: { name: 'adam', rate: 0.01 },
    codec: { up: 'f32' },
    stop: { epochs: 3 },
    ...overrides,
  })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.spec
}

/** A run in the hands of one who computes made-up gradients, and journals what it does. */
class Hand {
  readonly journal = new MemoryJournal()
  history: History

  constructor(spec: RunSpec, checkpoint?: Checkpoint) {
    this.history = new History(spec, emptyDataset(spec.dataset), checkpoint)
    if (checkpoint === undefined) this.write('state', { state: 'running', reason: null })
  }

  write(kind: string, data: unknown, payload: Uint8Array | null = null): void {
    const entry: NewEntry = { run: 'r', at: 0, kind, data, payload }
    const seq = this.journal.append([entry])
    this.history.fold({ ...entry, seq, pruned: false })
  }

  /** One step of the stage that is under way. */
  step(): void {
    const { history } = this
    const { version, size } = history.parameters
    const draft = history.strategy.next(askOf(history.epochs, { volunteer: 'v' }))
    if ('wait' in draft) throw new Error(draft.wait)
    const random = new Random(7, version)
    const values = Float32Array.from({ length: size }, (_, i) => random.normal(i))
    const examples = draft.stretches.reduce((sum, { from, to }) => sum + to - from, 0)
    const counts = { minibatches: 1, examples, lossSum: examples, correct: 0, computeMs: 1, volunteers: 1 }
    const { codec } = history.stage.plan
    const data = { lease: `${version}`, volunteer: 'v', version, stretches: draft.stretches, ...counts }
    this.write('update', data, encodeVector(codecs[codec.up], values))
  }

  /** The test of the newest version. */
  test(measures: { measure?: number; trainMeasure?: number } = {}): void {
    const { history } = this
    const point = { seconds: 0, examples: 0, epoch: 0, version: history.parameters.version, stage: '', loss: 1 }
    this.write('evaluated', { ...point, accuracy: 0, measure: null, trainMeasure: null, ...measures })
  }

  stage(): void {
    while (!this.history.trained) this.step()
    this.test()
  }

  finish(): Float32Array {
    while (this.history.state === 'running') this.stage()
    return this.history.parameters.snapshot()
  }
}

describe('stages', () => {
  it('of a network that is pre-trained are its layers from below, then the whole', () => {
    const plans = stagesOf(specOf())
    expect(plans.map(({ name, layer, epochs }) => [name, layer, epochs])).toEqual([
      ['rbm-1', 0, 2],
      ['rbm-2', 1, 2],
      ['train', null, 3],
    ])
    expect(stagesOf(specOf({ pretrain: undefined })).map(({ name }) => name)).toEqual(['train'])
  })

  it('of a stack of RBMs are its layers, with the epochs of the stop rule', () => {
    const plans = stagesOf(
      specOf({
        ...{ model: { template: 'rbm', hidden: [4, 2] }, pretrain: {}, stop: { epochs: 7 } },
        ...{ strategy: undefined, updateRule: undefined, codec: undefined },
      }),
    )
    expect(plans.map(({ name, epochs }) => [name, epochs])).toEqual([
      ['rbm-1', 7],
      ['rbm-2', 7],
    ])
  })

  it('a gaussian code layer has a rate of its own', () => {
    const plans = stagesOf(specOf({ model: { template: 'autoencoder', hidden: [5, 2] }, codec: {} }))
    expect(plans.map(({ updateRule: { rate } }) => rate)).toEqual([0.1, 0.001, 0.01])
  })

  it('[R1] end when every example is counted and the last version tested, and not before', () => {
    const hand = new Hand(specOf())
    for (let i = 0; i < 3; i++) hand.step()
    hand.test()
    expect(hand.history.stage.plan.name).toBe('rbm-1')
    hand.step()
    expect([hand.history.trained, hand.history.stage.plan.name]).toEqual([true, 'rbm-1'])
    hand.test()
    expect([hand.history.trained, hand.history.stage.plan.name]).toEqual([false, 'rbm-2'])
    hand.stage()
    expect([hand.history.state, hand.history.stage.plan.name]).toEqual(['running', 'train'])
    hand.stage()
    expect([hand.history.state, hand.history.stage.plan.name]).toEqual(['finished', 'train'])
  })

  it('[V1] go on counting versions: none is ever used twice', () => {
    const hand = new Hand(specOf())
    const seen = [hand.history.parameters.version]
    while (hand.history.state === 'running') {
      if (hand.history.trained) hand.test()
      else hand.step()
      if (hand.history.state === 'running') seen.push(hand.history.parameters.version)
    }
    // A test of the last version changes the stage, or ends the run: every other step is a version of its own.
    expect(seen).toEqual(seen.toSorted((a, b) => a - b))
    expect(new Set(seen).size).toBe(4 + 4 + 6 + 3)
  })

  it('[R1] hand over what they came to: the network begins with the weights of its trained layers', () => {
    const hand = new Hand(specOf())
    hand.stage()
    const [first] = hand.history.stack
    hand.stage()
    const network = hand.history.parameters.snapshot()
    const { slots } = hand.history.model.layout
    const kernel = slots.find(({ name }) => name === 'hidden_1/kernel')!
    expect(network.subarray(kernel.offset, kernel.offset + kernel.size)).toEqual(first.subarray(0, kernel.size))
    expect(first.subarray(0, kernel.size).some((value) => value !== 0)).toBe(true)
  })

  it('[J2] come back from a checkpoint taken anywhere, to the same bits at the end', () => {
    const expected = new Hand(specOf()).finish()
    const alone = new Hand(specOf())
    for (let steps = 0; alone.history.state === 'running'; steps++) {
      const checkpoint = alone.history.checkpoint('r')!
      // Kept as a journal keeps it: bytes of then, not views of now.
      const kept = { ...checkpoint, vectors: checkpoint.vectors.map((v) => ({ ...v, values: v.values.slice() })) }
      expect(new Hand(specOf(), kept).finish(), `after ${steps} entries`).toEqual(expected)
      if (alone.history.trained) alone.test()
      else alone.step()
    }
  })

  it('[R2] count their steps anew: Adam corrects for a first step in every stage', () => {
    const pretrained = new Hand(specOf())
    pretrained.stage()
    pretrained.stage()
    const before = pretrained.history.parameters.snapshot()
    pretrained.step()
    const moved = pretrained.history.parameters.snapshot().map((value, i) => Math.abs(value - before[i]))
    // The first step of Adam moves every parameter by the rate, whatever its gradient.
    for (const distance of moved) expect(distance).toBeCloseTo(0.01, 4)
  })

  it('a layer ends early when the gap between free energies has grown often enough', () => {
    const hand = new Hand(specOf({ pretrain: { epochs: 100, gapChecks: 2 } }))
    const gaps = [1, 2, 1.5, 1.6, 1.7]
    for (const gap of gaps) {
      expect(hand.history.stage.plan.name).toBe('rbm-1')
      hand.step()
      hand.test({ measure: gap, trainMeasure: 0 })
    }
    expect(hand.history.stage.plan.name).toBe('rbm-2')
  })
})
