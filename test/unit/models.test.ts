/** Templates: the networks they describe, against tfjs and against the papers. */
import { movableSize } from '../support/movable-size.ts'
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import * as layers from '@tensorflow/tfjs-layers'
import { beforeAll, describe, expect, test } from 'vitest'
import { DIGIT_BITMAPS } from '../../shared/digit-bitmaps.ts'
import { initialParameters, type Layout, layout } from '../../shared/layout.ts'
import { buildModel, buildRbm, type Model, rbmLayers } from '../../shared/models.ts'
import { type ModelSpec, parseRunSpec } from '../../shared/run-spec.ts'
import { layoutOf, type Topology } from '../../shared/topology.ts'

const MNIST = { inputShape: [28, 28, 1], classes: 10 }
const COLOUR = { inputShape: [32, 24, 3], classes: 7 }

/** The model of a spec that says this of it. */
function filledIn(model: object): ModelSpec {
  const parsed = parseRunSpec({ dataset: { name: 'mnist' }, model, stop: { epochs: 1 } })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.spec.model
}
const mlp = (hidden: number[], more: object = {}) =>
  filledIn({ template: 'mlp', hidden, activation: 'sigmoid', ...more })
const softmax = filledIn({ template: 'softmax' })
const lenet = filledIn({ template: 'lenet', activation: 'tanh' })
const classic = filledIn({ template: 'lenet', form: 'classic' })
const cnn = filledIn({ template: 'cnn' })
const rbm = (hidden: number[], code = 'sigmoid') => filledIn({ template: 'rbm', hidden, code })
const autoencoder = (hidden: number[]) => filledIn({ template: 'autoencoder', hidden })
const CD = { steps: 1, persistent: false, visible: 'probabilities', initial: 0.1 } as const

/** As tfjs itself makes it, of the text that a volunteer gets. */
const loaded = (topology: Topology) => layers.models.modelFromJSON(JSON.parse(JSON.stringify(topology)))
const tensorsOf = (weights: layers.LayersModel['weights']) =>
  weights.map(({ originalName, shape }) => ({ name: originalName, shape }))
const slotsOf = (of: Layout | undefined) => (of?.slots ?? []).map(({ name, shape }) => ({ name, shape }))

/** Puts the parameters of a model, trained and fixed, into tfjs' own. */
function setParameters(to: layers.LayersModel, { layout, fixed }: Model, parameters: Float32Array): void {
  const set = (weights: layers.LayersModel['weights'], { slots }: Layout, values: Float32Array) =>
    slots.forEach(({ offset, size, shape }, i) => {
      weights[i].write(tf.tensor(values.slice(offset, offset + size), [...shape]))
    })
  set(to.trainableWeights, layout, parameters)
  if (fixed) set(to.nonTrainableWeights, fixed.layout, fixed.values)
}

beforeAll(async () => {
  await tf.setBackend('cpu')
})

