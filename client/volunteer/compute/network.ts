/**
 * A sequential network on tfjs, run layer by layer: tfjs-layers makes the layers and owns their weights, but a few
 * are computed here, because tfjs' own way draws random numbers (Dropout), or computes gradients that nobody wants
 * (its fused Dense and Conv2D always have the one of the input).
 *
 * Layers with `trainable: false` hold fixed parameters and get no gradient. A Conv2D layer whose config has
 * `connections` (for each output map the input maps it sees, as in LeNet-5's C3) gets none outside that table, so zeros
 * there stay zeros.
 */
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import type { Layout, Slot } from '../../../shared/layout.ts'
import type { Fixed } from '../../../shared/models.ts'
import type { Layer, Topology } from '../../../shared/topology.ts'
import type { Backend } from './backends/backend.ts'
import { dropoutMask } from './dropout.ts'
import { tensorOf } from './trainer.ts'

/** One layer of many: [count, …] to [count, …]; `keys` are the examples' draw keys, null where nothing is dropped. */
type Stage = (x: tf.Tensor, keys: Uint32Array | null) => tf.Tensor

class Network {
  /** What is trained, in layout order. */
  readonly weights: readonly tf.Variable[]
  /** One example's shape at the end. */
  readonly outputShape: readonly number[]
  private readonly model: tfl.Sequential
  private readonly stages: readonly Stage[]
  /** By index in `weights`: one where a gradient may be, else zero. */
  private readonly masks: ReadonlyMap<number, tf.Tensor>

  constructor(model: tfl.Sequential, weights: tf.Variable[], stages: Stage[], masks: Map<number, tf.Tensor>) {
    this.model = model
    this.weights = weights
    this.stages = stages
    this.masks = masks
    this.outputShape = (model.outputShape as number[]).slice(1)
  }

  /** What the last layer answers; with `keys`, Dropout layers drop. */
  apply(x: tf.Tensor, keys: Uint32Array | null): tf.Tensor {
    return tf.tidy(() => this.stages.reduce((y, stage) => stage(y, keys), x))
  }

  /** The gradient of a scalar that `loss` makes of the last layer's answer, by the trained weights. New tensors. */
  gradient(x: tf.Tensor, keys: Uint32Array, loss: (y: tf.Tensor) => tf.Scalar): tf.Tensor[] {
    return tf.tidy(() => {
      const { grads } = tf.variableGrads(() => loss(this.apply(x, keys)), [...this.weights])
      return this.weights.map((weight, i) => {
        const mask = this.masks.get(i)
        return mask ? tf.mul(grads[weight.name], mask) : grads[weight.name]
      })
    })
  }

  dispose(): void {
    tf.dispose([...this.masks.values()])
    this.model.dispose()
  }
}

/**
 * Makes the network of these layers, the first of which has a `batch_input_shape`, with its fixed weights set.
 * @throws Error where the layers' weights are not those of the layouts, or a layer draws random numbers by itself.
 */
export async function loadNetwork(
  backend: Backend,
  topology: Topology,
  ownLayers: readonly Layer[],
  layout: Layout,
  fixed: Fixed | null,
): Promise<Network> {
  const layers = structuredClone(ownLayers) as Layer[]
  const connections = new Map<string, number[][]>()
  // tfjs flattens nothing that is flat already.
  const inputShape = layers[0].config.batch_input_shape as unknown[] | undefined
  if (layers[0].class_name === 'Flatten' && inputShape?.length === 2 && layers.length > 1) {
    layers.shift()
    layers[0].config.batch_input_shape = inputShape
  }
  for (const { class_name, config } of layers) {
    if (/Dropout|Noise/.test(class_name) && (class_name !== 'Dropout' || config.noise_shape != null)) {
      throw new Error(
        `layer ${config.name} (${class_name}) draws random numbers of its own: a lease could not be recomputed`,
      )
    }
    if (config.connections) {
      if (class_name !== 'Conv2D') throw new Error(`layer ${config.name}: a ${class_name} has no table of connections`)
      connections.set(config.name, config.connections as number[][])
      delete config.connections
    }
    // Weights are set before they are used.
    for (const initializer of ['kernel_initializer', 'depthwise_initializer', 'bias_initializer']) {
      if (initializer in config) config[initializer] = { class_name: 'Zeros', config: {} }
    }
  }
  const modelTopology = { ...topology, config: { ...topology.config, layers } }
  const model = (await tfl.loadLayersModel({ load: async () => ({ modelTopology }) })) as tfl.Sequential
  const masks = new Map<number, tf.Tensor>()
  try {
    const weights: tf.Variable[] = []
    const [trained, untrained]: [Slot[], Slot[]] = [[], []]
    const fixedWeights: tf.Variable[] = []
    for (const layer of model.layers) {
      for (const weight of layer.weights) {
        const slot = { name: weight.originalName, shape: weight.shape as number[] } as unknown as Slot
        const variable = weight.read() as tf.Variable
        if (layer.trainable && weight.trainable) {
          const table = connections.get(layer.name)
          if (table && slot.name.endsWith('/kernel')) masks.set(weights.length, connectionMask(slot, table))
          trained.push(slot)
          weights.push(variable)
        } else {
          untrained.push(slot)
          fixedWeights.push(variable)
        }
      }
    }
    expectLayout('weights', trained, layout.slots)
    expectLayout('fixed weights', untrained, fixed?.layout.slots ?? [])
    fixed?.layout.slots.forEach(({ offset, size, shape }, i) => {
      const values = tensorOf(backend, fixed.values.subarray(offset, offset + size), shape)
      fixedWeights[i].assign(values)
      values.dispose()
    })
    return new Network(model, weights, stagesOf(backend, model), masks)
  } catch (error) {
    tf.dispose([...masks.values()])
    model.dispose()
    throw error
  }
}

