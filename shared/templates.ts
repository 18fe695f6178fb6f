/**
 * The layers of every model template. A template says only which layers, in which order and how they begin; shapes and
 * parameters are read off them (topology.ts).
 */
import { BITMAP_PIXELS, DIGIT_BITMAPS } from './digit-bitmaps.ts'
import type { Shape } from './models.ts'
import type { ModelSpec } from './run-spec.ts'
import { elementsOf } from './shape.ts'
import { type Layer, ShapeMismatch } from './topology.ts'

const initializer = (class_name: string, config: Record<string, number> = {}) => ({ class_name, config })
const GLOROT = initializer('GlorotUniform')
const HE = initializer('HeUniform')
const ZEROS = initializer('Zeros')
const uniform = (limit: number) => initializer('RandomUniform', { minval: -limit, maxval: limit })
export const normal = (sd: number) => initializer('RandomNormal', { mean: 0, stddev: sd })

interface Start {
  kernel_initializer?: object
  bias_initializer?: object
}

export const dense = (name: string, units: number, activation = 'linear', start: Start = {}): Layer => ({
  class_name: 'Dense',
  config: {
    ...{ name, trainable: true, units, activation, use_bias: true },
    ...{ kernel_initializer: GLOROT, bias_initializer: ZEROS, ...start },
  },
})
/** The same layer, its parameters not trained. */
export const frozen = ({ class_name, config }: Layer): Layer => ({
  class_name,
  config: { ...config, trainable: false },
})

const conv2d = (
  name: string,
  filters: number,
  kernelSize: number,
  padding: 'same' | 'valid',
  activation: string,
  more: Start & { connections?: readonly (readonly number[])[] } = {},
): Layer => ({
  class_name: 'Conv2D',
  config: {
    ...{ name, trainable: true, filters, kernel_size: [kernelSize, kernelSize], strides: [1, 1], padding },
    ...{ data_format: 'channels_last', dilation_rate: [1, 1], activation, use_bias: true },
    ...{ kernel_initializer: GLOROT, bias_initializer: ZEROS, ...more },
  },
})
const pool = (class_name: 'MaxPooling2D' | 'AveragePooling2D', name: string): Layer => ({
  class_name,
  config: { name, trainable: true, pool_size: [2, 2], strides: [2, 2], padding: 'valid', data_format: 'channels_last' },
})
const maxPool = (name: string) => pool('MaxPooling2D', name)
const dropout = (name: string, rate: number): Layer[] =>
  rate === 0 ? [] : [{ class_name: 'Dropout', config: { name, trainable: true, rate } }]
/** No layer where an example is a vector already: tfjs' Flatten wants more dimensions than that. */
export const flatten = (inputShape: readonly number[]): Layer[] =>
  inputShape.length === 1 ? [] : [{ class_name: 'Flatten', config: { name: 'flatten', trainable: true } }]
/** Of what a convolution or a pool left. */
const flattenMaps = () => flatten([1, 1, 1])
const activation = (name: string): Layer => ({
  class_name: 'Activation',
  config: { name, trainable: true, activation: name },
})

/** The layers of the network as a whole. Throws where it does not fit the shape. */
export function layersOf(spec: ModelSpec, shape: Shape): Layer[] {
  switch (spec.template) {
    case 'softmax':
      return [...flatten(shape.inputShape), dense('output', shape.classes), activation('softmax')]
    case 'mlp':
      return mlp(spec, shape)
    case 'lenet':
      return spec.form === 'classic' ? lenetClassic(shape) : lenetModern(spec.activation ?? 'relu', shape)
    case 'cnn':
      return cnn(spec, shape)
    case 'autoencoder': {
      const narrowing = spec.hidden.slice(0, -1)
      return [
        ...flatten(shape.inputShape),
        ...encoderLayers('encoder', spec.hidden, 'linear'),
        ...narrowing.reverse().map((units, i) => dense(`decoder_${i + 1}`, units, 'sigmoid')),
        dense('output', elementsOf(shape.inputShape)),
        activation('sigmoid'),
      ]
    }
    case 'rbm':
      return [
        ...flatten(shape.inputShape),
        ...encoderLayers('rbm', spec.hidden, spec.code === 'gaussian' ? 'linear' : 'sigmoid'),
      ]
  }
}

/** Dense sigmoid layers `<name>_1`, `<name>_2`, …, the last one with an activation of its own. */
const encoderLayers = (name: string, hidden: readonly number[], last: string): Layer[] =>
  hidden.map((units, i) => dense(`${name}_${i + 1}`, units, i === hidden.length - 1 ? last : 'sigmoid'))

function mlp(spec: Extract<ModelSpec, { template: 'mlp' }>, { inputShape, classes }: Shape): Layer[] {
  let fanIn = elementsOf(inputShape)
  /** MultilayerPerceptronClassifier draws weights and biases from U(-2.4, 2.4)/fanIn (ALGORITHMS §1.2). */
  const next = (name: string, units: number, activation?: string): Layer => {
    const all = uniform(2.4 / fanIn)
    const start = spec.initializer === 'spark' ? { kernel_initializer: all, bias_initializer: all } : {}
    fanIn = units
    return dense(name, units, activation, start)
  }
  return [
    ...flatten(inputShape),
    ...dropout('dropout_input', spec.dropout.input),
    ...spec.hidden.flatMap((units, i) => [
      next(`hidden_${i + 1}`, units, spec.activation),
      ...dropout(`dropout_${i + 1}`, spec.dropout.hidden),
    ]),
    next('output', classes),
    activation('softmax'),
  ]
}