describe('the model templates', () => {
  test.each<[string, ModelSpec, number]>([
    ['softmax regression', softmax, 784 * 10 + 10],
    ['LeNet-5', lenet, 61_706],
    ["LeNet-5's classic form", classic, 60_000],
    ["the seed's 784-500-500-2000-10", mlp([500, 500, 2000]), 1_665_010],
    ["the seed's with dropout", mlp([500, 500, 2000], { dropout: { input: 0.2, hidden: 0.5 } }), 1_665_010],
    ["Hinton's autoencoder 784-1000-500-250-30", filledIn({ template: 'autoencoder' }), 2_837_314],
    ['the CNN', cnn, 320 + 9_248 + 18_496 + 36_928 + (3136 * 256 + 256) + 2_570],
    ['a stack of RBMs 784-500-30', rbm([500, 30]), 392_500 + 15_030],
  ])('%s has as many parameters as the literature says', (_, spec, expected) => {
    const { layout, classes } = buildModel(spec, MNIST, null)
    expect(movableSize(layout)).toBe(expected)
    expect(classes).toBe(10)
  })

  test.each<[string, ModelSpec, { inputShape: number[]; classes: number }, number]>([
    ['softmax', softmax, MNIST, 10],
    ['mlp', mlp([30, 20]), MNIST, 10],
    ['mlp of one layer, another input', mlp([4]), { inputShape: [5, 3], classes: 3 }, 3],
    [
      'mlp, spark, with dropout',
      mlp([4, 3], { initializer: 'spark', dropout: { input: 0.1, hidden: 0.2 } }),
      { inputShape: [9], classes: 3 },
      3,
    ],
    ['lenet', lenet, MNIST, 10],
    [
      'lenet, colour',
      filledIn({ template: 'lenet', activation: 'elu' }),
      { inputShape: [32, 32, 3], classes: 100 },
      100,
    ],
    ['lenet classic', classic, MNIST, 10],
    ['cnn', cnn, MNIST, 10],
    ['cnn, not square', filledIn({ template: 'cnn', filters: [3, 4, 5], dense: [], dropout: { pool: 0 } }), COLOUR, 7],
    ['autoencoder', autoencoder([20, 5]), MNIST, 784],
    ['autoencoder of one layer', autoencoder([5]), COLOUR, 32 * 24 * 3],
    ['rbm', rbm([20, 5], 'gaussian'), MNIST, 5],
  ])('the layout of %s is what tfjs makes of its topology', async (_, spec, shape, outputs) => {
    const { topology, layout, fixed } = buildModel(spec, shape, null)
    const model = await loaded(topology)
    expect(slotsOf(layout)).toEqual(tensorsOf(model.trainableWeights))
    expect(slotsOf(fixed?.layout)).toEqual(tensorsOf(model.nonTrainableWeights))
    expect(layout.size + (fixed?.values.length ?? 0)).toBe(model.countParams())
    expect(model.inputs[0].shape).toEqual([null, ...shape.inputShape])
    expect(model.outputs[0].shape).toEqual([null, outputs])
    model.dispose()
  })

  test('that classify end in a layer of probabilities over logits', () => {
    for (const spec of [softmax, mlp([3], { dropout: { hidden: 0.5 } }), lenet, classic, cnn]) {
      const { topology, objective } = buildModel(spec, MNIST, null)
      const all = topology.config.layers
      expect(all.at(-1)).toMatchObject({ class_name: 'Activation', config: { name: 'softmax', activation: 'softmax' } })
      expect(all.at(-2)).toMatchObject({ class_name: 'Dense', config: { units: 10, activation: 'linear' } })
      expect(objective).toEqual({ kind: 'classify' })
    }
  })

  test('that reconstruct end in a layer of probabilities over logits, one a pixel; their code is linear', () => {
    const { topology, objective } = buildModel(autoencoder([40, 20, 5]), MNIST, null)
    expect(objective).toEqual({ kind: 'reconstruct' })
    expect(topology.config.layers.map(({ config }) => [config.name, config.units, config.activation])).toEqual([
      ['flatten', undefined, undefined],
      ['encoder_1', 40, 'sigmoid'],
      ['encoder_2', 20, 'sigmoid'],
      ['encoder_3', 5, 'linear'],
      ['decoder_1', 20, 'sigmoid'],
      ['decoder_2', 40, 'sigmoid'],
      ['output', 784, 'linear'],
      ['sigmoid', undefined, 'sigmoid'],
    ])
  })

  test('drop where the spec says, and have no layer where it drops nothing', () => {
    const dropouts = (spec: ModelSpec) =>
      buildModel(spec, MNIST, null).topology.config.layers.flatMap(({ class_name, config }, i, all) =>
        class_name === 'Dropout' ? [[all[i - 1].config.name, config.rate]] : [],
      )
    expect(dropouts(mlp([3, 2], { dropout: { input: 0.2, hidden: 0.5 } }))).toEqual([
      ['flatten', 0.2],
      ['hidden_1', 0.5],
      ['hidden_2', 0.5],
    ])
    expect(dropouts(mlp([3, 2], { dropout: { input: 0.2 } }))).toEqual([['flatten', 0.2]])
    expect(dropouts(mlp([3]))).toEqual([])
    expect(dropouts(cnn)).toEqual([
      ['pool_1', 0.25],
      ['pool_2', 0.25],
      ['dense_1', 0.5],
    ])
  })

  test('give every layer a name of its own', () => {
    for (const spec of [mlp(new Array(16).fill(2), { dropout: { input: 0.1, hidden: 0.1 } }), cnn, classic]) {
      const names = buildModel(spec, MNIST, null).topology.config.layers.map(({ config }) => config.name)
      expect(new Set(names).size).toBe(names.length)
    }
  })

  test('begin as their sources say', () => {
    const limits = (spec: ModelSpec) =>
      buildModel(spec, MNIST, null).layout.slots.map(({ init }) => (init.kind === 'uniform' ? init.limit : init.kind))
    // MultilayerPerceptronClassifier: U(-2.4, 2.4)/fanIn, biases too.
    expect(limits(mlp([30], { initializer: 'spark' }))).toEqual([2.4 / 784, 2.4 / 784, 2.4 / 30, 2.4 / 30])
    // He et al. for units that are zero on one side, Glorot and Bengio for the others.
    const relu = filledIn({ template: 'cnn', filters: [8], dense: [20] })
    const conv = [Math.sqrt(6 / 9), 'zeros', Math.sqrt(6 / 72), 'zeros']
    expect(limits(relu)).toEqual([...conv, Math.sqrt(6 / 1568), 'zeros', Math.sqrt(6 / 30), 'zeros'])
    expect(limits(filledIn({ template: 'cnn', filters: [8], dense: [], activation: 'tanh' }))[0]).toBe(
      Math.sqrt(6 / 81),
    )
  })

  test('carry the augmentation to the volunteer', () => {
    const augment = { shift: 2, rotate: 10, zoom: 0.1, flip: false }
    expect(buildModel(cnn, MNIST, augment).augment).toEqual(augment)
  })

  test.each<[string, ModelSpec, number[], string]>([
    ['too small', lenet, [8, 8, 1], 'layer conv_2 leaves shape [0,0,16]: the input is too small for it'],
    [
      'too flat',
      filledIn({ template: 'cnn' }),
      [28, 3, 1],
      'layer pool_2 leaves shape [7,0,64]: the input is too small',
    ],
    [
      'no image',
      cnn,
      [784],
      'layer conv_1_1 expects images [height, width, channels], got shape [784]: use template mlp or softmax',
    ],
    ['of another size than the bitmaps are for', classic, [32, 32, 1], 'expects images [28, 28, channels]'],
  ])('an input that is %s is refused, naming the layer', (_, spec, inputShape, message) => {
    expect(() => buildModel(spec, { inputShape, classes: 10 }, null)).toThrow(message)
    expect(() => buildModel(spec, { inputShape, classes: 10 }, null)).not.toThrow('invariant')
  })

  test('a layer or an initializer without a rule is a fault', () => {
    const { topology } = buildModel(softmax, MNIST, null)
    const [flatten, output] = topology.config.layers
    const of = (...all: Topology['config']['layers']) => ({ ...topology, config: { name: 'x', layers: all } })
    expect(() => layoutOf(of(flatten, { class_name: 'LSTM', config: { name: 'lstm' } }))).toThrow(
      'invariant: no layout rule for layer LSTM',
    )
    const kernel_initializer = { class_name: 'Orthogonal', config: {} }
    expect(() => layoutOf(of(flatten, { ...output, config: { ...output.config, kernel_initializer } }))).toThrow(
      'invariant: no rule for initializer Orthogonal',
    )
  })
})

