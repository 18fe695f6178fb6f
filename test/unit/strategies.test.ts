/** The strategies: which work goes out, to what it is bound, and how what comes back is folded in. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { History } from '../../coordinator/run/history.ts'
import { Downpour } from '../../coordinator/strategies/downpour.ts'
import { Epochs, lengthOf, type Stretch } from '../../coordinator/strategies/epochs.ts'
import type { Strategy } from '../../coordinator/strategies/strategy.ts'
import { Synchronous } from '../../coordinator/strategies/synchronous.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import { Random } from '../../shared/random.ts'
import { parseRunSpec, type RunSpec } from '../../shared/run-spec.ts'
import { emptyDataset } from '../simulation/examples.ts'
import { askOf, downpourSpec, parametersOf, settledOf } from '../support/downpour-bench.ts'

/** Small numbers where nothing else is written. */
const downpour = (spec: object = {}) => downpourSpec({ batchSize: 4, pushEvery: 2, maxStaleness: 8, ...spec })

const open = (spec = downpour(), rule = 'sgd', state?: unknown) =>
  new Downpour(spec, { rule, codec: 'f32', parameters: parametersOf(new Float32Array(4)) }, state)

const ask = (epochs: Epochs, rank = 0, fitting = 1e9) => askOf(epochs, { rank, fitting })

describe('Downpour', () => {
  it('[W1] releases one volunteer, then 2, 4, … after each warmStart updates', () => {
    const strategy = open(downpour({ warmStart: 3 }))
    const epochs = new Epochs(1e6, 1)
    const released = () => {
      for (let rank = 0; rank < 100; rank++) if ('wait' in strategy.next(ask(epochs, rank))) return rank
      return 100
    }
    const seen: number[] = []
    for (let updates = 0; updates < 13; updates++) {
      seen.push(released())
      strategy.fold(settledOf(`l${updates}`, 'v0'))
    }
    expect(seen).toEqual([1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 16])
    expect(strategy.next(ask(epochs, 16))).toEqual({ wait: 'warm start: 16 volunteers train first' })
  })

  it('[W1] goes on with its warm start after a crash', () => {
    const strategy = open(downpour({ warmStart: 3 }))
    for (let i = 0; i < 4; i++) strategy.fold(settledOf(`l${i}`, 'v0'))
    const back = open(downpour({ warmStart: 3 }), 'sgd', JSON.parse(JSON.stringify(strategy)))
    const epochs = new Epochs(1000, 1)
    expect(back.next(ask(epochs, 1))).toHaveProperty('stretches')
    expect(back.next(ask(epochs, 2))).toHaveProperty('wait')
  })

  it('lets everybody work at once without a warm start', () => {
    const strategy = open()
    expect(strategy.next(ask(new Epochs(100, 1), 5_000))).toHaveProperty('stretches')
  })

  it('grants whole minibatches that fit the time box, at least one and at most pushEvery', () => {
    const epochs = new Epochs(1000, 1)
    const strategy = open(downpour({ pushEvery: 5 }))
    const granted = (fitting: number) => {
      const draft = strategy.next(ask(epochs, 0, fitting))
      return 'wait' in draft ? 0 : lengthOf(draft.stretches)
    }
    expect([1, 3, 4, 7, 8, 19, 20, 1000].map(granted)).toEqual([4, 4, 4, 4, 8, 16, 20, 20])
  })

  it('says so when every example is out', () => {
    const epochs = new Epochs(4, 1)
    const strategy = open()
    strategy.next(ask(epochs))
    expect(strategy.next(ask(epochs, 1))).toEqual({ wait: 'every example of this epoch is out with other volunteers' })
  })

  it.each([
    ['sgd', null, 0.5],
    ['adagrad', null, 0],
    ['momentum', null, 0],
    ['adam', null, 0],
    ['sgd', 0, 0],
    ['adam', 0.01, 0.01],
  ] as const)('rule %s, local rate %s: the replica moves at %d', (rule, localRate, expected) => {
    const strategy = open(downpour({ localRate }), rule)
    expect(strategy.bind('a', 'ann', 7, 0.5)).toEqual({ version: 7, localRate: expected, continues: null })
  })

  describe('with fetchEvery = 4 · pushEvery', () => {
    const spec = downpour({ pushEvery: 2, fetchEvery: 8 })

    it('[L2] continues for four leases from one version, then fetches', () => {
      const strategy = open(spec)
      const bound = [10, 11, 12, 13, 14, 15].map((version, i) => {
        const binding = strategy.bind(`l${i}`, 'ann', version, 0.1)
        strategy.fold(settledOf(`l${i}`, 'ann'))
        return [binding.version, binding.continues]
      })
      expect(bound).toEqual([
        [10, null],
        [10, 'l0'],
        [10, 'l1'],
        [10, 'l2'],
        [14, null],
        [14, 'l4'],
      ])
    })

    it('fetches anew when the lease before came to nothing, or is not in yet', () => {
      const strategy = open(spec)
      strategy.bind('a', 'ann', 1, 0.1)
      expect(strategy.bind('b', 'ann', 2, 0.1)).toMatchObject({ version: 2, continues: null })
      strategy.fold(settledOf('a', 'ann'))
      expect(strategy.bind('c', 'ann', 3, 0.1)).toMatchObject({ version: 3, continues: null })
    })

    it('keeps the chains of volunteers apart, and forgets who left', () => {
      const strategy = open(spec)
      for (const who of ['ann', 'bob']) {
        strategy.bind(who, who, 1, 0.1)
        strategy.fold(settledOf(who, who))
      }
      strategy.left('bob')
      expect(strategy.bind('a2', 'ann', 5, 0.1)).toMatchObject({ version: 1, continues: 'ann' })
      expect(strategy.bind('b2', 'bob', 5, 0.1)).toMatchObject({ version: 5, continues: null })
    })

    it('[S1] ends a chain early that would only be refused as stale', () => {
      const strategy = open({ ...spec, maxStaleness: 3 })
      strategy.bind('a', 'ann', 1, 0.1)
      strategy.fold(settledOf('a', 'ann'))
      expect(strategy.bind('b', 'ann', 5, 0.1)).toMatchObject({ version: 5, continues: null })
      strategy.fold(settledOf('b', 'ann'))
      expect(strategy.bind('c', 'ann', 8, 0.1)).toMatchObject({ version: 5, continues: 'b' })
    })
  })

  it('applies an update at once, whole', () => {
    const strategy = open()
    const payload = Uint8Array.of(1, 2, 3)
    expect(strategy.fold({ ...settledOf('a', 'ann'), payload })).toEqual({
      parts: [{ payload, weight: 1, minibatches: 1 }],
    })
    expect(strategy.quiescent).toBe(true)
  })
})

