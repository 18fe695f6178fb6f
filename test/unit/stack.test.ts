/** Stacks of RBMs: encode, decode, unroll. */
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import * as layers from '@tensorflow/tfjs-layers'
import { beforeAll, describe, expect, test } from 'vitest'
import { initialParameters, type Layout } from '../../shared/layout.ts'
import { buildModel, buildRbm, rbmLayers } from '../../shared/models.ts'
import { Random, Stream } from '../../shared/random.ts'
import { type ModelSpec, parseRunSpec } from '../../shared/run-spec.ts'
import { decoder, encoder, lowerOf, machines, type Part, rbms, unrolled } from '../../shared/stack.ts'
import type { Topology } from '../../shared/topology.ts'

const SHAPE = { inputShape: [3, 4, 1], classes: 3 }
const VISIBLE = 12
const CD = { steps: 1, persistent: false, visible: 'probabilities', initial: 0.5 } as const

function filledIn(model: object): ModelSpec {
  const parsed = parseRunSpec({ dataset: { name: 'mnist' }, model, stop: { epochs: 1 } })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.spec.model
}
const autoencoder = filledIn({ template: 'autoencoder', hidden: [7, 5, 2] })
const mlp = filledIn({ template: 'mlp', hidden: [7, 5], activation: 'sigmoid', dropout: { hidden: 0.5 } })
const rbm = filledIn({ template: 'rbm', hidden: [7, 5] })
const gaussian = filledIn({ template: 'rbm', hidden: [7, 5], code: 'gaussian' })

/** RBMs whose weights and biases are all different, each built on the ones below, as a run does it. */
function trained(spec: ModelSpec): Float32Array[] {
  const stack: Float32Array[] = []
  for (const [index] of rbmLayers(spec).entries()) {
    const { layout } = buildRbm(spec, index, SHAPE, lowerOf(spec, SHAPE, stack), CD)
    const random = new Random(7, Stream.sample, index)
    stack.push(initialParameters(layout, 40 + index).map((value, i) => (value === 0 ? random.normal(i) : value)))
  }
  return stack
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))

/** σ(b + vW), or b + vW, of the vector's own layout (W, b, a), in float64. */
function upThrough(vector: Float32Array, from: number[], units: number, linear = false): number[] {
  return Array.from({ length: units }, (_, h) => {
    let sum = vector[from.length * units + h]
    for (let v = 0; v < from.length; v++) sum += from[v] * vector[v * units + h]
    return linear ? sum : sigmoid(sum)
  })
}
/** σ(a + Wh) */
function downThrough(vector: Float32Array, from: number[], visible: number): number[] {
  return Array.from({ length: visible }, (_, v) => {
    let sum = vector[visible * from.length + from.length + v]
    for (let h = 0; h < from.length; h++) sum += from[h] * vector[v * from.length + h]
    return sigmoid(sum)
  })
}
/** Up through all RBMs and down again, probabilities all the way: what mean field reconstructs of `input`. */
function meanField(spec: ModelSpec, stack: Float32Array[], input: number[]): { code: number[]; back: number[] } {
  const all = rbmLayers(spec).slice(0, stack.length)
  let code = input
  for (const [i, { units, hidden }] of all.entries()) code = upThrough(stack[i], code, units, hidden === 'gaussian')
  let back = code
  for (let i = all.length - 1; i >= 0; i--) back = downThrough(stack[i], back, i === 0 ? VISIBLE : all[i - 1].units)
  return { code, back }
}

async function answer(topology: Topology, layout: Layout, parameters: Float32Array, input: tf.Tensor) {
  const model = await layers.models.modelFromJSON(JSON.parse(JSON.stringify(topology)))
  layout.slots.forEach(({ offset, size, shape }, i) => {
    model.trainableWeights[i].write(tf.tensor(parameters.slice(offset, offset + size), [...shape]))
  })
  return [...((model.predict(input) as tf.Tensor).dataSync() as Float32Array)]
}
const answerOf = ({ topology, layout, parameters }: Part, input: tf.Tensor) =>
  answer(topology, layout, parameters, input)

function near(actual: number[], expected: number[]) {
  expect(actual).toHaveLength(expected.length)
  expected.forEach((value, i) => {
    expect(actual[i]).toBeCloseTo(value, 5)
  })
}

const INPUT = Array.from({ length: VISIBLE }, (_, i) => new Random(3, Stream.sample).uniform(i))
const example = () => tf.tensor(INPUT, [1, ...SHAPE.inputShape])

beforeAll(async () => {
  await tf.setBackend('cpu')
})