describe("LeNet-5's classic form", () => {
  const model = buildModel(classic, MNIST, null)
  const parameters = initialParameters(model.layout, 3)
  const slot = (name: string) => {
    const { offset, size } = model.layout.slots.find((each) => each.name === name)!
    return parameters.subarray(offset, offset + size)
  }

  test('has the parameters of the paper, layer by layer', () => {
    const counts = new Map<string, number>()
    for (const { name, shape, init } of model.layout.slots) {
      const [layer] = name.split('/')
      counts.set(layer, (counts.get(layer) ?? 0) + movableSize(layout([{ name, shape, init }])))
    }
    expect(Object.fromEntries(counts)).toEqual({
      conv_1: 156,
      subsample_1: 12,
      conv_2: 1516,
      subsample_2: 32,
      conv_3: 48_120,
      dense_1: 10_164,
    })
  })

  test("C3 reads what the paper's Table I says, and begins at zero elsewhere", () => {
    // Rows are maps of S2, columns maps of C3.
    const table = [
      'X...XXX..XXXX.XX',
      'XX...XXX..XXXX.X',
      'XXX...XXX..X.XXX',
      '.XXX..XXXX..X.XX',
      '..XXX..XXXX.XX.X',
      '...XXX..XXXX.XXX',
    ]
    const kernel = slot('conv_2/kernel')
    for (let map = 0; map < 6; map++) {
      const read = Array.from({ length: 16 }, (_, filter) => {
        const entries = Array.from({ length: 25 }, (_, at) => kernel[(at * 6 + map) * 16 + filter])
        expect(entries.every((entry) => entry === 0) || entries.every((entry) => entry !== 0)).toBe(true)
        return entries[0] === 0 ? '.' : 'X'
      })
      expect(read.join('')).toBe(table[map])
    }
    const config = model.topology.config.layers.find(({ config }) => config.name === 'conv_2')!.config
    const columns = Array.from({ length: 16 }, (_, filter) =>
      [0, 1, 2, 3, 4, 5].filter((map) => table[map][filter] === 'X'),
    )
    expect(config.connections).toEqual(columns)
  })

  /** With biases that are not zero in the first layers. */
  async function withBiases(): Promise<layers.LayersModel> {
    const whole = await loaded(model.topology)
    const begun = parameters.map((value, i) => (value === 0 && i < 200 ? 0.1 : value))
    setParameters(whole, model, begun)
    return whole
  }

  test('subsamples by a coefficient and a bias a map; answers with distances to the bitmaps', async () => {
    const whole = await withBiases()
    const bias = whole.getLayer('subsample_1').getWeights()[1].dataSync()[0]
    const coefficient = slot('subsample_1/depthwise_kernel')
    const [c1, s2, f6] = ['conv_1', 'subsample_1', 'dense_1'].map((name) => whole.getLayer(name).output)
    const probe = layers.model({
      inputs: whole.inputs,
      outputs: [c1, s2, f6, ...whole.outputs] as layers.SymbolicTensor[],
    })
    const input = tf.randomUniform([2, 28, 28, 1], 0, 1, 'float32', 5)
    const [maps, halved, features, answer] = (probe.predict(input) as tf.Tensor[]).map((each) => each.arraySync())
    const full = maps as number[][][][]
    const half = halved as number[][][][]
    expect(Math.abs(bias)).toBeGreaterThan(0)
    for (const [y, x, map] of [
      [0, 0, 0],
      [13, 13, 5],
      [6, 9, 3],
    ]) {
      const at = (dy: number, dx: number) => full[1][2 * y + dy][2 * x + dx][map]
      const sum = at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)
      expect(half[1][y][x][map]).toBeCloseTo(Math.tanh((coefficient[map] / 4) * sum + bias), 6)
    }
    for (const example of [0, 1]) {
      const vector = (features as number[][])[example]
      const scores = DIGIT_BITMAPS.map((bitmap) =>
        Math.exp(-0.5 * bitmap.reduce((total, pixel, i) => total + (vector[i] - pixel) ** 2, 0) + 40),
      )
      const sum = scores.reduce((total, score) => total + score, 0)
      scores.forEach((score, digit) => {
        expect((answer as number[][])[example][digit]).toBeCloseTo(score / sum, 5)
      })
    }
  })

  test('an image that is shifted by a pixel shifts the maps of C1 by one', async () => {
    const whole = await loaded(model.topology)
    setParameters(whole, model, parameters)
    const c1 = layers.model({ inputs: whole.inputs, outputs: whole.getLayer('conv_1').output })
    const digit = tf.randomUniform<tf.Rank.R4>([1, 16, 16, 1], 0, 1, 'float32', 6)
    const mapsOf = (y: number, x: number) =>
      c1.predict(
        tf.pad(digit, [
          [0, 0],
          [y, 12 - y],
          [x, 12 - x],
          [0, 0],
        ]),
      ) as tf.Tensor4D
    const interior = [1, 24, 24, 6]
    const still = tf.slice(mapsOf(5, 5), [0, 1, 1, 0], interior).dataSync()
    expect(Math.max(...still) - Math.min(...still)).toBeGreaterThan(0.1)
    for (const [y, x] of [
      [1, 0],
      [0, 1],
      [-1, 0],
      [0, -1],
    ]) {
      const moved = tf.slice(mapsOf(5 + y, 5 + x), [0, 1 + y, 1 + x, 0], interior).dataSync()
      expect(Math.max(...moved.map((value, i) => Math.abs(value - still[i])))).toBeLessThan(1e-6)
    }
  })

  test('what is constant is subsampled to one value', async () => {
    const whole = await withBiases()
    const coefficient = slot('subsample_1/depthwise_kernel')
    const bias = whole.getLayer('subsample_1').getWeights()[1].dataSync()
    const inputs = layers.input({ shape: [28, 28, 6] })
    const names = model.topology.config.layers.map(({ config }) => config.name)
    const [from, to] = ['conv_1', 'subsample_1'].map((name) => names.indexOf(name))
    const s2 = names
      .slice(from + 1, to + 1)
      .reduce<layers.SymbolicTensor>((x, name) => whole.getLayer(name).apply(x) as layers.SymbolicTensor, inputs)
    const halved = layers.model({ inputs, outputs: s2 }).predict(tf.fill([1, 28, 28, 6], 0.3)) as tf.Tensor4D
    halved.dataSync().forEach((value, i) => {
      expect(value).toBeCloseTo(Math.tanh(coefficient[i % 6] * 0.3 + bias[i % 6]), 6)
    })
  })

  test('knows ten digits of 7 × 12 that are far from each other', () => {
    expect(DIGIT_BITMAPS).toHaveLength(10)
    DIGIT_BITMAPS.forEach((bitmap, i) => {
      expect(bitmap).toHaveLength(84)
      expect(bitmap.every((pixel) => pixel === 1 || pixel === -1)).toBe(true)
      for (const other of DIGIT_BITMAPS.slice(0, i)) {
        expect(bitmap.filter((pixel, at) => pixel !== other[at]).length).toBeGreaterThanOrEqual(8)
      }
    })
  })
})