/** LeNet-5 in its modern form: 61,706 parameters for 28×28×1 and 10 classes (ALGORITHMS §5). */
const lenetModern = (squash: string, { classes }: Shape): Layer[] => [
  conv2d('conv_1', 6, 5, 'same', squash),
  maxPool('pool_1'),
  conv2d('conv_2', 16, 5, 'valid', squash),
  maxPool('pool_2'),
  ...flattenMaps(),
  dense('dense_1', 120, squash),
  dense('dense_2', 84, squash),
  dense('output', classes),
  activation('softmax'),
]

/** LeCun et al. 1998, Table I: for each map of C3 the maps of S2 that it reads. */
const C3_CONNECTIONS = [
  ...[0, 1, 2, 3, 4, 5].map((i) => [i, i + 1, i + 2]),
  ...[0, 1, 2, 3, 4, 5].map((i) => [i, i + 1, i + 2, i + 3]),
  ...[0, 1, 2].map((i) => [i, i + 1, i + 3, i + 4]),
  [0, 1, 2, 3, 4, 5],
].map((maps) => maps.map((map) => map % 6).sort((a, b) => a - b))

/**
 * LeNet-5 as LeCun et al. 1998 have it, §II-B: 60,000 parameters that are trained. Departures: tanh(x) for
 * 1.7159·tanh(⅔x), and kernels that begin as Glorot and Bengio's, for tanh(x); a map is subsampled as its average times
 * a coefficient, four times theirs, which is of the sum; what is minimised is the cross-entropy of softmax(-½‖x −
 * w_i‖²), the RBF outputs' distances (logits up to what all i share).
 */
function lenetClassic({ inputShape, classes }: Shape): Layer[] {
  if (inputShape.length !== 3 || inputShape[0] !== 28 || inputShape[1] !== 28 || classes > DIGIT_BITMAPS.length) {
    throw new ShapeMismatch(
      `LeNet-5's classic form expects images [28, 28, channels] of at most ten classes, got [${inputShape.join(', ')}] ` +
        `of ${classes}: write form modern`,
    )
  }
  return [
    conv2d('conv_1', 6, 5, 'same', 'tanh'),
    ...subsample(1),
    conv2d('conv_2', 16, 5, 'valid', 'tanh', { connections: C3_CONNECTIONS }),
    ...subsample(2),
    conv2d('conv_3', 120, 5, 'valid', 'tanh'),
    ...flattenMaps(),
    dense('dense_1', BITMAP_PIXELS, 'tanh'),
    frozen(dense('output', classes)),
    activation('softmax'),
  ]
}

/** Halves both sides: tanh(coefficient·average + bias), one coefficient and one bias a map (S2 and S4). */
const subsample = (n: number): Layer[] => [
  pool('AveragePooling2D', `pool_${n}`),
  {
    class_name: 'DepthwiseConv2D',
    config: {
      ...{ name: `subsample_${n}`, trainable: true, kernel_size: [1, 1], strides: [1, 1], padding: 'valid' },
      ...{ data_format: 'channels_last', dilation_rate: [1, 1], depth_multiplier: 1, activation: 'tanh' },
      // The paper's U(±2.4/fanIn) is one of the sum of four (ALGORITHMS §5). Measured after 5 epochs of 12,000 digits,
      // Adam at 0.001, two seeds: 6.6 and 7.3 % error; beginning at 1: 7.9 and 9.4 %; at U(±0.6): 10.6 and 10.7 %.
      ...{ use_bias: true, depthwise_initializer: uniform(2.4), bias_initializer: ZEROS },
    },
  },
]

/**
 * The parameters of classic LeNet-5's output layer, kernel [84, classes] and bias: x·w_i − ½‖w_i‖², where ‖w_i‖² = 84.
 */
export function bitmapOutputs(classes: number): Float32Array {
  const values = new Float32Array((BITMAP_PIXELS + 1) * classes).fill(-BITMAP_PIXELS / 2)
  for (let pixel = 0; pixel < BITMAP_PIXELS; pixel++) {
    for (let digit = 0; digit < classes; digit++) values[pixel * classes + digit] = DIGIT_BITMAPS[digit][pixel]
  }
  return values
}

/** He et al. (2015) have the limit for units that are zero on one side. */
function cnn(spec: Extract<ModelSpec, { template: 'cnn' }>, { classes }: Shape): Layer[] {
  const kernel_initializer = spec.activation === 'relu' || spec.activation === 'elu' ? HE : GLOROT
  const conv = (name: string, filters: number) =>
    conv2d(name, filters, 3, 'same', spec.activation, { kernel_initializer })
  return [
    ...spec.filters.flatMap((filters, i) => [
      conv(`conv_${i + 1}_1`, filters),
      conv(`conv_${i + 1}_2`, filters),
      maxPool(`pool_${i + 1}`),
      ...dropout(`dropout_pool_${i + 1}`, spec.dropout.pool),
    ]),
    ...flattenMaps(),
    ...spec.dense.flatMap((units, i) => [
      dense(`dense_${i + 1}`, units, spec.activation, { kernel_initializer }),
      ...dropout(`dropout_dense_${i + 1}`, spec.dropout.dense),
    ]),
    dense('output', classes),
    activation('softmax'),
  ]
}