function expectLayout(what: string, has: readonly Slot[], expects: readonly Slot[]): void {
  const listed = (slots: readonly Slot[]) =>
    slots.map(({ name, shape }) => `${name} [${shape}]`).join(', ') || 'nothing'
  if (listed(has) === listed(expects)) return
  throw new Error(`the topology's ${what} are not the layout's: expected ${listed(expects)}; got ${listed(has)}`)
}

/** [1, 1, input maps, output maps] of ones and zeros. */
function connectionMask({ name, shape }: Slot, table: readonly (readonly number[])[]): tf.Tensor {
  const [inputs, outputs] = shape.slice(-2)
  const values = new Float32Array(inputs * outputs)
  if (table.length !== outputs)
    throw new Error(`${name}: ${table.length} rows of connections for ${outputs} output maps`)
  table.forEach((seen, output) => {
    for (const input of seen) {
      if (!(Number.isInteger(input) && input >= 0 && input < inputs)) {
        throw new Error(`${name}: output map ${output} cannot see input map ${input} of ${inputs}`)
      }
      values[input * outputs + output] = 1
    }
  })
  return tf.tensor(values, [1, 1, inputs, outputs])
}

interface AffineLayer extends tfl.layers.Layer {
  kernel: tfl.LayerVariable
  depthwiseKernel: tfl.LayerVariable
  bias: tfl.LayerVariable | null
  activation: { apply(x: tf.Tensor): tf.Tensor } | null
  rate: number
  strides: [number, number]
  padding: 'same' | 'valid'
  dataFormat: string
  dilationRate: [number, number]
}

function stagesOf(backend: Backend, model: tfl.Sequential): Stage[] {
  let dropouts = 0
  return (model.layers as AffineLayer[]).map((layer): Stage => {
    const kind = layer.getClassName()
    const finish = (x: tf.Tensor): tf.Tensor => {
      const shifted = layer.bias ? tf.add(x, layer.bias.read()) : x
      return layer.activation ? layer.activation.apply(shifted) : shifted
    }
    const { strides, dilationRate } = layer
    const padding = layer.padding === 'same' ? 'same' : 'valid'
    const channelsLast = layer.dataFormat !== 'channelsFirst'
    if (kind === 'Dropout') {
      const ordinal = dropouts++
      return (x, keys) => {
        if (keys === null || layer.rate === 0) return x
        return tf.mul(x, dropoutMask(backend, keys, ordinal, layer.rate, x.shape))
      }
    }
    if (kind === 'Dense' && (layer.input as tfl.SymbolicTensor).shape.length === 2) {
      return (x) => finish(tf.matMul(x as tf.Tensor2D, layer.kernel.read() as tf.Tensor2D))
    }
    if (kind === 'Conv2D' && channelsLast) {
      return (x) => {
        const kernel = layer.kernel.read() as tf.Tensor4D
        return finish(tf.conv2d(x as tf.Tensor4D, kernel, strides, padding, 'NHWC', dilationRate))
      }
    }
    if (kind === 'DepthwiseConv2D' && channelsLast) {
      return (x) => {
        const kernel = layer.depthwiseKernel.read() as tf.Tensor4D
        return finish(tf.depthwiseConv2d(x as tf.Tensor4D, kernel, strides, padding, 'NHWC', dilationRate))
      }
    }
    return (x) => layer.apply(x, { training: true }) as tf.Tensor
  })
}