describe('an RBM', () => {
  const spec = autoencoder([6, 5, 4])
  const shape = { inputShape: [3, 2, 1], classes: 10 }

  test('is a dense layer with biases both ways, on the fixed layers below', async () => {
    const lower = Float32Array.from({ length: 6 * 6 + 6 }, (_, i) => i / 10)
    const model = buildRbm(spec, 1, shape, lower, { steps: 3, persistent: true, visible: 'samples', initial: 0.01 })
    expect(slotsOf(model.layout)).toEqual([
      { name: 'rbm_2/kernel', shape: [6, 5] },
      { name: 'rbm_2/bias', shape: [5] },
      { name: 'rbm_2/visible_bias', shape: [6] },
    ])
    expect(model.layout.slots.map(({ offset }) => offset)).toEqual([0, 30, 35])
    expect(model.layout.size).toBe(41)
    expect(model.layout.slots.map(({ init }) => init)).toEqual([
      { kind: 'normal', sd: 0.01 },
      { kind: 'zeros' },
      { kind: 'zeros' },
    ])
    expect(model.objective).toEqual({
      kind: 'contrastive',
      steps: 3,
      persistent: true,
      visible: 'samples',
      hidden: 'sigmoid',
      labels: 0,
    })
    const whole = await loaded(model.topology)
    expect(slotsOf(model.layout).slice(0, 2)).toEqual(tensorsOf(whole.trainableWeights))
    expect(slotsOf(model.fixed!.layout)).toEqual(tensorsOf(whole.nonTrainableWeights))
    expect(model.fixed!.values).toEqual(lower)
  })

  test('with a gaussian code is linear, as the last of an autoencoder is', () => {
    const lower = new Float32Array(6 * 6 + 6 + 6 * 5 + 5)
    const { topology, objective } = buildRbm(spec, 2, shape, lower, CD)
    expect(objective).toMatchObject({ hidden: 'gaussian' })
    expect(topology.config.layers.at(-1)!.config).toMatchObject({ name: 'rbm_3', units: 4, activation: 'linear' })
    expect(buildRbm(spec, 0, shape, null, CD).fixed).toBeNull()
    expect(buildRbm(spec, 0, shape, null, CD).topology.config.layers.at(-1)!.config.activation).toBe('sigmoid')
  })

  test('at the top of a stack with labels sees one unit a class beside the features', () => {
    const spec = filledIn({ template: 'rbm', hidden: [6, 5], labels: true })
    expect(rbmLayers(spec).map(({ labels }) => labels)).toEqual([false, true])
    expect(slotsOf(buildRbm(spec, 0, shape, null, CD).layout)[0].shape).toEqual([6, 6])
    const top = buildRbm(spec, 1, shape, new Float32Array(6 * 6 + 6), CD)
    expect(top.objective).toMatchObject({ kind: 'contrastive', labels: 10 })
    expect(slotsOf(top.layout)).toEqual([
      { name: 'rbm_2/kernel', shape: [16, 5] },
      { name: 'rbm_2/bias', shape: [5] },
      { name: 'rbm_2/visible_bias', shape: [16] },
    ])
  })

  test('is made of the hidden layers of a template that has them', () => {
    expect(rbmLayers(mlp([7, 5]))).toEqual([
      { units: 7, hidden: 'sigmoid', labels: false },
      { units: 5, hidden: 'sigmoid', labels: false },
    ])
    expect(rbmLayers(rbm([7, 5], 'gaussian')).map(({ hidden }) => hidden)).toEqual(['sigmoid', 'gaussian'])
    expect(rbmLayers(rbm([7])).map(({ hidden }) => hidden)).toEqual(['sigmoid'])
    expect(rbmLayers(autoencoder([7, 5])).map(({ hidden }) => hidden)).toEqual(['sigmoid', 'gaussian'])
    for (const none of [softmax, lenet, cnn]) expect(rbmLayers(none)).toEqual([])
  })

  test('that does not exist, or on parameters of another size, is a fault', () => {
    expect(() => buildRbm(spec, 3, shape, null, CD)).toThrow('invariant: template autoencoder has RBMs 0 to 2, not 3')
    expect(() => buildRbm(spec, 1, shape, new Float32Array(41), CD)).toThrow(
      'invariant: below RBM 1 lie 42 parameters, not 41',
    )
    expect(() => buildRbm(spec, 1, shape, null, CD)).toThrow('lie 42 parameters, not 0')
  })
})
