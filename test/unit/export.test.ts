/** Models as files: what TensorFlow.js and safetensors readers make of them. */
import { elementsOf } from '../../shared/shape.ts'
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import * as layers from '@tensorflow/tfjs-layers'
import { beforeAll, describe, expect, test } from 'vitest'
import { layersModel, safetensors } from '../../coordinator/journal/export.ts'
import { initialParameters, type Layout, layout } from '../../shared/layout.ts'
import { buildModel } from '../../shared/models.ts'
import { Random, Stream } from '../../shared/random.ts'
import { type ModelSpec, parseRunSpec } from '../../shared/run-spec.ts'
import { forward } from '../support/forward.ts'

const DIGITS = { inputShape: [28, 28, 1], classes: 10 }
const zeros = { kind: 'zeros' } as const

/** Reads the file as its specification says: only with what the file itself holds. */
function parseSafetensors(file: Uint8Array) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const headerBytes = Number(view.getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + headerBytes)))
  const { __metadata__: metadata, ...described } = header as Record<string, never>
  const tensors = new Map<string, { shape: number[]; values: number[] }>()
  let end = 0
  for (const [name, { dtype, shape, data_offsets }] of Object.entries<{
    dtype: string
    shape: number[]
    data_offsets: [number, number]
  }>(described)) {
    expect(dtype).toBe('F32')
    expect(data_offsets[0], 'no gap before the tensor').toBe(end)
    end = data_offsets[1]
    expect(end - data_offsets[0]).toBe(4 * elementsOf(shape))
    const values: number[] = []
    for (let at = data_offsets[0]; at < end; at += 4) values.push(view.getFloat32(8 + headerBytes + at, true))
    tensors.set(name, { shape, values })
  }
  expect(8 + headerBytes + end, 'nothing after the last tensor').toBe(file.length)
  return { headerBytes, metadata, tensors }
}

/** Parameters in which biases are not zero, so that a bias in the wrong place shows. */
function filledParameters(of: Layout): Float32Array {
  const random = new Random(5, Stream.sample)
  return initialParameters(of, 3).map((value, i) => (value === 0 ? 0.2 * random.normal(i) : value))
}

describe('safetensors', () => {
  const small = layout([
    { name: 'a/kernel', shape: [2, 3], init: zeros },
    { name: 'a/bias', shape: [3], init: zeros },
    { name: 'é', shape: [1, 1, 1, 2], init: zeros },
  ])
  const values = Float32Array.of(1, 2, 3, 4, 5, 6, -0.5, 1e-42, Number.MAX_VALUE, 0.1, -3)

  test('says in its header where each tensor lies, and holds its values', () => {
    const { tensors, metadata } = parseSafetensors(safetensors(small, values))
    expect(metadata).toBeUndefined()
    expect([...tensors]).toEqual([
      ['a/kernel', { shape: [2, 3], values: [1, 2, 3, 4, 5, 6] }],
      ['a/bias', { shape: [3], values: [-0.5, Math.fround(1e-42), Math.fround(Number.MAX_VALUE)] }],
      ['é', { shape: [1, 1, 1, 2], values: [Math.fround(0.1), -3] }],
    ])
  })

  test('the header is padded with spaces to 8 bytes, whatever its length', () => {
    for (let length = 1; length <= 9; length++) {
      const one = layout([{ name: 'x'.repeat(length), shape: [1], init: zeros }])
      const file = safetensors(one, Float32Array.of(7))
      const { headerBytes } = parseSafetensors(file)
      expect(headerBytes % 8).toBe(0)
      const text = new TextDecoder().decode(file.subarray(8, 8 + headerBytes))
      expect(text).toMatch(/^\{.*\} {0,7}$/)
    }
  })

  test('byte for byte', () => {
    const one = layout([{ name: 'w', shape: [1], init: zeros }])
    const header = '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  '
    expect(header.length).toBe(56)
    const expected = [56, 0, 0, 0, 0, 0, 0, 0, ...new TextEncoder().encode(header), 0, 0, 0xc0, 0x3f]
    expect([...safetensors(one, Float32Array.of(1.5))]).toEqual(expected)
  })

  test('carries metadata, and is a copy of a view', () => {
    const vector = Float32Array.of(9, 9, ...values, 9).subarray(2, 2 + values.length)
    const file = safetensors(small, vector, { run: 'r1', version: '12' })
    vector.fill(0)
    const { tensors, metadata } = parseSafetensors(file)
    expect(metadata).toEqual({ run: 'r1', version: '12' })
    expect(tensors.get('a/kernel')?.values).toEqual([1, 2, 3, 4, 5, 6])
  })

  test('a vector of another size is a fault', () => {
    expect(() => safetensors(small, values.subarray(1))).toThrow(
      'invariant: the layout has 11 parameters, the vector 10',
    )
  })
})

describe('layersModel', () => {
  beforeAll(() => tf.setBackend('cpu'))

  const specs: ModelSpec[] = [
    { template: 'softmax' },
    { template: 'mlp', hidden: [20, 15], activation: 'tanh' },
    { template: 'lenet' },
  ].map((model) => {
    const parsed = parseRunSpec({ dataset: { name: 'mnist' }, model, stop: { epochs: 1 } })
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
    return parsed.spec.model
  })
  for (const spec of specs) {
    test(`tf.loadLayersModel reads a ${spec.template}, and predicts what plain loops do`, async () => {
      const { topology, layout, inputShape } = buildModel(spec, DIGITS, null)
      const parameters = filledParameters(layout)
      const { json, weights } = layersModel(topology, layout, parameters, 'model.weights.bin')
      const { modelTopology, weightsManifest, format } = JSON.parse(json)
      expect(weightsManifest).toHaveLength(1)
      expect(weightsManifest[0].paths).toEqual(['model.weights.bin'])
      const model = await layers.loadLayersModel(
        tf.io.fromMemory({
          modelTopology,
          format,
          weightSpecs: weightsManifest[0].weights,
          weightData: weights.buffer,
        }),
      )
      const random = new Random(11, Stream.sample)
      const input = Array.from({ length: 784 }, (_, i) => random.uniform(i))
      const output = model.predict(tf.tensor(input, [1, 28, 28, 1])) as tf.Tensor
      const predicted = [...(await output.data())]
      // The oracle finds its parameters through the other format, so that the two are checked against each other.
      const { tensors } = parseSafetensors(safetensors(layout, parameters))
      const expected = forward(topology.config.layers, tensors, inputShape, input)
      expect(predicted).toHaveLength(10)
      for (let i = 0; i < 10; i++) expect(predicted[i]).toBeCloseTo(expected[i], 5)
      expect(Math.max(...expected) - Math.min(...expected), 'the case tells classes apart').toBeGreaterThan(0.05)
    })
  }

  test('a vector of another size is a fault', () => {
    const { topology, layout } = buildModel({ template: 'softmax' }, DIGITS, null)
    expect(() => layersModel(topology, layout, new Float32Array(3), 'model.weights.bin')).toThrow(
      'invariant: the layout has 7850 parameters',
    )
  })
})
