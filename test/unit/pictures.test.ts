/** The pictures of a run: which there are and what their numbers are, against arithmetic done by hand. */
import { describe, expect, test } from 'vitest'
import type { Dataset } from '../../coordinator/datasets/dataset.ts'
import { split } from '../../coordinator/datasets/split.ts'
import { forward } from '../../coordinator/pictures/forward.ts'
import { picturesOf } from '../../coordinator/pictures/pictures.ts'
import { reconstruct } from '../../coordinator/pictures/reconstructions.ts'
import { carriedDown, firstWeights, firstWindow } from '../../coordinator/pictures/weights.ts'
import { History } from '../../coordinator/run/history.ts'
import { parseRunSpec, type RunSpec } from '../../shared/run-spec.ts'
import { elementsOf } from '../../shared/shape.ts'
import type { Part } from '../../shared/stack.ts'
import { dense, flatten } from '../../shared/templates.ts'
import { type Layer, layoutOf, sequential } from '../../shared/topology.ts'

function network(inputShape: number[], layers: Layer[], parameters: number[]): Part {
  const topology = sequential('small', layers, inputShape)
  const layout = layoutOf(topology)
  expect(layout.size).toBe(parameters.length)
  return { topology, layout, parameters: Float32Array.from(parameters) }
}

const activation = (name: string): Layer => ({ class_name: 'Activation', config: { name, activation: name } })

describe('the forward pass', () => {
  test('is that of dense layers, with every activation there is', () => {
    // x·W + b = [1·1 + 2·3 - 8, 1·2 + 2·4 + 1] = [-1, 11]
    const answer = (...layers: Layer[]) => [
      ...forward(network([1, 2, 1], [...flatten([1, 2, 1]), ...layers], [1, 2, 3, 4, -8, 1]), [1, 2]),
    ]
    const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
    expect(answer(dense('a', 2))).toEqual([-1, 11])
    expect(answer(dense('a', 2, 'relu'))).toEqual([0, 11])
    expect(answer(dense('a', 2, 'sigmoid'))).toEqual([sigmoid(-1), sigmoid(11)])
    expect(answer(dense('a', 2), activation('tanh'))).toEqual([Math.tanh(-1), Math.tanh(11)])
    expect(answer(dense('a', 2), activation('elu'))).toEqual([Math.expm1(-1), 11])
    const [low, high] = answer(dense('a', 2), activation('softmax'))
    expect(low).toBeCloseTo(1 / (1 + Math.exp(12)), 15)
    expect(low + high).toBeCloseTo(1, 15)
  })

  test('goes on from layer to layer, and knows no convolution', () => {
    const dropout: Layer = { class_name: 'Dropout', config: { name: 'dropout', rate: 0.5 } }
    const deep = network([2], [dense('a', 1), dropout, dense('b', 2)], [2, 3, 1, 10, 20, 0.5, -0.5])
    expect([...forward(deep, [1, -1])]).toEqual([0.5, -0.5])
    expect([...forward(deep, [1, 0])]).toEqual([30.5, 59.5])
    const pool: Layer = { class_name: 'MaxPooling2D', config: { name: 'pool' } }
    const conv = network([2, 2, 1], [pool, ...flatten([1, 1, 1]), dense('a', 1)], [1, 0])
    expect(() => forward(conv, [1, 2, 3, 4])).toThrow('invariant: no forward pass for layer MaxPooling2D')
  })

  test('through an encoder and a decoder reconstructs, and the squared error is of elements 0..1', () => {
    const halves = {
      encoder: network([1, 2, 1], [...flatten([1, 2, 1]), dense('up', 1)], [1, 1, 0]),
      decoder: network([1], [dense('down', 2)], [0.5, 0.25, 0, 0]),
    }
    const { output, squaredError } = reconstruct(halves, Uint8Array.from([255, 51]))
    expect(output[0]).toBeCloseTo(0.6 * 255, 10)
    expect(output[1]).toBeCloseTo(0.3 * 255, 10)
    expect(squaredError).toBeCloseTo(0.4 ** 2 + 0.1 ** 2, 12)
  })
})

function specOf(model: object, more: object = {}): RunSpec {
  const parsed = parseRunSpec({ dataset: { name: 'mnist' }, model, stop: { epochs: 1 }, ...more })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.spec
}

/** Three classes of examples, six for each test and training. */
function datasetOf(inputShape: number[]): Dataset {
  const size = elementsOf(inputShape)
  const inputs = Uint8Array.from({ length: 6 * size }, (_, i) => i % 256)
  const part = split('made up', 'test', inputShape, { count: 6, inputs, labels: Uint8Array.from([0, 1, 2, 0, 1, 2]) })
  return { name: 'made up', absent: null, inputShape, classes: 3, train: part, test: part }
}