describe('a stack of RBMs', () => {
  test('gives the fixed layers below the next one: weights and hidden biases, from below', () => {
    const stack = trained(autoencoder)
    expect(lowerOf(autoencoder, SHAPE, [])).toBeNull()
    const first = [...stack[0].subarray(0, VISIBLE * 7 + 7)]
    expect([...lowerOf(autoencoder, SHAPE, stack.slice(0, 1))!]).toEqual(first)
    expect([...lowerOf(autoencoder, SHAPE, stack.slice(0, 2))!]).toEqual([...first, ...stack[1].subarray(0, 7 * 5 + 5)])
  })

  test('unrolled to an autoencoder is its mean-field reconstruction, before anything is fine-tuned', async () => {
    const stack = trained(autoencoder)
    const { topology, layout } = buildModel(autoencoder, SHAPE, null)
    const initial = initialParameters(layout, 1)
    const parameters = unrolled(autoencoder, SHAPE, stack, initial)
    const { back } = meanField(autoencoder, stack, INPUT)
    near(await answer(topology, layout, parameters, example()), back)
    expect(Math.max(...back) - Math.min(...back), 'the case tells pixels apart').toBeGreaterThan(0.2)
    expect(initial, 'is left as it is').toEqual(initialParameters(layout, 1))
  })

  test('unrolled to a classifier gives its hidden layers; the outputs begin at a deviation of 0.1', () => {
    const stack = trained(mlp)
    const { layout } = buildModel(mlp, SHAPE, null)
    const initial = initialParameters(layout, 1)
    const parameters = unrolled(mlp, SHAPE, stack, initial)
    const lower = lowerOf(mlp, SHAPE, stack)!
    expect(parameters.subarray(0, lower.length)).toEqual(lower)
    const { init } = layout.slots.at(-2)!
    if (init.kind !== 'uniform') throw new Error('expected a uniform kernel')
    const scale = 0.1 / (init.limit / Math.sqrt(3))
    for (let i = lower.length; i < layout.size; i++) expect(parameters[i]).toBeCloseTo(initial[i] * scale, 6)
    expect([...parameters.subarray(layout.size - 3)]).toEqual([0, 0, 0])
  })

  test.each<[string, ModelSpec]>([
    ['of binary units', rbm],
    ['with a gaussian code', gaussian],
    ['of an autoencoder', autoencoder],
    ['of a classifier', mlp],
  ])('%s has an up-pass and a down-pass as networks of their own', async (_, spec) => {
    const stack = trained(spec)
    for (let depth = 1; depth <= stack.length; depth++) {
      const part = stack.slice(0, depth)
      const { code, back } = meanField(spec, part, INPUT)
      const up = encoder(spec, SHAPE, { stack: part })
      near(await answerOf(up, example()), code)
      near(await answerOf(decoder(spec, SHAPE, { stack: part }), tf.tensor(code, [1, code.length])), back)
      expect(up.parameters.length).toBe(up.layout.size)
    }
  })

  test('reads vectors as it reads images', async () => {
    const vectors = { inputShape: [VISIBLE], classes: 3 }
    const stack = trained(rbm)
    near(
      await answerOf(encoder(rbm, vectors, { stack }), tf.tensor(INPUT, [1, VISIBLE])),
      meanField(rbm, stack, INPUT).code,
    )
  })

  test('of the whole template rbm is what its network exports', async () => {
    const stack = trained(gaussian)
    const { topology, layout } = buildModel(gaussian, SHAPE, null)
    const { parameters } = encoder(gaussian, SHAPE, { stack })
    near(await answer(topology, layout, parameters, example()), meanField(gaussian, stack, INPUT).code)
  })

  test('that sees labels goes up and down as if it saw none', async () => {
    const seeing = filledIn({ template: 'rbm', hidden: [7, 5], labels: true })
    const stack = trained(seeing)
    const { weights, visibleBias, labelWeights, labelBias, ...top } = rbms(seeing, SHAPE, stack)[1]
    expect([weights.length, labelWeights.length, visibleBias.length, labelBias.length]).toEqual([7 * 5, 3 * 5, 7, 3])
    const joined = Float32Array.from([...weights, ...labelWeights, ...top.hiddenBias, ...visibleBias, ...labelBias])
    expect(joined).toEqual(stack[1])
    const without = [stack[0], Float32Array.from([...weights, ...top.hiddenBias, ...visibleBias])]
    const { code, back } = meanField(rbm, without, INPUT)
    const { layout, parameters } = machines(seeing, SHAPE, stack)
    expect([layout.size, ...parameters]).toEqual([parameters.length, ...stack[0], ...stack[1]])
    near(await answerOf(encoder(seeing, SHAPE, { stack }), example()), code)
    near(await answerOf(decoder(seeing, SHAPE, { stack }), tf.tensor(code, [1, code.length])), back)
  })

  test('of another size or length is a fault', () => {
    const stack = trained(mlp)
    const initial = new Float32Array(buildModel(mlp, SHAPE, null).layout.size)
    expect(() => lowerOf(mlp, SHAPE, [stack[1]])).toThrow('invariant: RBM 0 of template mlp has 103 parameters, not 47')
    expect(() => lowerOf(mlp, SHAPE, [...stack, stack[1]])).toThrow('invariant: RBM 2')
    expect(() => unrolled(mlp, SHAPE, stack, initial.subarray(1))).toThrow('invariant: the network has')
    expect(() => unrolled(mlp, SHAPE, stack.slice(0, 1), initial)).toThrow('is unrolled from 1 RBMs')
    expect(() => encoder(mlp, SHAPE, { stack: [] })).toThrow('invariant: template mlp has no trained RBM yet')
    expect(() => encoder(mlp, SHAPE, { network: initial })).toThrow('are no autoencoder of template mlp')
  })
})

describe('a trained autoencoder', () => {
  test.each<[string, ModelSpec]>([
    ['of three layers', autoencoder],
    ['of one', filledIn({ template: 'autoencoder', hidden: [4] })],
  ])('%s comes apart into encoder and decoder', async (_, spec) => {
    const { topology, layout } = buildModel(spec, SHAPE, null)
    const random = new Random(9, Stream.sample)
    const network = Float32Array.from({ length: layout.size }, (_, i) => random.normal(i) / 2)
    const whole = await answer(topology, layout, network, example())
    const code = await answerOf(encoder(spec, SHAPE, { network }), example())
    expect(code).toHaveLength(rbmLayers(spec).at(-1)!.units)
    near(await answerOf(decoder(spec, SHAPE, { network }), tf.tensor(code, [1, code.length])), whole)
    expect(Math.max(...whole) - Math.min(...whole)).toBeGreaterThan(0.1)
  })
})
