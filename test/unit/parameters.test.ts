/**
 * A step of the parameters, which goes block by block, against the same kernels called once over whole vectors: the
 * same bits, for every update rule and codec, whatever the gradient is the sum of.
 */
import { describe, expect, it } from 'vitest'
import { type GradientPart, Parameters } from '../../coordinator/parameters/parameters.ts'
import { updateRule } from '../../coordinator/parameters/update-rule.ts'
import { BLOCK_FLOATS } from '../../coordinator/parameters/vectors.ts'
import { codecs, decodeVector, encodeVector } from '../../shared/codec.ts'
import { CODECS } from '../../shared/codec-names.ts'
import { createKernels } from '../../shared/kernels/kernels.ts'
import { layout, RANGE_FLOATS } from '../../shared/layout.ts'
import { updateRule as updateRuleSchema } from '../../shared/strategy-spec.ts'
import { sample } from '../support/kernel-workbench.ts'

/** Kernels and a bias that end in the middle of a block, of the first range and of the second. */
const LAYOUT = layout(
  Object.entries({
    'a/kernel': [RANGE_FLOATS - BLOCK_FLOATS - 100, 1],
    'a/bias': [77],
    'b/kernel': [BLOCK_FLOATS + 1000, 2],
    'b/bias': [3],
  }).map(([name, shape]) => ({ name, shape, init: { kind: 'zeros' } })),
)
const { size } = LAYOUT
const STEPS = 2

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) => new Uint8Array(buffer, byteOffset, byteLength)

type Part = GradientPart & { values: Float32Array }

/** The kernels over whole vectors, in a memory that has room for them. */
function whole(name: 'sgd' | 'momentum' | 'adagrad' | 'adam', initial: Float32Array) {
  const kernels = createKernels()
  const rule = updateRule(updateRuleSchema.parse({ name }))
  const [parameters, gradient, term] = [0, 1, 2].map(() => kernels.reserve(4 * size))
  const pointers = new Map(Object.entries({ parameters, gradient }))
  for (const state of rule.state) {
    pointers.set(state, kernels.reserve(4 * size))
    kernels.fill(pointers.get(state)!, size, rule.initialState)
  }
  const write = (to: number, values: Float32Array) => kernels.floats(to, size).set(values)
  write(parameters, initial)
  return {
    step(parts: readonly Part[], weightCost: number, step: number) {
      const alone = parts.length === 1 && weightCost === 0
      if (alone) write(gradient, parts[0].values)
      else {
        kernels.fill(gradient, size, 0)
        for (const { weight, values } of parts) {
          write(term, values)
          kernels.accumulate(gradient, term, size, weight)
        }
        const cost = weightCost * parts.reduce((sum, { weight, minibatches = 1 }) => sum + weight * minibatches, 0)
        for (const { name: tensor, offset, size: count } of weightCost === 0 ? [] : LAYOUT.slots) {
          if (!tensor.endsWith('/kernel')) continue
          kernels.accumulate(gradient + 4 * offset, parameters + 4 * offset, count, cost)
        }
      }
      const scalars = { weight: alone ? parts[0].weight : 1, rate: 0.01, epoch: 0, step }
      rule.step(kernels, size, (vector) => pointers.get(vector)!, scalars)
    },
    /** Of the parameters and the rule's state. */
    vectors: () =>
      ['parameters', ...rule.state].map(
        (vector) => [vector, kernels.floats(pointers.get(vector)!, size).slice()] as const,
      ),
  }
}

describe.each(['sgd', 'momentum', 'adagrad', 'adam'] as const)('%s', (name) => {
  it.each([
    { of: 'one payload', terms: 1, weightCost: 0, named: false },
    { of: 'a vector kept here', terms: 0, weightCost: 0, named: true },
    { of: 'one payload and the weight cost', terms: 1, weightCost: 0.01, named: false },
    { of: 'three payloads and a vector', terms: 3, weightCost: 0.02, named: true },
  ])('of $of, block by block as at once', ({ terms, weightCost, named }) => {
    for (const codec of CODECS) {
      const initial = sample(size, 1)
      const parameters = new Parameters(LAYOUT, updateRule(updateRuleSchema.parse({ name })), initial, { weightCost })
      const reference = whole(name, initial)
      parameters.vectors.create('kept')
      parameters.vectors.write('kept', sample(size, 50))
      for (let step = 1; step <= STEPS; step++) {
        const parts: Part[] = Array.from({ length: terms }, (_, i) => {
          const payload = encodeVector(codecs[codec], sample(size, 10 * step + i))
          return { payload, values: decodeVector(codecs[codec], payload, size), weight: 0.5 + i, minibatches: 1 + i }
        })
        if (named) parts.push({ vector: 'kept', values: parameters.vectors.read('kept'), weight: 0.3 })
        parameters.apply(codec, parts, { rate: 0.01, epoch: 0 })
        reference.step(parts, weightCost, step)
      }
      expect(parameters.version).toBe(STEPS)
      for (const [vector, expected] of reference.vectors()) {
        const made = parameters.vectors.read(vector)
        expect(Buffer.compare(bytesOf(made), bytesOf(expected)), codec).toBe(0)
      }
    }
  })
})