const namesOf = (history: History) => picturesOf(history).map(({ name }) => name)

/** The outcomes of the six test examples: these classes, with losses 1, 2, 3, … */
function outcomesOf(predicted: number[]): Uint8Array {
  const outcomes = new Uint8Array(30)
  outcomes.set(predicted)
  const view = new DataView(outcomes.buffer)
  predicted.forEach((_, i) => {
    view.setFloat32(6 + 4 * i, i + 1, true)
  })
  return outcomes
}

describe('the pictures of a run', () => {
  const images = datasetOf([14, 14, 1])

  test("of a classifier are its filters from the start, and its test's once it is tested", () => {
    const history = new History(specOf({ template: 'softmax' }), images)
    expect(namesOf(history)).toEqual(['filters'])
    history.outcomes = outcomesOf([0, 1, 2, 0, 1, 1])
    const pictures = picturesOf(history)
    expect(pictures.map(({ name }) => name)).toEqual(['confusion', 'filters', 'mistakes'])
    expect(pictures.map(({ words }) => words.split(/[.:]/)[0])).toEqual([
      '5 of 6 test examples right',
      'The weights into the 3 units',
      'Test examples classified wrong (1 of 1), the highest loss first',
    ])
    history.outcomes = outcomesOf([0, 1, 2, 0, 1, 2])
    expect(namesOf(history)).toEqual(['confusion', 'filters'])
  })

  test('of examples that are no images are those that need none', () => {
    const history = new History(specOf({ template: 'softmax' }), datasetOf([7]))
    expect(namesOf(history)).toEqual([])
    history.outcomes = outcomesOf([1, 1, 1, 1, 1, 1])
    expect(namesOf(history)).toEqual(['confusion'])
  })

  test('of RBMs and autoencoders are reconstructions and filters', () => {
    const stack = new History(specOf({ template: 'rbm', hidden: [5, 4] }), images)
    const autoencoder = new History(specOf({ template: 'autoencoder', hidden: [5, 2] }), images)
    for (const history of [stack, autoencoder]) {
      const pictures = picturesOf(history)
      expect(pictures.map(({ name }) => name)).toEqual(['reconstructions', 'filters'])
      // 14 pixels: reconstructions of 84 each in two rows of five and one, filters of 56 each.
      const [reconstructions, filters] = pictures.map(({ draw }) => draw())
      expect([reconstructions.width, reconstructions.height]).toEqual([5 * 90 + 6, 2 * 206 + 6])
      expect([filters.width, filters.height]).toEqual([3 * 57 + 1, 2 * 57 + 1])
    }
  })

  test('say how many units are seen', () => {
    const history = new History(specOf({ template: 'mlp', hidden: [1234] }), images)
    expect(picturesOf(history)[0].words).toMatch(/^The weights into the first 100 of 1,234 units: /)
    const lenet = new History(specOf({ template: 'lenet' }), datasetOf([28, 28, 1]))
    expect(picturesOf(lenet)[0].words).toMatch(/^The weights into the 6 units: /)
  })
})

describe("a unit's weights", () => {
  test('of the first layer are the first slot of the model, dense or convolution', () => {
    const mlp = new History(specOf({ template: 'mlp', hidden: [5] }), datasetOf([2, 3, 1]))
    const window = firstWindow(mlp)!
    expect(window).toEqual({ shape: [2, 3, 1], units: 5 })
    expect([...firstWeights(mlp, window).values]).toEqual([...mlp.parameters.snapshot().subarray(0, 30)])
    const lenet = new History(specOf({ template: 'lenet' }), datasetOf([28, 28, 3]))
    expect(firstWindow(lenet)).toEqual({ shape: [5, 5, 3], units: 6 })
    expect(firstWindow(new History(specOf({ template: 'softmax' }), datasetOf([7])))).toBeNull()
  })

  test('of an RBM higher up are carried down by the product of the kernels', () => {
    const spec = specOf({ template: 'rbm', hidden: [3, 2] })
    const dataset = { ...datasetOf([1, 2, 1]) }
    // W [2, 3], hidden biases, visible biases; W [3, 2], …
    const first = Float32Array.from([1, 2, 3, 4, 5, 6, 9, 9, 9, 9, 9])
    const second = Float32Array.from([1, 0, 0, 1, 2, -1, 9, 9, 9, 9, 9])
    const both = carriedDown({ spec, dataset }, [first, second], 2)
    expect(both).toMatchObject({ shape: [1, 2, 1], units: 2 })
    expect([...both.values]).toEqual([7, -1, 16, -1])
    expect([...carriedDown({ spec, dataset }, [first, second], 1).values]).toEqual([7, 16])
    expect([...carriedDown({ spec, dataset }, [first], 2).values]).toEqual([1, 2, 4, 5])
  })
})