describe('Synchronous', () => {
  const spec = { name: 'synchronous' as const, batchSize: 10, portionSize: 4 }

  /** Everything that can be had now. */
  function drain(strategy: Strategy, epochs: Epochs): Stretch[] {
    const portions: Stretch[] = []
    for (let draft = strategy.next(ask(epochs)); !('wait' in draft); draft = strategy.next(ask(epochs))) {
      expect(draft).toMatchObject({ timeBoxed: false, batchSize: 4, sure: true })
      portions.push(...draft.stretches)
    }
    return portions
  }

  it('cuts every batch into the same portions, and lets none of the next one out before it ends', () => {
    const strategy = new Synchronous(spec, 23)
    const epochs = new Epochs(23, 2)
    const cut: number[][][] = []
    while (!epochs.finished) {
      const portions = drain(strategy, epochs)
      cut.push(portions.map(({ epoch, from, to }) => [epoch, from, to]))
      portions.forEach((portion, i) => {
        epochs.settle([portion])
        const apply = strategy.fold(settledOf(`${i}`, 'ann', [portion]))
        expect(apply === null).toBe(i < portions.length - 1)
        expect(strategy.quiescent).toBe(i === portions.length - 1)
        if (i < portions.length - 1) expect(drain(strategy, epochs)).toEqual([])
      })
    }
    const epoch = (n: number) => [
      [
        [n, 0, 4],
        [n, 4, 8],
        [n, 8, 10],
      ],
      [
        [n, 10, 14],
        [n, 14, 18],
        [n, 18, 20],
      ],
      [[n, 20, 23]],
    ]
    expect(cut).toEqual([...epoch(0), ...epoch(1)])
  })

  it('gives a portion that was lost to somebody else, with the same bounds', () => {
    const strategy = new Synchronous(spec, 10)
    const epochs = new Epochs(10, 1)
    const [, second] = drain(strategy, epochs)
    epochs.giveBack([second])
    expect(drain(strategy, epochs)).toEqual([second])
  })

  it('weights each portion by its examples', () => {
    const strategy = new Synchronous(spec, 10)
    const epochs = new Epochs(10, 1)
    const applied = drain(strategy, epochs)
      .reverse()
      .map((portion) => strategy.fold(settledOf('x', 'ann', [portion])))
    expect(applied.at(-1)?.parts.map(({ weight }) => weight)).toEqual([0.4, 0.4, 0.2])
  })

  function runSpec(overrides: object): RunSpec {
    const parsed = parseRunSpec({
      dataset: { name: 'mnist', train: 23, test: 10 },
      model: { template: 'softmax' },
      strategy: spec,
      stop: { epochs: 2 },
      ...overrides,
    })
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
    return parsed.spec
  }

  /** The parameters after all batches, each batch's portions folded in the order that `order` sorts them into. */
  function trained(of: RunSpec, order: (portion: number, batch: number) => number): Float32Array {
    const history = new History(of, emptyDataset(of.dataset))
    for (let batch = 0; !history.trained; batch++) {
      const portions = drain(history.strategy, history.epochs)
      const arrivals = portions.map((_, i) => i).sort((a, b) => order(a, batch) - order(b, batch))
      for (const i of arrivals) {
        const { epoch, from, to } = portions[i]
        const random = new Random(9, epoch, from)
        const values = Float32Array.from({ length: history.parameters.size }, (_, j) => random.normal(j))
        const data = {
          lease: `${batch}.${i}`,
          volunteer: `v${order(i, batch) % 3}`,
          version: history.parameters.version,
          minibatches: 1,
          examples: to - from,
          lossSum: 1,
          correct: 0,
          computeMs: 1,
          stretches: [portions[i]],
          volunteers: 1,
        }
        const payload = encodeVector(codecs[of.codec.up], values)
        history.fold({ seq: 1, run: 'r', at: 0, kind: 'update', data, payload, pruned: false })
      }
    }
    return history.parameters.snapshot()
  }

  it.each([
    ['sgd', 'f32', 'constant'],
    ['adam', 'int8', 'linear'],
    ['momentum', 'f16', 'cosine'],
  ] as const)('[Y1] rule %s, codec %s, schedule %s: any order of arrival gives the same bits', (name, up, shape) => {
    const of = runSpec({ updateRule: { name, rate: 0.05 }, codec: { up }, schedule: { shape } })
    const expected = trained(of, (portion) => portion)
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const random = new Random(seed)
        expect(trained(of, (portion, batch) => random.u32(10 * batch + portion))).toEqual(expected)
      }),
      { numRuns: 40 },
    )
  })
})
