/** Class samples of a machine small enough to enumerate: what its chains end in, against what it is on average. */
import { expect, test } from 'vitest'
import { Random } from '../../shared/random.ts'
import { rbms } from '../../shared/stack.ts'
import { sampleClasses } from '../bench/reproduce/class-samples.ts'
import * as oracle from '../support/oracle-rbm.ts'

const [FEATURES, HIDDEN, CLASSES] = [4, 3, 3]
const EACH = 3000

test('the label is held, and the features are those of its class, within four standard errors', async () => {
  const random = new Random(12)
  const all = FEATURES + CLASSES
  const vector = Float32Array.from({ length: all * HIDDEN + HIDDEN + all }, (_, i) => 1.5 * random.normal(i))
  const spec = { template: 'rbm', hidden: [HIDDEN], code: 'sigmoid', labels: true } as const
  const [machine] = rbms({ ...spec, hidden: [HIDDEN] }, { inputShape: [FEATURES], classes: CLASSES }, [vector])
  const { values, labels } = await sampleClasses(machine, { each: EACH, steps: 200, seed: 1 })
  expect([values.length, labels.length]).toEqual([CLASSES * EACH * FEATURES, CLASSES * EACH])

  const joint = oracle.rbmOf(vector, all, HIDDEN, false, CLASSES)
  const features = oracle.states(FEATURES)
  const means = Array.from({ length: CLASSES }, (_, label) => {
    const one = Array.from({ length: CLASSES }, (_, i) => (i === label ? 1 : 0))
    const weights = features.map((v) => Math.exp(-oracle.freeEnergy(joint, [...v, ...one])))
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    return Array.from({ length: FEATURES }, (_, i) => features.reduce((p, v, k) => p + (weights[k] / total) * v[i], 0))
  })
  // The classes differ by more than is allowed for.
  expect(Math.max(...means[0].map((mean, i) => Math.abs(mean - means[1][i])))).toBeGreaterThan(0.1)
  means.forEach((expected, label) => {
    const of = (i: number) =>
      values.filter((_, at) => at % FEATURES === i && labels[Math.floor(at / FEATURES)] === label)
    expected.forEach((mean, i) => {
      const got = of(i).reduce((sum, p) => sum + p, 0) / EACH
      expect(Math.abs(got - mean)).toBeLessThan(4 * Math.sqrt((mean * (1 - mean)) / EACH))
    })
  })
})
