/**
 * Sequential topologies as tfjs LayersModel JSON, and their layout. The layout is read off the topology, so the two
 * cannot disagree; every rule here is that of the tfjs layer of the same name.
 */
import { type Initializer, type Layout, layout } from './layout.ts'
import { elementsOf } from './shape.ts'

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

/** A template that an input of this shape does not fit; the message says what was expected. */
export class ShapeMismatch extends Error {
  override readonly name = 'ShapeMismatch'
}

/** A topology of these layers, for examples of `inputShape` (without the batch). */
export function sequential(name: string, layers: Layer[], inputShape: readonly number[]): Topology {
  const [first, ...rest] = layers
  const reads = { ...first, config: { ...first.config, batch_input_shape: [null, ...inputShape] } }
  return {
    class_name: 'Sequential',
    config: { name, layers: [reads, ...rest] },
    keras_version: 'tfjs-layers 4.22.0',
    backend: 'tensor_flow.js',
  }
}

/**
 * The layout of the parameters that are trained: tensors in tfjs' own order (layer by layer, kernel before bias).
 * Throws where a layer is not known or a shape does not fit.
 */
export function layoutOf(topology: Topology): Layout {
  return layouts(topology).trained
}

/** The layout of the parameters of the layers with `trainable: false`, in the same order; null where there are none. */
export function fixedLayoutOf(topology: Topology): Layout | null {
  const { fixed } = layouts(topology)
  return fixed.slots.length === 0 ? null : fixed
}

/** Numbers that all layers together make of one example. */
export function outputsOf(topology: Topology): number {
  let total = 0
  each(topology, (_layer, _tensors, output) => {
    total += elementsOf(output)
  })
  return total
}

interface Tensor {
  name: string
  shape: number[]
  init: Initializer
}

function layouts(topology: Topology): { trained: Layout; fixed: Layout } {
  const trained: Tensor[] = []
  const fixed: Tensor[] = []
  each(topology, (layer, tensors) => (layer.config.trainable === false ? fixed : trained).push(...tensors))
  return { trained: layout(trained), fixed: layout(fixed) }
}

/** The layers in order, with their parameters and the shape of what they make of an example. */
function each(topology: Topology, visit: (layer: Layer, tensors: Tensor[], output: number[]) => void): void {
  let shape = (topology.config.layers[0].config.batch_input_shape as (number | null)[]).slice(1) as number[]
  for (const layer of topology.config.layers) {
    const { tensors, output } = applied(layer, shape)
    if (!output.every((dimension) => dimension >= 1)) {
      throw new ShapeMismatch(`layer ${layer.config.name} leaves shape [${output}]: the input is too small for it`)
    }
    visit(layer, tensors, output)
    shape = output
  }
}

/** A layer's parameters, and what it makes of an example of shape `input`. */
function applied({ class_name, config }: Layer, input: number[]): { tensors: Tensor[]; output: number[] } {
  const { name } = config
  switch (class_name) {
    case 'Activation':
    case 'Dropout':
      return { tensors: [], output: input }
    case 'Flatten':
      return { tensors: [], output: [elementsOf(input)] }
    case 'Dense': {
      if (input.length !== 1) throw new ShapeMismatch(`layer ${name} expects a vector, got shape [${input}]`)
      const units = config.units as number
      const fans = { in: input[0], out: units }
      return {
        tensors: [
          { name: `${name}/kernel`, shape: [input[0], units], init: initializer(config.kernel_initializer, fans) },
          { name: `${name}/bias`, shape: [units], init: initializer(config.bias_initializer ?? ZEROS, fans) },
        ],
        output: [units],
      }
    }
    case 'Conv2D': {
      const [height, width, channels] = image(name, input)
      const kernel = config.kernel_size as number[]
      const filters = config.filters as number
      const connections = config.connections as Connections | undefined
      const links = connections?.reduce((total, maps) => total + maps.length, 0) ?? channels * filters
      const receptive = kernel[0] * kernel[1]
      // With a table of connections, those that a map has on average.
      const fans = { in: (receptive * links) / filters, out: (receptive * links) / channels }
      const init = initializer(config.kernel_initializer, fans)
      return {
        tensors: [
          {
            name: `${name}/kernel`,
            shape: [kernel[0], kernel[1], channels, filters],
            init: connections && init.kind === 'uniform' ? { ...init, connections } : init,
          },
          { name: `${name}/bias`, shape: [filters], init: initializer(config.bias_initializer ?? ZEROS, fans) },
        ],
        output:
          config.padding === 'same'
            ? [height, width, filters]
            : [height - kernel[0] + 1, width - kernel[1] + 1, filters],
      }
    }
    case 'DepthwiseConv2D': {
      const [height, width, channels] = image(name, input)
      const kernel = config.kernel_size as number[]
      const multiplier = (config.depth_multiplier as number | undefined) ?? 1
      const fans = { in: kernel[0] * kernel[1], out: kernel[0] * kernel[1] * multiplier }
      return {
        tensors: [
          {
            name: `${name}/depthwise_kernel`,
            shape: [kernel[0], kernel[1], channels, multiplier],
            init: initializer(config.depthwise_initializer, fans),
          },
          {
            name: `${name}/bias`,
            shape: [channels * multiplier],
            init: initializer(config.bias_initializer ?? ZEROS, fans),
          },
        ],
        output:
          config.padding === 'same'
            ? [height, width, channels * multiplier]
            : [height - kernel[0] + 1, width - kernel[1] + 1, channels * multiplier],
      }
    }
    case 'MaxPooling2D':
    case 'AveragePooling2D': {
      const [height, width, channels] = image(name, input)
      return { tensors: [], output: [Math.floor(height / 2), Math.floor(width / 2), channels] }
    }
    default:
      throw new Error(`invariant: no layout rule for layer ${class_name}`)
  }
}

type Connections = readonly (readonly number[])[]

function image(name: string, shape: number[]): number[] {
  if (shape.length === 3) return shape
  throw new ShapeMismatch(
    `layer ${name} expects images [height, width, channels], got shape [${shape}]: use template mlp or softmax`,
  )
}

const ZEROS = { class_name: 'Zeros', config: {} }

/**
 * What a tfjs initializer draws from, by its name in the layer's JSON; without one it is Glorot and Bengio's (2010).
 * Limits: GlorotUniform √(6/(fanIn+fanOut)), HeUniform √(6/fanIn) (He et al. 2015).
 */
function initializer(json: unknown, fans: { in: number; out: number }): Initializer {
  const { class_name, config } = (json ?? { class_name: 'GlorotUniform', config: {} }) as {
    class_name: string
    config: Record<string, number>
  }
  switch (class_name) {
    case 'Zeros':
      return { kind: 'zeros' }
    case 'GlorotUniform':
      return { kind: 'uniform', limit: Math.sqrt(6 / (fans.in + fans.out)) }
    case 'HeUniform':
      return { kind: 'uniform', limit: Math.sqrt(6 / fans.in) }
    case 'RandomUniform':
      if (config.minval !== -config.maxval) break
      return { kind: 'uniform', limit: config.maxval }
    case 'RandomNormal':
      if (config.mean !== 0) break
      return { kind: 'normal', sd: config.stddev }
  }
  throw new Error(`invariant: no rule for initializer ${class_name} ${JSON.stringify(config)}`)
}
