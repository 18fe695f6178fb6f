import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import * as layers from '@tensorflow/tfjs-layers'
import { beforeAll, describe, expect, test } from 'vitest'
import { buildModel, layoutOf, type ModelSpec } from '../../shared/models.ts'

const MNIST = [28, 28, 1]
const mlp = (hidden: number[]): ModelSpec => ({ template: 'mlp', hidden, activation: 'sigmoid' })
const lenet: ModelSpec = { template: 'lenet', activation: 'tanh' }

describe('the model templates', () => {
  beforeAll(() => tf.setBackend('cpu'))

  test.each<[string, ModelSpec, number]>([
    ['softmax regression', { template: 'softmax' }, 784 * 10 + 10],
    ['LeNet-5', lenet, 61_706],
    ["the seed's 784-500-500-2000-10", mlp([500, 500, 2000]), 1_665_010],
  ])('%s has as many parameters as the literature says', (_, spec, expected) => {
    const { layout, classes } = buildModel(spec, MNIST, 10)
    expect(layout.size).toBe(expected)
    expect(classes).toBe(10)
  })

  test.each<[string, ModelSpec, number[], number]>([
    ['softmax', { template: 'softmax' }, MNIST, 10],
    ['mlp', mlp([30, 20]), MNIST, 10],
    ['mlp of one layer, another input', mlp([4]), [5, 3], 3],
    ['lenet', lenet, MNIST, 10],
    ['lenet, colour', { template: 'lenet', activation: 'elu' }, [32, 32, 3], 100],
  ])('the layout of %s is what tfjs makes of its topology', async (_, spec, inputShape, classes) => {
    const { topology, layout } = buildModel(spec, inputShape, classes)
    // Through text, as a volunteer gets it.
    const model = await layers.models.modelFromJSON(JSON.parse(JSON.stringify(topology)))
    const weights = model.weights.map(({ originalName, shape }) => ({ name: originalName, shape }))
    expect(layout.slots.map(({ name, shape }) => ({ name, shape }))).toEqual(weights)
    expect(layout.size).toBe(model.countParams())
    expect(model.inputs[0].shape).toEqual([null, ...inputShape])
    expect(model.outputs[0].shape).toEqual([null, classes])
    model.dispose()
  })

  test('end in a layer of probabilities over logits', () => {
    for (const spec of [{ template: 'softmax' } as const, mlp([3]), lenet]) {
      const all = buildModel(spec, MNIST, 10).topology.config.layers
      expect(all.at(-1)).toMatchObject({ class_name: 'Activation', config: { name: 'softmax', activation: 'softmax' } })
      expect(all.at(-2)).toMatchObject({ class_name: 'Dense', config: { units: 10, activation: 'linear' } })
    }
  })

  test('give every layer a name of its own', () => {
    const names = buildModel(mlp(new Array(16).fill(2)), MNIST, 10).topology.config.layers.map(
      ({ config }) => config.name,
    )
    expect(new Set(names).size).toBe(names.length)
  })

  test('an input that is too small for the layers is refused, naming the layer', () => {
    expect(() => buildModel(lenet, [8, 8, 1], 10)).toThrow('layer conv_2 leaves shape [0,0,16]: the input is too small')
  })

  test('a layer without a rule is a fault', () => {
    const { topology } = buildModel({ template: 'softmax' }, MNIST, 10)
    topology.config.layers.splice(1, 0, { class_name: 'LSTM', config: { name: 'lstm' } })
    expect(() => layoutOf(topology)).toThrow('invariant: no layout rule for layer LSTM')
  })
})
