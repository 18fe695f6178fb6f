/** The float64 oracle itself, and that the self-test's stored references are its. */
import { describe, expect, it } from 'vitest'
import { REFERENCES } from '../../client/volunteer/compute/reference.ts'
import { REFERENCE_FLOATS, cases as selfTestCases } from '../../client/volunteer/compute/selftest.ts'
import { initialParameters } from '../../shared/layout.ts'
import { deviation, judge } from '../support/oracle.ts'
import { cases } from '../support/oracle-cases.ts'
import { dense, drawMinibatch, modelOf, activation as softmax } from '../support/oracle-models.ts'
import { referenceOf } from '../support/oracle-reference.ts'

const selfTests = selfTestCases()

describe('the oracle', () => {
  for (const { name, model } of cases) {
    // An RBM has an oracle of its own, and LeNet would take a minute.
    if (model.objective.kind === 'contrastive' || model.layout.size > 2000) continue
    it(`agrees with central differences: ${name}`, () => {
      const parameters = Float64Array.from(initialParameters(model.layout, 11))
      const { inputs, labels, keys } = drawMinibatch(model, 2, 12)
      const loss = (): number => judge(model, parameters, inputs, labels, 2, keys).lossSum / 2
      const { gradient, margin } = judge(model, parameters, inputs, labels, 2, keys)
      const h = 1e-5
      expect(margin).toBeGreaterThan(10 * h)
      const differences = Float64Array.from(parameters, (value, i) => {
        parameters[i] = value + h
        const above = loss()
        parameters[i] = value - h
        const below = loss()
        parameters[i] = value
        return (above - below) / (2 * h)
      })
      // Of each tensor by itself: a layer of small gradients must not hide behind another.
      for (const { offset, size } of model.layout.slots) {
        const of = (vector: Float64Array) => vector.subarray(offset, offset + size)
        expect(deviation(of(gradient), of(differences))).toBeLessThan(1e-6)
      }
    })
  }

  it('computes a value known by hand', () => {
    // One input 1, logits (w0, w1) = (0, ln 3): p = (1/4, 3/4); label 0: loss = ln 4, gradient (p0 - 1, p1).
    const model = modelOf([dense('output', 2), softmax('softmax')], [1])
    const { lossSum, correct, gradient } = judge(model, [0, Math.log(3), 0, 0], [1], [0], 1)
    expect(lossSum).toBeCloseTo(Math.log(4), 12)
    expect(correct).toBe(0)
    expect(Array.from(gradient, (value) => Math.round(value * 1e12) / 1e12)).toEqual([-0.75, 0.75, -0.75, 0.75])
  })
})

describe('the stored references', () => {
  for (const [index, test] of selfTests.entries()) {
    it(`are the oracle's: ${test.name}`, () => {
      const { gradient, lossSum, correct, margin } = referenceOf(test)
      const stored = REFERENCES[index]
      expect(stored.gradient.length).toBe(Math.min(REFERENCE_FLOATS, test.model.layout.size))
      expect(deviation(stored.gradient, gradient)).toBeLessThan(1e-9)
      expect(stored.lossSum).toBeCloseTo(lossSum, 9)
      expect(stored.correct).toBe(correct)
      // Far enough from every kink that no right device can be on the other side of it.
      expect(margin).toBeGreaterThan(2e-4)
    })
  }
})
