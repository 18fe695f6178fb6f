/**
 * A lease computed twice: by an engine's trainer, and by the float64 oracles with a replica of their own. Steps that
 * move the replica, of minibatches of different sizes, then an evaluation where it came to.
 */
import type { Engine, Minibatch, ModelDescription } from '../../client/volunteer/compute/engine.ts'
import type { Objective } from '../../shared/models.ts'
import { deviation, judge } from './oracle.ts'
import { drawMinibatch } from './oracle-models.ts'
import * as rbm from './oracle-rbm.ts'

/** How far the trainer is from the oracle, as a fraction of the largest element, or of the sum. */
export interface Difference {
  gradient: number
  replica: number
  loss: number
  measure: number
  /** Examples that one counts as right and the other does not. */
  correct: number
}

interface Step {
  gradient: Float64Array
  lossSum: number
  measureSum: number
  correct: number
}
interface Oracle {
  step(replica: Float64Array, minibatch: Minibatch): Step
  evaluate(replica: Float64Array, minibatch: Minibatch): Omit<Step, 'gradient'>
}

const RATE = 0.2

/** @throws NearKink */
export async function compare(
  engine: Engine,
  model: ModelDescription,
  parameters: Float32Array,
  seed: number,
  counts: readonly number[] = [6, 1],
): Promise<Difference> {
  const oracle = model.objective.kind === 'contrastive' ? rbmOracle(model) : networkOracle(model)
  const trainer = await engine.load(model)
  const replica = Float64Array.from(parameters)
  const gradient = new Float64Array(parameters.length)
  const sums = { loss: 0, measure: 0, correct: 0 }
  const add = ({ lossSum, measureSum, correct }: Omit<Step, 'gradient'>) => {
    sums.loss += lossSum
    sums.measure += measureSum
    sums.correct += correct
  }
  try {
    trainer.begin(parameters)
    for (const count of counts) {
      const minibatch = drawMinibatch(model, count, seed + count)
      trainer.step(minibatch, { localRate: RATE, weight: count })
      const step = oracle.step(replica, minibatch)
      add(step)
      step.gradient.forEach((slope, i) => {
        gradient[i] += count * slope
        replica[i] -= RATE * slope
      })
    }
    const minibatch = drawMinibatch(model, 5, seed)
    trainer.evaluate(minibatch)
    add(oracle.evaluate(replica, minibatch))
    const got = await trainer.finish()
    return {
      gradient: deviation(got.gradient!, gradient),
      replica: deviation(await trainer.replica(), replica),
      loss: Math.abs(got.lossSum / sums.loss - 1),
      measure: sums.measure === 0 ? Math.abs(got.measureSum) : Math.abs(got.measureSum / sums.measure - 1),
      correct: Math.abs(got.correct - sums.correct),
    }
  } finally {
    trainer.dispose()
  }
}

/** Float32 and float64 may rightly disagree here: take another seed. */
export class NearKink extends Error {
  override readonly name = 'NearKink'
}

/** @throws NearKink */
function networkOracle(model: ModelDescription): Oracle {
  const of = (replica: Float64Array, { inputs, labels, count }: Minibatch, keys: Uint32Array | null) => {
    const verdict = judge(model, replica, inputs, labels, count, keys)
    if (verdict.margin < 1e-6) throw new NearKink(`a rectifier or a pool is within ${verdict.margin} of its kink`)
    return verdict
  }
  return {
    step: (replica, minibatch) => of(replica, minibatch, minibatch.keys),
    evaluate: (replica, minibatch) => of(replica, minibatch, null),
  }
}

/** Of one Dense layer at most below the machine. */
function rbmOracle({ layout, fixed, inputShape, objective }: ModelDescription): Oracle {
  const contrastive = objective as Extract<Objective, { kind: 'contrastive' }>
  const [visible, hidden] = layout.slots[0].shape
  const chains: number[][] | null = contrastive.persistent ? [] : null
  const { labels } = contrastive
  const machineOf = (replica: Float64Array) =>
    rbm.rbmOf(replica, visible, hidden, contrastive.hidden === 'gaussian', labels)
  const features = inputShape.reduce((product, dimension) => product * dimension, 1)
  const seen = ({ inputs, labels: named, count }: Minibatch): number[][] => {
    const rows = Array.from({ length: count }, (_, i) => [...inputs.subarray(i * features, (i + 1) * features)])
    const below = fixed && rbm.rbmOf(fixed.values, features, fixed.layout.slots[1].size)
    const oneHot = (label: number) => Array.from({ length: labels }, (_, i) => (i === label ? 1 : 0))
    return rows.map((row, i) => [...(below ? rbm.up(below, row) : row), ...oneHot(named[i])])
  }
  return {
    step(replica, minibatch) {
      return {
        ...rbm.contrast(machineOf(replica), seen(minibatch), minibatch.keys, contrastive, chains),
        correct: 0,
      }
    },
    evaluate(replica, minibatch) {
      const machine = machineOf(replica)
      let [lossSum, measureSum, correct] = [0, 0, 0]
      for (const [i, v] of seen(minibatch).entries()) {
        const again = rbm.down(machine, rbm.up(machine, v))
        lossSum += again.reduce((sum, x, i) => sum + (x - v[i]) ** 2, 0)
        measureSum += rbm.freeEnergy(machine, v)
        const classes = rbm.classesOf(machine, v.slice(0, visible - labels))
        if (labels > 0 && classes.indexOf(Math.max(...classes)) === minibatch.labels[i]) correct++
      }
      return { lossSum, measureSum, correct }
    },
  }
}
