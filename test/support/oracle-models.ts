/** Small models and minibatches to judge trainers with: layers as tfjs writes them, a layout read off their shapes. */
import type { Minibatch, ModelDescription } from '../../client/volunteer/compute/engine.ts'
import { type Layout, layout } from '../../shared/layout.ts'
import { Random } from '../../shared/random.ts'
import type { Layer, Topology } from '../../shared/topology.ts'

type Options = Record<string, unknown>

const zeros = { kernel_initializer: 'zeros', bias_initializer: 'zeros', depthwise_initializer: 'zeros' }
const layer =
  (class_name: string) =>
  (name: string, config: Options): Layer => ({ class_name, config: { name, trainable: true, ...config } })

export const dense = (name: string, units: number, activation = 'linear', more: Options = {}): Layer =>
  layer('Dense')(name, { units, activation, use_bias: true, ...zeros, ...more })
export const conv2d = (name: string, filters: number, size: number, activation = 'linear', more: Options = {}): Layer =>
  layer('Conv2D')(name, {
    ...{ filters, kernel_size: [size, size], strides: [1, 1], padding: 'valid', activation, use_bias: true },
    ...{ data_format: 'channels_last', dilation_rate: [1, 1], ...zeros, ...more },
  })
export const depthwise = (name: string, size: number, activation = 'linear', more: Options = {}): Layer =>
  layer('DepthwiseConv2D')(name, {
    ...{ kernel_size: [size, size], strides: [1, 1], padding: 'valid', depth_multiplier: 1, activation },
    ...{ use_bias: true, data_format: 'channels_last', ...zeros, ...more },
  })
const pool =
  (class_name: string) =>
  (name: string, size = 2, stride = size, padding = 'valid'): Layer =>
    layer(class_name)(name, {
      ...{ pool_size: [size, size], strides: [stride, stride], padding, data_format: 'channels_last' },
    })
export const maxPool = pool('MaxPooling2D')
export const averagePool = pool('AveragePooling2D')
export const flatten = (name = 'flatten'): Layer => layer('Flatten')(name, {})
export const dropout = (name: string, rate: number): Layer => layer('Dropout')(name, { rate })
export const activation = (name: string, activation = name): Layer => layer('Activation')(name, { activation })

/**
 * The model of these layers. Layers that are not trainable get small random parameters; a contrastive model's last
 * layer gets its visible biases.
 */
export function modelOf(
  layers: Layer[],
  inputShape: readonly number[],
  change: Partial<ModelDescription> = {},
): ModelDescription {
  const own = structuredClone(layers)
  own[0].config.batch_input_shape = [null, ...inputShape]
  const topology: Topology = {
    class_name: 'Sequential',
    config: { name: 'test', layers: own },
    keras_version: 'tfjs-layers 4.22.0',
    backend: 'tensor_flow.js',
  }
  const objective = change.objective ?? { kind: 'classify' }
  const rbm = objective.kind === 'contrastive'
  const [trained, fixed] = layoutsOf(own, inputShape, rbm, rbm ? objective.labels : 0)
  const random = new Random(99)
  const values = Float32Array.from({ length: fixed.size }, (_, i) => random.uniform(i) - 0.5)
  const description = { topology, layout: trained, fixed: fixed.size ? { layout: fixed, values } : null, inputShape }
  const classes = rbm ? objective.labels : ((layers.at(-2)?.config.units as number) ?? 0)
  return { ...description, classes, objective, ...change }
}

/** Examples drawn at random, each with a draw key. */
export function drawMinibatch(
  { inputShape, classes }: Pick<ModelDescription, 'inputShape' | 'classes'>,
  count: number,
  seed: number,
): Minibatch {
  const features = inputShape.reduce((product, dimension) => product * dimension, 1)
  const [inputs, labels, keys] = [0, 1, 2].map((stream) => new Random(seed, stream))
  return {
    inputs: Float32Array.from({ length: count * features }, (_, i) => inputs.uniform(i)),
    labels: Uint8Array.from({ length: count }, (_, i) => Math.floor(labels.uniform(i) * classes)),
    keys: Uint32Array.from({ length: 2 * count }, (_, i) => keys.u32(i)),
    count,
  }
}

function layoutsOf(
  layers: readonly Layer[],
  inputShape: readonly number[],
  visibleBias: boolean,
  labels: number,
): [Layout, Layout] {
  type Tensors = Parameters<typeof layout>[0][number][]
  const [trained, fixed]: [Tensors, Tensors] = [[], []]
  let shape = [...inputShape]
  for (const { class_name, config } of layers) {
    const to = config.trainable === false ? fixed : trained
    const add = (tensor: string, ...dimensions: number[]) => {
      const limit = dimensions.length === 1 ? 0.2 : Math.sqrt(3 / dimensions.slice(0, -1).reduce((a, b) => a * b, 1))
      const connections = tensor === 'kernel' ? (config.connections as number[][] | undefined) : undefined
      to.push({ name: `${config.name}/${tensor}`, shape: dimensions, init: { kind: 'uniform', limit, connections } })
    }
    const [strideY, strideX] = (config.strides as number[] | undefined) ?? [1, 1]
    const window = (config.kernel_size ?? config.pool_size) as number[] | undefined
    if (window) {
      const cut = config.padding === 'same' ? [1, 1] : window
      const sides = [(shape[0] - cut[0]) / strideY, (shape[1] - cut[1]) / strideX].map((side) => Math.floor(side) + 1)
      const outputs = { Conv2D: config.filters, DepthwiseConv2D: shape[2] * ((config.depth_multiplier as number) ?? 1) }
      const channels = (outputs[class_name as keyof typeof outputs] as number | undefined) ?? shape[2]
      if (class_name === 'Conv2D') add('kernel', ...window, shape[2], channels)
      if (class_name === 'DepthwiseConv2D') add('depthwise_kernel', ...window, shape[2], channels / shape[2])
      if (config.use_bias) add('bias', channels)
      shape = [...sides, channels]
    } else if (class_name === 'Flatten') shape = [shape.reduce((a, b) => a * b, 1)]
    else if (class_name === 'Dense') {
      const machine = visibleBias && config === layers.at(-1)!.config
      const inputs = shape[0] + (machine ? labels : 0)
      add('kernel', inputs, config.units as number)
      if (config.use_bias) add('bias', config.units as number)
      if (machine) add('visible_bias', inputs)
      shape = [config.units as number]
    }
  }
  return [layout(trained), layout(fixed)]
}
