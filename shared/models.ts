/**
 * Model templates as tfjs LayersModel JSON, and the layout of any sequential model.
 *
 * A template makes only the topology; the layout is read off the topology, so the two cannot disagree. Every
 * classifier ends in an Activation layer `softmax` of its own: a volunteer trains on the logits below it (stable
 * cross-entropy), a downloaded model predicts probabilities.
 */
import { type Initializer, type Layout, layout } from './layout.ts'

export interface LayerConfig {
  name: string
  [option: string]: unknown
}
export interface Layer {
  class_name: string
  config: LayerConfig
}
/** What `tf.loadLayersModel` reads as `modelTopology`. */
export interface Topology {
  class_name: 'Sequential'
  config: { name: string; layers: Layer[] }
  keras_version: string
  backend: string
}

export const ACTIVATIONS = ['relu', 'tanh', 'sigmoid', 'elu'] as const
export type ActivationName = (typeof ACTIVATIONS)[number]

/** The model part of a RunSpec. */
export type ModelSpec =
  | { template: 'softmax' }
  | { template: 'mlp'; hidden: number[]; activation: ActivationName }
  | { template: 'lenet'; activation: ActivationName }

/** A model, and as JSON the model blob that a lease names. */
export interface Model {
  readonly topology: Topology
  readonly layout: Layout
  /** One example's shape, without the batch: [28, 28, 1]. */
  readonly inputShape: readonly number[]
  readonly classes: number
}

const dense = (name: string, units: number, activation = 'linear'): Layer => ({
  class_name: 'Dense',
  config: { name, trainable: true, units, activation, use_bias: true, ...INITIALIZERS },
})
const conv2d = (name: string, filters: number, kernelSize: number, padding: string, activation: string): Layer => ({
  class_name: 'Conv2D',
  config: {
    name,
    trainable: true,
    filters,
    kernel_size: [kernelSize, kernelSize],
    strides: [1, 1],
    padding,
    data_format: 'channels_last',
    dilation_rate: [1, 1],
    activation,
    use_bias: true,
    ...INITIALIZERS,
  },
})
const maxPool = (name: string): Layer => ({
  class_name: 'MaxPooling2D',
  config: { name, trainable: true, pool_size: [2, 2], strides: [2, 2], padding: 'valid', data_format: 'channels_last' },
})
const flatten = (name: string): Layer => ({ class_name: 'Flatten', config: { name, trainable: true } })
const softmax = (): Layer => ({
  class_name: 'Activation',
  config: { name: 'softmax', trainable: true, activation: 'softmax' },
})

const INITIALIZERS = {
  kernel_initializer: { class_name: 'GlorotUniform', config: {} },
  bias_initializer: { class_name: 'Zeros', config: {} },
}

function layersOf(spec: ModelSpec, classes: number): Layer[] {
  switch (spec.template) {
    case 'softmax':
      return [flatten('flatten'), dense('output', classes), softmax()]
    case 'mlp':
      return [
        flatten('flatten'),
        ...spec.hidden.map((units, i) => dense(`hidden_${i + 1}`, units, spec.activation)),
        dense('output', classes),
        softmax(),
      ]
    // LeNet-5 in its modern form: 61,706 parameters for 28×28×1 and 10 classes (ALGORITHMS §5).
    case 'lenet':
      return [
        conv2d('conv_1', 6, 5, 'same', spec.activation),
        maxPool('pool_1'),
        conv2d('conv_2', 16, 5, 'valid', spec.activation),
        maxPool('pool_2'),
        flatten('flatten'),
        dense('dense_1', 120, spec.activation),
        dense('dense_2', 84, spec.activation),
        dense('output', classes),
        softmax(),
      ]
  }
}

/** Builds the model of a RunSpec for a dataset's example shape and number of classes. */
export function buildModel(spec: ModelSpec, inputShape: readonly number[], classes: number): Model {
  const layers = layersOf(spec, classes)
  layers[0].config.batch_input_shape = [null, ...inputShape]
  const topology: Topology = {
    class_name: 'Sequential',
    config: { name: spec.template, layers },
    keras_version: 'tfjs-layers 4.22.0',
    backend: 'tensor_flow.js',
  }
  return { topology, layout: layoutOf(topology), inputShape, classes }
}

/**
 * Reads the parameter layout off a sequential topology, tensors in tfjs' own order (layer by layer, kernel before
 * bias), with Glorot-uniform kernels (Glorot & Bengio 2010: limit √(6/(fanIn+fanOut))) and zero biases.
 * Throws where a layer is not known or a shape does not fit.
 */
export function layoutOf(topology: Topology): Layout {
  const tensors: { name: string; shape: number[]; init: Initializer }[] = []
  const affine = (name: string, kernel: number[], receptive: number) => {
    const fanIn = kernel[kernel.length - 2] * receptive
    const fanOut = kernel[kernel.length - 1] * receptive
    tensors.push({
      name: `${name}/kernel`,
      shape: kernel,
      init: { kind: 'uniform', limit: Math.sqrt(6 / (fanIn + fanOut)) },
    })
    tensors.push({ name: `${name}/bias`, shape: [kernel[kernel.length - 1]], init: { kind: 'zeros' } })
  }
  let shape = (topology.config.layers[0].config.batch_input_shape as (number | null)[]).slice(1) as number[]
  for (const { class_name, config } of topology.config.layers) {
    switch (class_name) {
      case 'Flatten':
        shape = [shape.reduce((product, dimension) => product * dimension, 1)]
        break
      case 'Dense': {
        const units = config.units as number
        affine(config.name, [shape[0], units], 1)
        shape = [units]
        break
      }
      case 'Conv2D': {
        const [height, width] = config.kernel_size as number[]
        const filters = config.filters as number
        affine(config.name, [height, width, shape[2], filters], height * width)
        shape =
          config.padding === 'same'
            ? [shape[0], shape[1], filters]
            : [shape[0] - height + 1, shape[1] - width + 1, filters]
        break
      }
      case 'MaxPooling2D':
        shape = [Math.floor(shape[0] / 2), Math.floor(shape[1] / 2), shape[2]]
        break
      case 'Activation':
      case 'Dropout':
        break
      default:
        throw new Error(`invariant: no layout rule for layer ${class_name}`)
    }
    if (shape.some((dimension) => !(dimension >= 1))) {
      throw new Error(`layer ${config.name} leaves shape [${shape}]: the input is too small for it`)
    }
  }
  return layout(tensors)
}
